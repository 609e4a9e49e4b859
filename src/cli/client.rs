//! Commands to a running supervisor: `down`, `start`, `stop`, `restart`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use futures::StreamExt;

use super::{DataDir, output};
use crate::control::client::{Client, ClientError};
use crate::control::percent;
use crate::supervisor::lifecycle::State;
use crate::supervisor::state_dir::Paths;
use crate::supervisor::wire::{Acted, Status, Verb};

/// How long to wait for the outcome of a command, in seconds.
const WAIT_SECONDS: u64 = 60;

/// Commands that are under way at once: far fewer than the control socket's connections, which others want, too.
const AT_ONCE: usize = 16;

/// Stop a running network and wait until it is down.
#[derive(Debug, Clone, clap::Args)]
pub struct DownArgs {
    #[command(flatten)]
    data: DataDir,
}

/// Which processes to act on.
#[derive(Debug, Clone, clap::Args)]
pub struct ActArgs {
    /// Names of processes or groups.
    #[arg(required = true, value_name = "PROCESS")]
    processes: Vec<String>,
    #[command(flatten)]
    data: DataDir,
}

/// Runs `hippius down`.
pub async fn down(args: DownArgs) -> ExitCode {
    let paths = Paths::new(&args.data.data_dir);
    match Client::new(&paths.control_socket()).post::<_, serde_json::Value>("/v1/down", &()).await {
        Ok(_) => {}
        Err(ClientError::NotRunning(_)) => {
            output::say(&format!("nothing runs in {}", args.data.data_dir.display()));
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(&error, &args.data.data_dir),
    }
    // The supervisor holds its folder as long as it lives.
    let released = tokio::task::spawn_blocking(move || paths.wait_until_free());
    match released.await {
        Ok(Ok(())) => {
            output::say("everything has stopped");
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => output::fail(format_args!("cannot wait for the supervisor's end: {error}")),
        Err(_) => ExitCode::FAILURE,
    }
}

/// Runs `hippius start`, `stop` or `restart`.
pub async fn act(verb: Verb, args: ActArgs) -> ExitCode {
    let paths = Paths::new(&args.data.data_dir);
    let client = Client::new(&paths.control_socket()).with_timeout(Duration::from_secs(WAIT_SECONDS + 10));
    // First look, then act: a slip in one name must not leave half of the work done.
    match client.get::<Status>("/v1/status").await {
        Ok(status) => {
            let unknown: Vec<_> = args.processes.iter().filter_map(|name| status.named(name).err()).collect();
            if !unknown.is_empty() {
                unknown.iter().for_each(|error| output::complain(&format!("error: {error}")));
                return ExitCode::FAILURE;
            }
        }
        Err(error) => return fail(&error, &args.data.data_dir),
    }
    let requests = args.processes.iter().map(|name| {
        let target = format!("/v1/processes/{}/{}?wait={WAIT_SECONDS}", percent::encode(name), verb.as_str());
        let client = client.clone();
        async move { (name, client.post::<_, Acted>(&target, &()).await) }
    });
    let mut code = ExitCode::SUCCESS;
    let mut replies = futures::stream::iter(requests).buffered(AT_ONCE);
    while let Some((name, reply)) = replies.next().await {
        match reply {
            Ok(acted) => {
                for process in &acted.processes {
                    let reason = match (&process.reason, process.state) {
                        (Some(reason), state) if state != State::Ready => format!(": {reason}"),
                        _ => String::new(),
                    };
                    output::say(&format!("{} {}{reason}", process.name, process.state.as_str()));
                }
                if !acted.done {
                    code = ExitCode::FAILURE;
                }
            }
            Err(error @ ClientError::NotRunning(_)) => return fail(&error, &args.data.data_dir),
            // A refusal names what it is about.
            Err(error @ ClientError::Refused { .. }) => code = fail(&error, &args.data.data_dir),
            Err(error) => code = output::fail(format_args!("{name}: {error}")),
        }
    }
    code
}

/// Prints why a command could not be given.
pub fn fail(error: &ClientError, data_dir: &Path) -> ExitCode {
    match error {
        ClientError::NotRunning(_) => {
            let up = Paths::new(data_dir).command("up");
            output::fail(format_args!("no network runs in {}; start one with {up}", data_dir.display()))
        }
        other => output::fail(other),
    }
}
