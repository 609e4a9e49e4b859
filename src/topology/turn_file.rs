//! `config/turn_config.json`: which STUN and TURN servers elsewhere are used, and how relayed traffic is written down.
//!
//! ```json
//! {
//!   "stun": { "urls": ["stun:turn.example.org:3478"] },
//!   "turn": { "urls": ["turn:turn.example.org:3478?transport=udp"], "secret": "…" },
//!   "monitoring": { "enabled": true, "interval_ms": 5000, "log_file": "logs/turn_bandwidth.log" }
//! }
//! ```
//!
//! In `turn`, either `username` and `credential`, which browsers are given as they are, or `secret`, which credentials of a limited
//! time are made with (coturn's `use-auth-secret`). Read like a topology: all mistakes at once, each with its place.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::json::{self, Node, Value};
use super::mistake::{Mistake, Mistakes};
use super::reader::{shown, suggestion};
use crate::turn::url::{Scheme, ServerUrl};

/// Where it is unless the topology says otherwise, from the folder that the network is started in.
pub const DEFAULT_PATH: &str = "config/turn_config.json";

/// Largest file in bytes.
const MAX_BYTES: u64 = 64 * 1024;
/// Most URLs in one list; a browser asks each of them for every connection.
const MAX_URLS: usize = 16;
/// Longest username, credential or secret in bytes (RFC 8489, section 14.3: fewer than 509).
const MAX_TEXT: usize = 508;
/// Milliseconds between two lines of one allocation in the bandwidth log.
const INTERVAL: std::ops::RangeInclusive<u64> = 100..=3_600_000;

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TurnFile {
    /// URLs of STUN servers.
    pub stun: Vec<String>,
    /// The TURN servers, if there are any.
    pub turn: Option<ExternalTurn>,
    /// How relayed traffic is written down.
    pub monitoring: Monitoring,
}

/// TURN servers elsewhere, and what they want to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalTurn {
    /// Their URLs; at least one.
    pub urls: Vec<String>,
    /// What a browser shows them.
    pub access: Access,
}

/// How a TURN server knows its users.
#[derive(Clone, PartialEq, Eq)]
pub enum Access {
    /// By a name and a password.
    Fixed {
        /// The name.
        username: String,
        /// The password.
        credential: String,
    },
    /// By credentials of a limited time, made with this secret.
    Secret(String),
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Fixed { .. } => "Fixed(…)",
            Access::Secret(_) => "Secret(…)",
        })
    }
}

/// How relayed traffic is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitoring {
    /// Whether it is.
    pub enabled: bool,
    /// Time between two lines of one allocation.
    pub interval: Duration,
    /// Where; below `logs/`, in the network's folder of logs.
    pub log_file: PathBuf,
}

impl Default for Monitoring {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(5),
            log_file: PathBuf::from("logs/turn_bandwidth.log"),
        }
    }
}

impl TurnFile {
    /// Reads the file at `given`, or the one at [`DEFAULT_PATH`] if it is there; without one, the defaults hold.
    ///
    /// # Errors
    /// Every mistake in the file, or why it could not be read.
    pub fn load(given: Option<&Path>) -> Result<Self, Mistakes> {
        let path = given.unwrap_or(Path::new(DEFAULT_PATH));
        let bytes = match read(path) {
            Ok(bytes) => bytes,
            Err(error) if given.is_none() && error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(Mistakes::of_file(path, unreadable(path, &error))),
        };
        let name = path.display().to_string();
        match String::from_utf8(bytes) {
            Ok(text) => Self::parse(&name, &text),
            Err(_) => Err(Mistakes::of_file(path, Mistake::of_file(format!("{name} is not UTF-8 text")))),
        }
    }

    /// The same for `engine = "external"`, which has no use for a file that names no TURN server.
    ///
    /// # Errors
    /// As [`TurnFile::load`].
    pub fn load_external(given: Option<&Path>) -> Result<Self, Mistakes> {
        let path = given.unwrap_or(Path::new(DEFAULT_PATH));
        let file = Self::load(Some(path))?;
        if file.turn.is_none() {
            let mistake = Mistake::of_file(format!("{} names no TURN server", path.display()))
                .help("give their URLs and how they know their users: \"turn\": { \"urls\": [\"turn:HOST:3478\"], \"secret\": \"…\" }");
            return Err(Mistakes::of_file(path, mistake));
        }
        Ok(file)
    }

