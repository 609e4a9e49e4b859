//! How a role logs: JSON lines for a supervisor, readable lines for a person.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use super::config::{LogConfig, LogFormat};

/// A filter of log lines.
///
/// # Errors
/// When `text` is no valid `tracing` filter, in words.
pub fn filter(text: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(text).map_err(|error| format!("[log] filter = \"{text}\" is no filter: {error}"))
}

/// Whether to print in colour: on a terminal, unless the user's `NO_COLOR` (no-color.org) says otherwise.
#[must_use]
pub fn colour(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Installs the process's log output on standard error.
///
/// # Errors
/// When the filter is no valid `tracing` filter.
pub fn init(config: &LogConfig) -> Result<(), String> {
    let filter = filter(&config.filter)?;
    let terminal = io::stderr().is_terminal();
    let format = config.format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(io::stderr);
    // A second installation in one process (tests) keeps the first.
    let _ = match format {
        LogFormat::Json => {
            builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
        }
        LogFormat::Text => builder.with_ansi(colour(terminal)).with_target(false).try_init(),
    };
    Ok(())
}
