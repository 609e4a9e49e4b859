//! Many random worlds, each from a seed of its own, so that a failure can be played again.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Names the seed of the one world to run instead of all.
const SEED_VARIABLE: &str = "HIPPIUS_SEED";

/// Runs `world` with `count` different seeds, or only with the one in the environment variable `HIPPIUS_SEED`.
///
/// # Panics
/// When a world does; the message names its seed.
#[track_caller]
pub fn worlds(count: u64, world: impl Fn(u64)) {
    let seeds = match std::env::var(SEED_VARIABLE) {
        Ok(seed) => {
            let seed: u64 = seed.parse().expect("HIPPIUS_SEED is a number");
            seed..seed + 1
        }
        Err(_) => {
            // Other worlds in every run, short enough numbers to type.
            let first = u64::from(rand::random::<u32>());
            first..first + count
        }
    };
    for seed in seeds {
        if let Err(cause) = catch_unwind(AssertUnwindSafe(|| world(seed))) {
            let message = cause
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            match message {
                Some(message) => panic!("{message}\nplay it again with {SEED_VARIABLE}={seed}"),
                None => resume_unwind(cause),
            }
        }
    }
}
