//! How an incarnation of a process ended, in a form for people, for JSON and for the restart policy.

use std::fmt;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// The end of one incarnation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code, if it exited by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// Name of the signal that ended it, e.g. `SIGKILL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// The reason in words: the process's own last words, or the deadline it broke.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The process said that starting it again cannot help.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fatal: bool,
}

impl Exit {
    /// It exited with `code`.
    #[must_use]
    pub fn code(code: i32) -> Self {
        Self { code: Some(code), signal: None, message: None, fatal: false }
    }

    /// The signal of this number ended it.
    #[must_use]
    pub fn signal(number: i32) -> Self {
        // Real-time signals have no name.
        let name =
            Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |s| s.as_str().to_owned());
        Self { code: None, signal: Some(name), message: None, fatal: false }
    }

    /// It could not be started.
    #[must_use]
    pub fn not_started(why: String) -> Self {
        Self { code: None, signal: None, message: Some(why), fatal: false }
    }

    /// The same end for `reason`; what the process said last follows it.
    #[must_use]
    pub fn because(mut self, reason: String) -> Self {
        self.message = Some(match self.message {
            Some(last_words) => format!("{reason} (its last words: {last_words})"),
            None => reason,
        });
        self
    }

    /// Whether it ended with exit code 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, &self.signal) {
            (Some(code), _) => write!(f, "exited with code {code}")?,
            (None, Some(signal)) => write!(f, "was ended by {signal}")?,
            (None, None) => f.write_str("could not be started")?,
        }
        match &self.message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}
