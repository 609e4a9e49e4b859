//! The console's commands: from a line of text to what is meant. Pure.

use std::path::PathBuf;
use std::time::Duration;

use libp2p::Multiaddr;

use crate::control::nearest::nearest;
use crate::p2p::history::MAX_MESSAGES;
use crate::p2p::{Topic, TopicError};

/// Every command with its arguments and what it does, for `/help`, completion and the hint after a slip.
pub const COMMANDS: &[(&str, &str, &str)] = &[
    ("/create-topic", "NAME", "open a topic and join it"),
    ("/join-topic", "NAME", "join a topic"),
    ("/leave-topic", "NAME", "leave a topic"),
    ("/send", "NAME \"TEXT\"", "send a message to everybody on a topic"),
    ("/history", "NAME [N]", "show the last messages of a topic"),
    ("/topics", "", "list the joined topics"),
    ("/peers", "", "list the connected peers"),
    ("/connect", "MULTIADDR", "connect to a peer, e.g. /ip4/127.0.0.1/tcp/4002"),
    ("/disconnect", "PEER", "close a peer's connections; it may come back"),
    ("/block", "PEER [TIME]", "disconnect a peer and keep it away, for a time such as 10m or until /unblock"),
    ("/unblock", "PEER", "let a peer in again"),
    ("/blocked", "", "list who is kept away"),
    ("/msg", "PEER \"TEXT\"", "send a message to one peer alone; says when it is delivered"),
    ("/send-file", "PEER PATH", "send a file; it goes on after a break"),
    ("/files", "", "list the files on their way"),
    ("/accept", "ID", "accept a file that is offered"),
    ("/refuse", "ID", "refuse it"),
    ("/cancel", "ID", "stop a file that is on its way"),
    ("/help", "", "show this list"),
    ("/quit", "", "leave; a node runs on unless `hippius node` is its console"),
];

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
    /// `/history NAME [N]`
    History(Topic, usize),
    /// `/topics`
    Topics,
    /// `/peers`
    Peers,
    /// `/connect MULTIADDR`
    Connect(Multiaddr),
    /// `/disconnect PEER`
    Disconnect(String),
    /// `/block PEER [TIME]`; `None`: until it is unblocked.
    Block(String, Option<Duration>),
    /// `/unblock PEER`
    Unblock(String),
    /// `/blocked`
    Blocked,
    /// `/msg PEER "TEXT"`
    Message(String, String),
    /// `/send-file PEER PATH`
    SendFile(String, PathBuf),
    /// `/files`
    Files,
    /// `/accept ID`
    Accept(u64),
    /// `/refuse ID`
    Refuse(u64),
    /// `/cancel ID`
    Cancel(u64),
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
    /// Not a file's number.
    #[error("{0} is not a file's number; /files lists them")]
    File(String),
    /// Arguments missing or too many.
    #[error("usage: {0} {1}")]
    Usage(&'static str, &'static str),
    /// Not a topic's name.
    #[error("{0}")]
    Topic(#[from] TopicError),
    /// Not an address.
    #[error("{0} is not a multiaddr; e.g. /ip4/127.0.0.1/tcp/4002")]
    Address(String),
    /// Not a time to block somebody for.
    #[error("{0} is not a time; e.g. 30s, 10m, 2h, 7d")]
    Time(String),
    /// Not a number of messages.
    #[error("{0} is not a number of messages; at most {MAX_MESSAGES} are kept")]
    Count(String),
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
        "/history" => {
            let (topic, count) = split_word(rest);
            if topic.is_empty() || count.contains(char::is_whitespace) {
                return Err(misused());
            }
            let valid = |count: &usize| (1..=MAX_MESSAGES).contains(count);
            let count = match count {
                "" => HISTORY,
                count => count.parse().ok().filter(valid).ok_or(CommandError::Count(count.to_owned()))?,
            };
            Ok(Command::History(unquoted(topic).parse()?, count))
        }
        "/topics" => bare(Command::Topics),
        "/peers" => bare(Command::Peers),
        "/connect" => {
            let address = single()?;
            let address = address.parse().map_err(|_| CommandError::Address(address.to_owned()))?;
            Ok(Command::Connect(address))
        }
        "/disconnect" => Ok(Command::Disconnect(single()?.to_owned())),
        "/block" => {
            let (peer, time) = split_word(rest);
            if peer.is_empty() {
                return Err(misused());
            }
            Ok(Command::Block(peer.to_owned(), block_time(time)?))
        }
        "/unblock" => Ok(Command::Unblock(single()?.to_owned())),
        "/blocked" => bare(Command::Blocked),
        "/msg" | "/send-file" => {
            let (peer, text) = split_word(rest);
            if peer.is_empty() || text.is_empty() {
                return Err(misused());
            }
            let (peer, text) = (unquoted(peer).to_owned(), message_text(text)?);
            Ok(match name {
                "/msg" => Command::Message(peer, text),
                _ => Command::SendFile(peer, text.into()),
            })
        }
        "/files" => bare(Command::Files),
        "/accept" => Ok(Command::Accept(file_id(single()?)?)),
        "/refuse" => Ok(Command::Refuse(file_id(single()?)?)),
        "/cancel" => Ok(Command::Cancel(file_id(single()?)?)),
        "/help" => bare(Command::Help),
        _ => bare(Command::Quit),
    }
}

