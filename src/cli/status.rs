//! `hippius status`: what runs.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

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
    #[command(flatten)]
    data: DataDir,
}

/// Runs the command.
pub async fn run(args: StatusArgs) -> ExitCode {
    let client = Client::new(&Paths::new(&args.data.data_dir).control_socket());
    loop {
        let code = match client.get::<Status>("/v1/status").await {
            Ok(status) => match show(&status, &args) {
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
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

fn show(status: &Status, args: &StatusArgs) -> io::Result<()> {
    let text = if args.json {
        if args.watch { serde_json::to_string(status)? } else { serde_json::to_string_pretty(status)? }
    } else {
        let ready = status.processes.iter().filter(|process| process.uptime_seconds.is_some()).count();
        format!(
            "{}\n\ntopology {}, supervisor {}, {ready} of {} processes run",
            table::summary(status, table::Extent::Full).trim_end(),
            status.topology,
            status.pid,
            status.processes.len()
        )
    };
    if args.watch && !args.json && io::stdout().is_terminal() {
        write!(io::stdout(), "\x1b[H\x1b[2J")?;
    }
    output::result(&text)
}
