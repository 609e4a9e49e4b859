//! Text of others on its way to a terminal.

/// Appends `text` in a form that does nothing but show: control characters, which could move the cursor or change the
/// terminal, line separators, and what turns the direction of writing become escapes. A tab becomes a space.
pub fn push(out: &mut String, text: &str) {
    for character in text.chars() {
        if character == '\t' {
            out.push(' ');
        } else if does_more_than_show(character) {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
}

fn does_more_than_show(character: char) -> bool {
    let turns = matches!(
        character,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    let breaks = matches!(character, '\u{2028}' | '\u{2029}');
    character.is_control() || turns || breaks
}

/// `text` in the form of [`push`].
#[must_use]
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push(&mut out, text);
    out
}

/// A line of JSON in such a form that is the same JSON: the escapes are JSON's own.
#[must_use]
pub fn printable_json(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for character in line.chars() {
        if character == '\t' {
            out.push(' ');
        } else if does_more_than_show(character) {
            // All of them have four digits.
            out.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn printable_json_is_the_same_json() {
        let text = "a\u{9b}2J\u{7f}\u{202e}b\u{1b}é🦀\n";
        let line = serde_json::to_string(&[text]).unwrap();
        assert!(line.contains('\u{9b}'), "JSON leaves it as it is");
        let shown = printable_json(&line);
        assert!(!shown.contains(char::is_control), "{shown:?}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&shown).unwrap(), [text]);
    }

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