/// Messages that `/history` shows without a number.
const HISTORY: usize = 20;

/// A time of whole seconds; `None` where none is given.
fn block_time(typed: &str) -> Result<Option<Duration>, CommandError> {
    if typed.is_empty() {
        return Ok(None);
    }
    let time = humantime::parse_duration(typed).ok().filter(|time| *time >= Duration::from_secs(1));
    time.map(Some).ok_or_else(|| CommandError::Time(typed.to_owned()))
}

fn file_id(typed: &str) -> Result<u64, CommandError> {
    typed.parse().map_err(|_| CommandError::File(typed.to_owned()))
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
    fn history_and_blocks_take_a_number_and_a_time() {
        assert_eq!(parse("/history lobby"), Ok(Command::History(lobby(), HISTORY)));
        assert_eq!(parse("/history \"lobby\" 3"), Ok(Command::History(lobby(), 3)));
        for wrong in ["0", "101", "x", "-1"] {
            assert_eq!(parse(&format!("/history lobby {wrong}")), Err(CommandError::Count(wrong.into())));
        }
        assert!(parse("/history lobby 1 2").unwrap_err().to_string().starts_with("usage: /history NAME [N]"));
        let minutes = Some(Duration::from_secs(600));
        assert_eq!(parse("/block abc 10m"), Ok(Command::Block("abc".into(), minutes)));
        assert_eq!(parse("/block abc"), Ok(Command::Block("abc".into(), None)));
        assert_eq!(parse("/unblock abc"), Ok(Command::Unblock("abc".into())));
        assert_eq!(parse("/disconnect abc"), Ok(Command::Disconnect("abc".into())));
        assert_eq!(parse("/blocked"), Ok(Command::Blocked));
        for wrong in ["0s", "10", "soon", "5ms"] {
            assert_eq!(parse(&format!("/block abc {wrong}")), Err(CommandError::Time(wrong.into())));
        }
        assert!(parse("/block").is_err() && parse("/unblock a b").is_err());
    }

    #[test]
    fn messages_and_files_go_to_a_peer() {
        let message = |text: &str| Ok(Command::Message("12D3".to_owned(), text.to_owned()));
        assert_eq!(parse("/msg 12D3 hello there"), message("hello there"));
        assert_eq!(parse("/msg 12D3 \"hello\\nthere\""), message("hello\nthere"));
        let file = |path: &str| Ok(Command::SendFile("12D3".to_owned(), path.into()));
        assert_eq!(parse("/send-file 12D3 my notes.txt"), file("my notes.txt"));
        assert_eq!(parse("/send-file 12D3 \" /tmp/a\""), file(" /tmp/a"));
        assert_eq!(parse("/accept 12"), Ok(Command::Accept(12)));
        assert_eq!(parse("/refuse 12"), Ok(Command::Refuse(12)));
        assert_eq!(parse("/cancel 12"), Ok(Command::Cancel(12)));
        assert_eq!(parse("/files"), Ok(Command::Files));
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
        assert_eq!(text("/msg 12D3"), "usage: /msg PEER \"TEXT\"");
        assert_eq!(text("/send-file 12D3"), "usage: /send-file PEER PATH");
        assert!(text("/accept first").contains("not a file's number"));
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
