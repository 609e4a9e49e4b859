//! The `hippius` program; everything it does is in the library.

use std::process::ExitCode;

/// One thread for everything: children must be forked by a thread that lives as long as the process, and a hundred roles on
/// one machine want few threads each.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    hippius::cli::run().await
}
