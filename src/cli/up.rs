//! `hippius up`: starts a network.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::DataDir;
use super::foreground::{self, Audience, Options};
use super::{check, detach, output};

/// How long a network in the background may take to become ready unless told otherwise.
pub const DETACHED_TIMEOUT: Duration = Duration::from_secs(60);

/// Start a network and stay in the foreground; Ctrl-C stops it.
#[derive(Debug, Clone, clap::Args)]
pub struct UpArgs {
    /// The topology file.
    #[arg(value_name = "TOPOLOGY", default_value = "topology/local.toml")]
    pub topology: PathBuf,
    /// Return once everything is ready; the network goes on in the background until `hippius down`.
    #[arg(short, long)]
    pub detach: bool,
    /// Not everything ready by then: say why, stop everything, fail [default: none; with --detach 60s].
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    pub timeout: Option<Duration>,
    #[command(flatten)]
    /// Where state lives.
    pub data: DataDir,
    /// The program that plays the roles, called like this one: PROGRAM <role> --config FILE.
    #[arg(long, value_name = "PROGRAM", hide_short_help = true)]
    pub role_program: Option<PathBuf>,
    /// Serve the command that waits for this one in the foreground.
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub background: bool,
}

/// The longest time that `--timeout` takes: more is none, and the clock does not reach as far as durations do.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if timeout > LONGEST_TIMEOUT {
        return Err("more than 365 days; leave --timeout out to wait for as long as it takes".to_owned());
    }
    Ok(timeout)
}

/// Runs the command.
pub async fn run(args: UpArgs) -> ExitCode {
    let plan = match check::load(&args.topology) {
        Ok(plan) => plan,
        Err(code) => return code,
    };
    if args.detach {
        return detach::run(&args).await;
    }
    let program = match args.role_program.map_or_else(super::own_program, Ok) {
        Ok(program) => program,
        Err(error) => return output::fail(error),
    };
    let audience = if args.background {
        // A session of its own: neither Ctrl-C nor the closing of the terminal reaches it.
        let _ = nix::unistd::setsid();
        Audience::Background
    } else {
        Audience::Foreground
    };
    let options = Options { data_dir: args.data.data_dir, program, timeout: args.timeout, audience };
    foreground::run(plan, options).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_a_duration_of_up_to_a_year() {
        assert_eq!(timeout("365days"), Ok(LONGEST_TIMEOUT));
        for wrong in ["365days 1s", "500000000000y", "99999999999999999999y", "soon", "", "5"] {
            assert!(timeout(wrong).is_err(), "{wrong}");
        }
    }
}
