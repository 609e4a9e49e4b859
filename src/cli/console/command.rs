//! The console's commands: from a line of text to what is meant. Pure.

use libp2p::Multiaddr;

use crate::control::nearest::nearest;
use crate::p2p::{Topic, TopicError};

/// Every command with its arguments and what it does, for `/help`, completion and the hint after a slip.
pub const COMMANDS: &[(&str, &str, &str)] = &[
    ("/create-topic", "NAME", "open a topic and join it"),
    ("/join-topic", "NAME", "join a topic"),
    ("/leave-topic", "NAME", "leave a topic"),
    ("/send", "NAME \"TEXT\"", "send a message to everybody on a topic"),
    ("/topics", "", "list the joined topics"),
    ("/peers", "", "list the connected peers"),
    ("/connect", "MULTIADDR", "connect to a peer, e.g. /ip4/127.0.0.1/tcp/4002"),
    ("/help", "", "show this list"),
    ("/quit", "", "leave; a node runs on unless `hippius node` is its console"),
];

/// Known from the documentation, but not in this version.
const NOT_YET: &[&str] = &["/msg", "/send-file"];

/// What a line means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Nothing: an empty line.
    Nothing,
    /// `/create-topic NAME`
    CreateTopic(Topic),
    /// `/join-topic NAME`
    JoinTopic(Topic),
    /// `/leave-topic NAME`
    LeaveTopic(Topic),
    /// `/send NAME "TEXT"`
    Send(Topic, String),
    /// Text that does not begin with `/`: goes to the topic used last.
    Say(String),
    /// `/topics`
    Topics,
    /// `/peers`
    Peers,
    /// `/connect MULTIADDR`
    Connect(Multiaddr),
    /// `/help`
    Help,
    /// `/quit`
    Quit,
}

/// Why a line means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No such command.
    #[error("unknown command {given}{}; /help lists all", hint(.nearest))]
    Unknown {
        /// As typed.
        given: String,
        /// The nearest known one.
        nearest: Option<&'static str>,
    },
    /// A command of a later version.
    #[error("{0} is not part of this version yet; /send reaches everybody on a topic")]
    NotYet(&'static str),
    /// Arguments missing or too many.
    #[error("usage: {0} {1}")]
    Usage(&'static str, &'static str),
    /// Not a topic's name.
    #[error("{0}")]
    Topic(#[from] TopicError),
    /// Not an address.
    #[error("{0} is not a multiaddr; e.g. /ip4/127.0.0.1/tcp/4002")]
    Address(String),
    /// A text that begins with a quote but does not end with one.
    #[error("the text begins with a quote but does not end with one; \\\" is a quote inside the text")]
    Quote,
    /// A backslash before something it has no meaning for.
    #[error("\\{0} means nothing; use \\n, \\t, \\\" or \\\\")]
    Escape(char),
    /// An empty text.
    #[error("there is no text to send")]
    NoText,
}

fn hint(nearest: &Option<&'static str>) -> String {
    nearest.map(|nearest| format!(" (did you mean {nearest}?)")).unwrap_or_default()
}

/// Reads a line as a command.
///
/// # Errors
/// See [`CommandError`].
pub fn parse(line: &str) -> Result<Command, CommandError> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(Command::Nothing);
    }
    if !line.starts_with('/') {
        return Ok(Command::Say(line.to_owned()));
    }
    let (word, rest) = split_word(line);
    if let Some(known) = NOT_YET.iter().find(|known| **known == word) {
        return Err(CommandError::NotYet(known));
    }
    let Some(&(name, usage, _)) = COMMANDS.iter().find(|(name, _, _)| *name == word) else {
        return Err(CommandError::Unknown {
            given: word.to_owned(),
            nearest: nearest(word, COMMANDS.iter().map(|(name, _, _)| *name)),
        });
    };
    let misused = || CommandError::Usage(name, usage);
    let single =
        || if rest.is_empty() || rest.contains(char::is_whitespace) { Err(misused()) } else { Ok(rest) };
    let bare = |command| if rest.is_empty() { Ok(command) } else { Err(misused()) };
    match name {
        "/create-topic" => Ok(Command::CreateTopic(unquoted(single()?).parse()?)),
        "/join-topic" => Ok(Command::JoinTopic(unquoted(single()?).parse()?)),
        "/leave-topic" => Ok(Command::LeaveTopic(unquoted(single()?).parse()?)),
        "/send" => {
            let (topic, text) = split_word(rest);
            if topic.is_empty() || text.is_empty() {
                return Err(misused());
            }
            let topic = unquoted(topic).parse()?;
            Ok(Command::Send(topic, message_text(text)?))
        }
        "/topics" => bare(Command::Topics),
        "/peers" => bare(Command::Peers),
        "/connect" => {
            let address = single()?;
            let address = address.parse().map_err(|_| CommandError::Address(address.to_owned()))?;
            Ok(Command::Connect(address))
        }
        "/help" => bare(Command::Help),
        _ => bare(Command::Quit),
    }
}

