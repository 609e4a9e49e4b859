//! The `hippius` program; everything it does is in the library.

use std::process::ExitCode;

/// One thread for everything: children must be forked by a thread that lives as long as the process, and a hundred
/// roles on one machine want few threads each.
fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(hippius::cli::run());
    // A thread that waits for the next line of a terminal must not keep the process.
    runtime.shutdown_background();
    code
}
