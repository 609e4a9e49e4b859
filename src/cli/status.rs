//! `hippius status`: what runs.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use super::table::Extent;
use super::window::Window;
use super::{DataDir, client, output, table};
use crate::control::client::{Client, ClientError};
use crate::supervisor::state_dir::Paths;
use crate::supervisor::wire::Status;

/// Time between two pictures of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Show what runs.
#[derive(Debug, Clone, clap::Args)]
pub struct StatusArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Go on, once a second, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
    /// Show every process of large groups, too.
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    data: DataDir,
}

/// Runs the command.
pub async fn run(args: StatusArgs) -> ExitCode {
    let client = Client::new(&Paths::new(&args.data.data_dir).control_socket());
    let mut pictures = 0;
    loop {
        let code = match client.get::<Status>("/v1/status").await {
            Ok(status) => match show(&status, &args, pictures) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => return output::unprinted(&error),
            },
            Err(error) => {
                let ended = matches!(error, ClientError::NotRunning(_));
                let code = client::fail(&error, &args.data.data_dir);
                if ended || !args.watch {
                    return code;
                }
                code
            }
        };
        if !args.watch {
            return code;
        }
        pictures += 1;
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

fn show(status: &Status, args: &StatusArgs, before: u64) -> io::Result<()> {
    if args.json {
        let json =
            if args.watch { serde_json::to_string(status) } else { serde_json::to_string_pretty(status) };
        return output::result(&json?);
    }
    let extent = if args.all { Extent::Full } else { Extent::Short };
    match Window::of_stdout().filter(|_| args.watch) {
        None => output::result(&table::status(status, extent, None)),
        Some(window) => {
            // The cursor ends up in the last line, below the picture.
            let text = table::status(status, extent, Some(window.rows.saturating_sub(1)));
            // Each line is wiped as it is drawn, so that nothing flickers; what stood there first is wiped as a whole.
            let begin = if before == 0 { "\x1b[H\x1b[2J" } else { "\x1b[H" };
            let mut out = io::stdout().lock();
            write!(out, "{begin}{}\x1b[K\n\x1b[J", text.replace('\n', "\x1b[K\n"))?;
            out.flush()
        }
    }
}
