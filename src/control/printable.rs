//! Text of others on its way to a terminal.

/// Appends `text` in a form that does nothing but show: control characters, which could move the cursor or change the
/// terminal, line separators, and what turns the direction of writing become escapes. A tab becomes a space.
pub fn push(out: &mut String, text: &str) {
    for character in text.chars() {
        let turns = matches!(
            character,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        );
        let breaks = matches!(character, '\u{2028}' | '\u{2029}');
        if character == '\t' {
            out.push(' ');
        } else if character.is_control() || turns || breaks {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
}

/// `text` in the form of [`push`].
#[must_use]
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push(&mut out, text);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_cannot_touch_the_terminal() {
        assert_eq!(
            printable("a\u{1b}[2Jb\nc\u{202e}d\u{9b}31m\u{61c} é🦀\tx"),
            "a\\u{1b}[2Jb\\nc\\u{202e}d\\u{9b}31m\\u{61c} é🦀 x"
        );
    }

    proptest! {
        #[test]
        fn nothing_harmful_is_left(text in any::<String>()) {
            prop_assert!(!printable(&text).chars().any(char::is_control));
        }
    }
}
