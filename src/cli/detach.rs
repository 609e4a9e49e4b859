//! `hippius up --detach`: starts the supervisor as a process of its own and waits until it reports readiness.

use std::io::{IsTerminal, Read};
use std::process::{Command, ExitCode, Stdio};

use indicatif::{ProgressBar, ProgressStyle};
use nix::unistd::Pid;

use super::up::{DETACHED_TIMEOUT, UpArgs};
use super::{output, table};
use crate::control::client::Client;
use crate::supervisor::notify::NotifySocket;
use crate::supervisor::state_dir::Paths;
use crate::supervisor::wire::Status;

/// Runs the command.
pub async fn run(args: &UpArgs) -> ExitCode {
    match start(args).await {
        Ok(code) => code,
        Err(error) => output::fail(format_args!("cannot start the supervisor in the background: {error}")),
    }
}

async fn start(args: &UpArgs) -> std::io::Result<ExitCode> {
    let notify = NotifySocket::open()?;
    let timeout = args.timeout.unwrap_or(DETACHED_TIMEOUT);
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("up")
        .arg("--background")
        .args(["--timeout", &humantime::format_duration(timeout).to_string()])
        .arg("--data-dir")
        .arg(&args.data.data_dir)
        .env("NOTIFY_SOCKET", notify.env_value())
        .env_remove("WATCHDOG_USEC")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if let Some(program) = &args.role_program {
        command.arg("--role-program").arg(program);
    }
    let mut supervisor = command.arg("--").arg(&args.topology).spawn()?;
    let pid = Pid::from_raw(supervisor.id().cast_signed());
    // Read to its end elsewhere, so that the supervisor never waits for us; it ends when the supervisor closes it.
    let stderr = supervisor.stderr.take();
    let complaints = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        if let Some(mut stderr) = stderr {
            let _ = stderr.read_to_string(&mut text);
        }
        text
    });
    let line = progress_line();
    let ready = async {
        loop {
            let notice = notify.next(pid).await?;
            if let Some(status) = notice.status {
                line.set_message(status);
            }
            if notice.ready {
                return std::io::Result::Ok(());
            }
        }
    };
    let ended = tokio::task::spawn_blocking(move || supervisor.wait());
    tokio::select! {
        ready = ready => {
            ready?;
            line.finish_and_clear();
            if let Ok(text) = complaints.await {
                print_complaints(&text);
            }
        }
        code = ended => {
            line.finish_and_clear();
            if let Ok(text) = complaints.await {
                print_complaints(&text);
            }
            if matches!(code, Ok(Ok(status)) if status.success()) {
                output::complain("error: the network was stopped before everything was ready");
            }
            return Ok(ExitCode::FAILURE);
        }
    }
    let paths = Paths::new(&args.data.data_dir);
    match Client::new(&paths.control_socket()).get::<Status>("/v1/status").await {
        Ok(status) => output::say(&table::summary(&status, table::Extent::Short)),
        Err(error) => {
            output::complain(&format!("warning: the network is up but does not answer: {error}"));
        }
    }
    output::say(&format!(
        "running in the background (pid {pid}); `hippius down` stops it, `hippius logs -f` follows it"
    ));
    Ok(ExitCode::SUCCESS)
}

fn print_complaints(text: &str) {
    if !text.is_empty() {
        output::complain(text.trim_end());
    }
}

fn progress_line() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let line = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {msg}") {
        line.set_style(style);
    }
    line.enable_steady_tick(std::time::Duration::from_millis(80));
    line
}
