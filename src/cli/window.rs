//! The terminal that a command prints to, if it does.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use crate::roles::logging;

/// What a terminal that does not tell its size is taken for.
const USUAL: (u16, u16) = (80, 24);

/// A window's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Characters in a line.
    pub columns: usize,
    /// Lines.
    pub rows: usize,
}

impl Window {
    /// The window that standard output is shown in; `None` where it goes into a file or to another program, which get
    /// everything in full.
    #[must_use]
    pub fn of_stdout() -> Option<Self> {
        Self::of(io::stdout())
    }

    /// The window that `stream` is shown in.
    #[must_use]
    pub fn of(stream: impl AsFd + IsTerminal) -> Option<Self> {
        if !stream.is_terminal() {
            return None;
        }
        let size = terminal_size::terminal_size_of(stream);
        let (columns, rows) = size.map_or(USUAL, |(columns, rows)| (columns.0, rows.0));
        Some(Self { columns: columns.into(), rows: rows.into() })
    }
}

/// Whether standard output is painted.
#[must_use]
pub fn in_colour() -> bool {
    logging::colour(io::stdout().is_terminal())
}
