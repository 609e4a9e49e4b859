//! Links between the pages lead somewhere, and the commands they show exist.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page for people, with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut paths = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    for entry in fs::read_dir(root().join("docs")).expect("docs/") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
    let read = |path: PathBuf| (path.clone(), fs::read_to_string(path).expect("a text"));
    paths.into_iter().map(read).collect()
}

/// Splits a page into lines of text and lines of code, each code line with its block's language.
fn lines(page: &str) -> Vec<(Option<&str>, &str)> {
    let mut block = None;
    let mut lines = Vec::new();
    for line in page.lines() {
        match (line.strip_prefix("```"), block) {
            (Some(_), Some(_)) => block = None,
            (Some(language), None) => block = Some(language),
            (None, block) => lines.push((block, line)),
        }
    }
    lines
}

/// A heading as the fragment of a link.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

fn anchors(page: &str) -> BTreeSet<String> {
    let text = lines(page).into_iter().filter(|(block, _)| block.is_none()).map(|(_, line)| line);
    text.filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#').trim()))
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut checked = 0;
    for (path, page) in pages() {
        for (_, line) in lines(&page).into_iter().filter(|(block, _)| block.is_none()) {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                if link.contains("://") {
                    continue;
                }
                checked += 1;
                let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
                let target =
                    if file.is_empty() { path.clone() } else { path.parent().expect("a folder").join(file) };
                assert!(target.exists(), "{}: nothing at {link}", path.display());
                if !fragment.is_empty() {
                    let there = anchors(&fs::read_to_string(&target).expect("a page"));
                    assert!(there.contains(fragment), "{}: no heading for {link}", path.display());
                }
            }
        }
    }
    assert!(checked > 20, "the pages were not understood");
}

#[test]
fn every_command_that_is_shown_exists() {
    let mut checked = 0;
    for (path, page) in pages() {
        for (_, line) in lines(&page).into_iter().filter(|(block, _)| *block == Some("sh")) {
            // Comments go, and of a pipeline only the part that is ours counts.
            let line = line.split(" #").next().expect("a text");
            let ours = |part: &&str| part.trim().starts_with("hippius ");
            for command in line.split('|').filter(ours).map(str::trim) {
                let words: Vec<&str> = command.split_whitespace().skip(1).collect();
                let help = |place: &[&str]| {
                    let mut asked = Command::new(support::binary());
                    let help = asked.args(place).arg("--help").output().expect("it runs");
                    assert!(help.status.success(), "{}: there is no `{command}`", path.display());
                    support::text(&help.stdout)
                };
                // The short form has no command, and a command may have some of its own.
                let mut text = help(if words[0].starts_with('-') { &[] } else { &words[..1] });
                let listed =
                    |word: &&str| text.lines().any(|line| line.trim().split(' ').next() == Some(*word));
                if text.contains("\nCommands:") && words.get(1).is_some_and(listed) {
                    text = help(&words[..2]);
                }
                for option in words.iter().filter(|word| word.starts_with('-')) {
                    assert!(text.contains(option), "{}: `{command}` has no {option}", path.display());
                }
                checked += 1;
            }
        }
    }
    assert!(checked > 15, "the pages were not understood");
}

/// The topology that the front page shows is a good one.
#[test]
fn the_topology_of_the_readme_is_good() {
    let readme = fs::read_to_string(root().join("README.md")).expect("a text");
    let topology =
        readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a topology");
    let network = support::Network::new(topology);
    let said = network.run_ok(&["check", "topology.toml"]);
    assert!(said.contains("13 processes"), "{said}");
}
