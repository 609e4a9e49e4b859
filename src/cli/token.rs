//! `hippius signaling token`: a permission to register with a signaling server.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::output;
use crate::signaling::names::{Id, InvalidText};
use crate::signaling::secrets;
use crate::signaling::token::Claims;

/// Print a token that permits to register with a signaling server.
///
/// A page takes it from a link that ends in #token=TOKEN. It is a JSON Web Token (HS256), so whoever has the secret can
/// make such tokens with any library.
#[derive(Debug, Clone, clap::Args)]
pub struct TokenArgs {
    /// The server's file of secrets, its `token_secret_file`; the first one in it signs.
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,
    /// How long it is good.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    expires: Duration,
    /// The one id that may be registered with it [default: any].
    #[arg(long, value_name = "ID", value_parser = id)]
    peer_id: Option<Id>,
    /// The one room that may be entered with it [default: any].
    #[arg(long, value_name = "ROOM", value_parser = id)]
    room: Option<Id>,
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "not a time; they look like 30s, 1h or 7days".to_owned())
}

fn id(text: &str) -> Result<Id, InvalidText> {
    Id::parse(text)
}

/// Runs it.
pub fn run(args: TokenArgs) -> ExitCode {
    let secrets = match secrets::read(&args.secret_file) {
        Ok(secrets) => secrets,
        Err(error) => return output::fail(error),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let claims = Claims {
        exp: now.saturating_add(args.expires).as_secs(),
        nbf: None,
        sub: args.peer_id,
        room: args.room,
        aud: None,
    };
    // There is at least one.
    if let Some(secret) = secrets.first() {
        output::say(&secret.sign(&claims));
    }
    ExitCode::SUCCESS
}
