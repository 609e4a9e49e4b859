//! From the name that a stranger gives a file to one that is safe in the folder of received files. Pure.

use std::borrow::Cow;

/// Longest name in bytes. File systems take 255; the rest is for the number of a second file of that name.
const MAX_NAME_BYTES: usize = 240;
/// Longest ending that a shortened name keeps, with its dot, in bytes.
const MAX_ENDING_BYTES: usize = 16;
/// The name of a file that has none.
const NAMELESS: &str = "file";
/// What Windows takes for devices whatever the ending; a received file may be copied there.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];

/// A name of one component, without control characters and invisible ones, not hidden, and no device of any system.
pub(super) fn safe(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut safe: String = last.chars().map(|c| if is_harmless(c) { c } else { '_' }).collect();
    // Windows drops dots and spaces at the end, which would make another name of it.
    safe.truncate(safe.trim_end_matches(['.', ' ']).len());
    let begin = safe.len() - safe.trim_start().len();
    safe.drain(..begin);
    if safe.starts_with('.') {
        safe.replace_range(..1, "_");
    }
    if safe.trim_matches(['_', ' ']).is_empty() {
        return NAMELESS.to_owned();
    }
    if is_device(&safe) {
        safe.insert(0, '_');
    }
    shortened(&safe, MAX_NAME_BYTES).into_owned()
}

/// `name` for the nth file of that name: `report.pdf`, `report (1).pdf`, …
pub(super) fn numbered(name: &str, number: u32) -> Cow<'_, str> {
    if number == 0 {
        return Cow::Borrowed(name);
    }
    let (stem, ending) = split(name);
    Cow::Owned(format!("{stem} ({number}){ending}"))
}

fn is_harmless(c: char) -> bool {
    let invisible = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    !c.is_control() && !invisible && !matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*')
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    let numbered = |prefix: &str| {
        let number = stem.strip_prefix(prefix).map(str::chars);
        number.is_some_and(|mut rest| matches!((rest.next(), rest.next()), (Some('0'..='9'), None)))
    };
    DEVICES.contains(&stem.as_str()) || numbered("com") || numbered("lpt")
}

/// The name before its ending, and the ending with its dot.
fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= MAX_ENDING_BYTES => name.split_at(dot),
        _ => (name, ""),
    }
}

fn shortened(name: &str, max: usize) -> Cow<'_, str> {
    if name.len() <= max {
        return Cow::Borrowed(name);
    }
    let (stem, ending) = split(name);
    let mut end = max - ending.len();
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}{ending}", &stem[..end]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_names_become_harmless_ones() {
        for (given, expected) in [
            ("notes.txt", "notes.txt"),
            ("Größe 日本.pdf", "Größe 日本.pdf"),
            ("../../etc/passwd", "passwd"),
            ("/etc/shadow", "shadow"),
            ("..\\..\\boot.ini", "boot.ini"),
            ("..", "file"),
            (".", "file"),
            ("", "file"),
            ("/", "file"),
            ("a/", "file"),
            ("...", "file"),
            (".bashrc", "_bashrc"),
            ("a\0b", "a_b"),
            ("new\nline", "new_line"),
            ("\u{1b}[2Jx", "_[2Jx"),
            ("photo\u{202e}gpj.exe", "photo_gpj.exe"),
            ("con", "_con"),
            ("NUL.txt", "_NUL.txt"),
            ("com1.log", "_com1.log"),
            ("common.log", "common.log"),
            ("C:evil", "C_evil"),
            ("ends. . .", "ends"),
            ("   ", "file"),
            ("a*?\"<>|b", "a______b"),
        ] {
            assert_eq!(safe(given), expected, "{given:?}");
        }
        let long = safe(&format!("{}.tar", "x".repeat(300)));
        assert_eq!(long.len(), MAX_NAME_BYTES);
        assert!(long.ends_with("x.tar"));
        assert_eq!(safe(&"é".repeat(300)).len(), MAX_NAME_BYTES);
    }

    #[test]
    fn a_second_file_gets_a_number_before_its_ending() {
        assert_eq!(numbered("a.txt", 0), "a.txt");
        assert_eq!(numbered("a.txt", 1), "a (1).txt");
        assert_eq!(numbered("a", 12), "a (12)");
        assert_eq!(numbered("_bashrc", 1), "_bashrc (1)");
    }

    proptest! {
        #[test]
        fn every_name_is_one_component_that_file_systems_take(name in any::<String>(), number in 0_u32..10_000) {
            let safe = safe(&name);
            let path = std::path::Path::new(&safe);
            prop_assert_eq!(path.components().count(), 1);
            prop_assert_eq!(path.file_name(), Some(path.as_os_str()));
            prop_assert!(!safe.starts_with('.') && !safe.contains(['/', '\0', '\\']));
            prop_assert!(numbered(&safe, number).len() <= 255);
            prop_assert_eq!(super::safe(&safe), safe.clone(), "safe names stay");
        }
    }
}
