//! The text of a file in a form that can be drawn: whatever it contains, it only shows.

use crate::control::printable;

/// A text and its drawable form, with where each byte of the one stands in the other.
#[derive(Debug)]
pub(super) struct Drawable {
    text: String,
    /// Behind each character that looks different: its end in the original, and in the drawable form.
    shifts: Vec<(usize, usize)>,
}

impl Drawable {
    /// Makes `original` drawable: line ends stay, tabs are left to who draws, other control characters become escapes.
    pub(super) fn new(original: &str) -> Self {
        let mut text = String::with_capacity(original.len());
        let mut shifts = Vec::new();
        let mut characters = original.char_indices().peekable();
        while let Some((begin, character)) = characters.next() {
            let before = text.len();
            match character {
                '\n' | '\t' => text.push(character),
                // Half a line end.
                '\r' if matches!(characters.peek(), Some((_, '\n'))) => {}
                _ => printable::push(&mut text, character.encode_utf8(&mut [0; 4])),
            }
            if text.len() - before != character.len_utf8() {
                shifts.push((begin + character.len_utf8(), text.len()));
            }
        }
        Self { text, shifts }
    }

    /// The drawable form.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Where a place between two characters of the original is in the drawable form.
    pub(super) fn place(&self, original: usize) -> usize {
        let before = self.shifts.partition_point(|(end, _)| *end <= original);
        match self.shifts[..before].last() {
            Some((from, to)) => to + (original - from),
            None => original,
        }
    }

    /// Where a place in the drawable form is in the original; inside an escape that is somewhere near.
    pub(super) fn original(&self, place: usize) -> usize {
        let before = self.shifts.partition_point(|(_, end)| *end <= place);
        match self.shifts[..before].last() {
            Some((from, to)) => from + (place - to),
            None => place,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn control_characters_become_escapes_and_places_move_along() {
        let original = "a\u{1b}[2J = 1\r\n\tx\u{202e}é = 2\n";
        let drawable = Drawable::new(original);
        assert_eq!(drawable.text(), "a\\u{1b}[2J = 1\n\tx\\u{202e}é = 2\n");
        for piece in ["a", "[2J", "= 1", "x", "é", "= 2"] {
            let (from, to) = (original.find(piece).unwrap(), drawable.text().find(piece).unwrap());
            assert_eq!(drawable.place(from), to, "{piece}");
            assert_eq!(drawable.original(to), from, "{piece}");
        }
    }

    proptest! {
        #[test]
        fn lines_stay_lines_and_places_stay_between_characters(text in any::<String>()) {
            let drawable = Drawable::new(&text);
            prop_assert!(!drawable.text().contains(|c: char| c.is_control() && c != '\n' && c != '\t'));
            prop_assert_eq!(drawable.text().matches('\n').count(), text.matches('\n').count());
            for (begin, _) in text.char_indices() {
                prop_assert!(drawable.text().is_char_boundary(drawable.place(begin)));
            }
            prop_assert_eq!(drawable.place(text.len()), drawable.text().len());
        }
    }
}
