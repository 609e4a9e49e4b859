//! What the tests in real browsers share: the folder of their scripts, and Node, which runs them. `BROWSER_TEST=pattern` runs only those whose
//! name matches, `SCREENSHOTS=folder` keeps pictures, and `VERBOSE=1` shows the pages' consoles.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder of the scripts.
///
/// # Panics
/// When what they need is not installed.
#[track_caller]
pub fn scripts() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    let there = folder.join("node_modules/playwright-core").exists();
    assert!(there, "the browser test needs its modules: run `npm ci` in tests/browser");
    folder
}

/// Node with tests in `files`, to be run one file after the other.
pub fn node(files: impl IntoIterator<Item = PathBuf>) -> Command {
    let mut node = Command::new("node");
    node.args(["--test", "--test-concurrency=1"])
        .args(std::env::var("BROWSER_TEST").map(|only| format!("--test-name-pattern={only}")))
        .args(files)
        .stdin(Stdio::null());
    node
}

/// Runs what [`node`] has made; every test in there has a time limit of its own.
#[track_caller]
pub fn passes(node: &mut Command) {
    let status = node.status().expect("node is installed");
    assert!(status.success(), "the browser test failed; see its report above");
}