    /// Reads `text`; `file` is the name that mistakes go by.
    ///
    /// # Errors
    /// Every mistake in the text.
    pub fn parse(file: &str, text: &str) -> Result<Self, Mistakes> {
        let root = match json::parse(text) {
            Ok(root) => root,
            Err(mistake) => return Err(Mistakes::new(file, text, vec![mistake])),
        };
        let mut check = Check { mistakes: Vec::new() };
        let read = check.root(&root);
        if check.mistakes.is_empty() { Ok(read) } else { Err(Mistakes::new(file, text, check.mistakes)) }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("it is larger than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

fn unreadable(path: &Path, error: &io::Error) -> Mistake {
    Mistake::of_file(format!("cannot read {}: {error}", path.display()))
        .help("docs/TURN_SERVER_SETUP.md says what this file is for and shows one")
}

/// Gathers mistakes on the way through the file.
struct Check {
    mistakes: Vec<Mistake>,
}

/// The members of one table that are known, in the order in which they were asked for.
type Members<'n, const N: usize> = [Option<&'n Node>; N];

impl Check {
    fn record(&mut self, span: &Range<usize>, message: String, label: &str, help: &str) {
        self.mistakes.push(Mistake::new(span.clone(), message, label).help(help));
    }

    /// The members of `node` called `known`; others, and those given twice, are mistakes.
    fn members<'n, const N: usize>(
        &mut self,
        path: &str,
        node: &'n Node,
        known: [&'static str; N],
    ) -> Members<'n, N> {
        let mut found = [None; N];
        let Value::Table(members) = &node.value else {
            self.wrong_type(path, node, "an object", "write it in braces: { … }");
            return found;
        };
        for (key, value) in members {
            match known.iter().position(|name| *name == key.name) {
                Some(place) if found[place].is_some() => {
                    let message = format!("`{}` is given twice", key.name);
                    self.record(&key.span, message, "again here", "keep one of them");
                }
                Some(place) => found[place] = Some(value),
                None => {
                    let help = suggestion(&key.name, known.into_iter(), "the keys here are");
                    let message = format!("unknown key `{}`", shown(&key.name));
                    self.record(&key.span, message, "unknown key", &help);
                }
            }
        }
        found
    }

    fn wrong_type(&mut self, path: &str, node: &Node, wanted: &str, help: &str) {
        let found = node.value.kind();
        let path = if path.is_empty() { "the file" } else { &format!("`{path}`") };
        self.record(&node.span, format!("{path} must be {wanted}, not {found}"), found, help);
    }

    fn root(&mut self, node: &Node) -> TurnFile {
        let [stun, turn, monitoring] = self.members("", node, ["stun", "turn", "monitoring"]);
        TurnFile {
            stun: stun.map(|node| self.stun(node)).unwrap_or_default(),
            turn: turn.and_then(|node| self.turn(node)),
            monitoring: monitoring.map(|node| self.monitoring(node)).unwrap_or_default(),
        }
    }

    fn stun(&mut self, node: &Node) -> Vec<String> {
        let [urls] = self.members("stun", node, ["urls"]);
        urls.map(|node| self.urls("stun.urls", node, &[Scheme::Stun, Scheme::Stuns])).unwrap_or_default()
    }

    fn turn(&mut self, node: &Node) -> Option<ExternalTurn> {
        let [urls, username, credential, secret] =
            self.members("turn", node, ["urls", "username", "credential", "secret"]);
        let before = self.mistakes.len();
        let urls =
            urls.map(|node| self.urls("turn.urls", node, &[Scheme::Turn, Scheme::Turns])).unwrap_or_default();
        let [name, password, key] =
            [("turn.username", username), ("turn.credential", credential), ("turn.secret", secret)]
                .map(|(path, node)| node.and_then(|node| self.text(path, node)));
        if self.mistakes.len() > before {
            return None;
        }
        let access = match (name, password, key) {
            (None, None, Some(secret)) => Some(Access::Secret(secret)),
            (Some(username), Some(credential), None) => Some(Access::Fixed { username, credential }),
            (None, None, None) => None,
            (_, _, Some(_)) => {
                let span = secret.map_or(&node.span, |node| &node.span);
                let message = "`turn` has a secret and a username or credential".to_owned();
                self.record(span, message, "one or the other", ACCESS_HELP);
                return None;
            }
            (name, _, None) => {
                let lacks = if name.is_some() { "credential" } else { "username" };
                self.record(&node.span, format!("`turn` lacks `{lacks}`"), "incomplete", ACCESS_HELP);
                return None;
            }
        };
        match access {
            _ if urls.is_empty() => None,
            Some(access) => Some(ExternalTurn { urls, access }),
            None => {
                let message = "`turn` does not say how its servers know their users".to_owned();
                self.record(&node.span, message, "incomplete", ACCESS_HELP);
                None
            }
        }
    }

    fn urls(&mut self, path: &str, node: &Node, schemes: &[Scheme]) -> Vec<String> {
        let Value::List(items) = &node.value else {
            self.wrong_type(path, node, "a list of URLs", "put it in square brackets");
            return Vec::new();
        };
        if items.len() > MAX_URLS {
            let message = format!("`{path}` has {} entries, must have at most {MAX_URLS}", items.len());
            self.record(&node.span, message, "too many", "a browser asks each of them for every connection");
        }
        let words: Vec<&str> = schemes.iter().map(|scheme| scheme.as_str()).collect();
        let mut good = Vec::new();
        for item in items {
            let Value::Text(text) = &item.value else {
                self.wrong_type(path, item, "a list of URLs", "write each in double quotes");
                continue;
            };
            match text.parse::<ServerUrl>() {
                Ok(url) if schemes.contains(&url.scheme) => good.push(text.clone()),
                Ok(_) => {
                    let message = format!("\"{}\" does not begin with {}:", shown(text), words.join(": or "));
                    self.record(&item.span, message, "another kind of server", URL_HELP);
                }
                Err(error) => {
                    let message = format!("\"{}\" is no URL of a server: {error}", shown(text));
                    self.record(&item.span, message, "not a URL", URL_HELP);
                }
            }
        }
        good
    }

    /// A text that is neither empty nor too long; what it is may be a secret, so it is not repeated.
    fn text(&mut self, path: &str, node: &Node) -> Option<String> {
        let Value::Text(text) = &node.value else {
            self.wrong_type(path, node, "a string", "write it in double quotes");
            return None;
        };
        if text.is_empty() {
            let help = "leave the key out, or write what the server was given";
            self.record(&node.span, format!("`{path}` is empty"), "empty", help);
            return None;
        }
        if text.len() > MAX_TEXT || text.contains(char::is_control) {
            let message = format!("`{path}` must have at most {MAX_TEXT} bytes and no control characters");
            self.record(&node.span, message, "not usable", "write what the server was given");
            return None;
        }
        Some(text.clone())
    }

    fn monitoring(&mut self, node: &Node) -> Monitoring {
        let [enabled, interval, log_file] =
            self.members("monitoring", node, ["enabled", "interval_ms", "log_file"]);
        let base = Monitoring::default();
        Monitoring {
            enabled: enabled.map_or(base.enabled, |node| match node.value {
                Value::Bool(enabled) => enabled,
                _ => {
                    self.wrong_type("monitoring.enabled", node, "true or false", "write it without quotes");
                    base.enabled
                }
            }),
            interval: interval.map_or(base.interval, |node| self.interval(node)),
            log_file: log_file
                .and_then(|node| self.text("monitoring.log_file", node))
                .map_or(base.log_file, PathBuf::from),
        }
    }

    fn interval(&mut self, node: &Node) -> Duration {
        let (low, high) = INTERVAL.into_inner();
        let help = format!("write a whole number of milliseconds from {low} to {high}");
        let Value::Number(written) = &node.value else {
            self.wrong_type("monitoring.interval_ms", node, "a whole number", &help);
            return Duration::ZERO;
        };
        match written.parse::<u64>() {
            Ok(millis) if INTERVAL.contains(&millis) => Duration::from_millis(millis),
            _ => {
                let message = format!("`monitoring.interval_ms` is {written}, must be from {low} to {high}");
                self.record(&node.span, message, "out of range", &help);
                Duration::ZERO
            }
        }
    }
}

const ACCESS_HELP: &str = "give \"username\" and \"credential\", or \"secret\" alone, which credentials of a limited time are made with";
const URL_HELP: &str = "write turn:HOST:PORT?transport=udp, turn:HOST:PORT?transport=tcp, turns:HOST:PORT or stun:HOST:PORT; port and transport may be left out";

#[cfg(test)]
#[path = "turn_file_tests.rs"]
mod tests;