/// The first word, and what follows it without the white space around.
fn split_word(text: &str) -> (&str, &str) {
    match text.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim()),
        None => (text, ""),
    }
}

fn unquoted(word: &str) -> &str {
    word.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(word)
}

/// A text as typed, or, in quotes, with its escapes resolved.
fn message_text(typed: &str) -> Result<String, CommandError> {
    let Some(quoted) = typed.strip_prefix('"') else { return Ok(typed.to_owned()) };
    let mut text = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    loop {
        match characters.next() {
            None => return Err(CommandError::Quote),
            Some('"') if characters.as_str().is_empty() => break,
            // Something after the closing quote: the quotes are not around the whole text.
            Some('"') => return Err(CommandError::Quote),
            Some('\\') => text.push(match characters.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some(same @ ('"' | '\\')) => same,
                Some(other) => return Err(CommandError::Escape(other)),
                None => return Err(CommandError::Quote),
            }),
            Some(other) => text.push(other),
        }
    }
    if text.is_empty() { Err(CommandError::NoText) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lobby() -> Topic {
        "lobby".parse().unwrap()
    }

    #[test]
    fn every_command_is_understood() {
        assert_eq!(parse("/create-topic lobby"), Ok(Command::CreateTopic(lobby())));
        assert_eq!(parse("  /join-topic   lobby "), Ok(Command::JoinTopic(lobby())));
        assert_eq!(parse("/leave-topic \"lobby\""), Ok(Command::LeaveTopic(lobby())));
        assert_eq!(parse("/topics"), Ok(Command::Topics));
        assert_eq!(parse("/peers"), Ok(Command::Peers));
        assert_eq!(parse("/help"), Ok(Command::Help));
        assert_eq!(parse("/quit"), Ok(Command::Quit));
        assert_eq!(parse(" \t"), Ok(Command::Nothing));
        let address = "/ip4/127.0.0.1/tcp/4002";
        assert_eq!(parse(&format!("/connect {address}")), Ok(Command::Connect(address.parse().unwrap())));
    }

    #[test]
    fn a_text_may_be_quoted_or_not() {
        let send = |text: &str| Ok(Command::Send(lobby(), text.to_owned()));
        assert_eq!(parse("/send lobby hello there"), send("hello there"));
        assert_eq!(parse("/send lobby \"hello  there \""), send("hello  there "));
        assert_eq!(
            parse(r#"/send lobby "a \"quote\", a \\ and\na line""#),
            send("a \"quote\", a \\ and\na line")
        );
        assert_eq!(parse(r#"/send lobby say "hi" \n"#), send(r#"say "hi" \n"#));
        assert_eq!(parse("hello there"), Ok(Command::Say("hello there".into())));
    }

    #[test]
    fn a_slip_gets_a_hint() {
        let text = |line: &str| parse(line).unwrap_err().to_string();
        assert!(text("/snd lobby hi").contains("did you mean /send?"));
        assert!(!text("/frobnicate").contains("did you mean"));
        assert_eq!(text("/send lobby"), "usage: /send NAME \"TEXT\"");
        assert!(text("/join-topic a b").starts_with("usage: /join-topic"));
        assert!(text("/topics now").starts_with("usage: /topics"));
        assert!(text("/msg 12D3 \"hi\"").contains("not part of this version"));
        assert!(text("/send-file 12D3 a.txt").contains("not part of this version"));
        assert_eq!(parse("/send lobby \"hi"), Err(CommandError::Quote));
        assert_eq!(parse("/send lobby \"hi\" there"), Err(CommandError::Quote));
        assert_eq!(parse("/send lobby \"hi\\"), Err(CommandError::Quote));
        assert_eq!(parse("/send lobby \"\\x\""), Err(CommandError::Escape('x')));
        assert_eq!(parse("/send lobby \"\""), Err(CommandError::NoText));
        assert!(text("/connect localhost:4002").contains("multiaddr"));
    }

    proptest! {
        #[test]
        fn no_line_breaks_the_parser(line in "\\PC{0,80}") {
            let _ = parse(&line);
            let _ = parse(&format!("/send lobby \"{line}"));
        }

        #[test]
        fn any_text_can_be_sent_in_quotes(text in "[^\\r]{1,80}") {
            let quoted = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\t', "\\t");
            let line = format!("/send lobby \"{quoted}\"");
            prop_assert_eq!(parse(&line), Ok(Command::Send(lobby(), text)));
        }
    }
}
