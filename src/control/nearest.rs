//! What somebody who mistyped a name may have meant.

use std::cmp::Reverse;

/// Above this nothing is near, and the comparison would take time and memory in proportion.
const LONGEST_COMPARED: usize = 100;

/// The word of `known` that is nearest to `wrong`, if one is near enough to have been meant: a third of its letters may
/// be wrong, missing, too many or swapped, and one in any case.
#[must_use]
pub fn nearest<'k>(wrong: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if wrong.len() > LONGEST_COMPARED {
        return None;
    }
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(wrong, word), word))
        .filter(|(distance, word)| *distance <= (word.chars().count() / 3).max(1))
        // Of equally near ones the longest: letters are left out more often than made up.
        .min_by_key(|(distance, word)| (*distance, Reverse(word.len()), *word))
        .map(|(_, word)| word)
}

/// The same as a half sentence to put behind a complaint: `; did you mean node-0?`, or nothing.
#[must_use]
pub fn hint<'k>(wrong: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    nearest(wrong, known).map(|word| format!("; did you mean {word}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        let known = ["bootnode", "node", "node-0", "node-1", "web"];
        for (wrong, meant) in [
            ("ndoe", Some("node")),
            ("node0", Some("node-0")),
            ("bootnod", Some("bootnode")),
            ("wb", Some("web")),
        ] {
            assert_eq!(nearest(wrong, known), meant, "{wrong}");
        }
        for wrong in ["", "signaling", "frontend", &"node".repeat(1000)] {
            assert_eq!(nearest(wrong, known), None, "{wrong}");
        }
        assert_eq!(hint("ndoe", known), "; did you mean node?");
        assert_eq!(hint("frontend", known), "");
    }
}
