//! The TURN files that a topology names: each must be there and of use, and what is wrong is told where it stands.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::mistake::{Mistake, Mistakes};
use super::plan::TurnEngine;
use super::raw::RawTurn;
use super::reader::At;
use super::turn_file::{DEFAULT_PATH, TurnFile};

/// A TURN file that an entry of the topology stands on.
pub(super) struct Named {
    /// `None`: the usual one, if it is there.
    path: Option<PathBuf>,
    engine: TurnEngine,
    /// What names it: `config_file`, or the engine that cannot do without, or the entry.
    span: Range<usize>,
}

/// Those of the entries `turn`.
pub(super) fn named(turn: &[At<RawTurn>]) -> Vec<Named> {
    let of = |at: &At<RawTurn>| {
        let raw = &at.value;
        let engine = raw.engine.value().map_or(TurnEngine::Embedded, |engine| engine.0);
        let file = raw.config_file.given().map(|file| &file.span);
        let by_engine = raw.engine.given().filter(|_| engine == TurnEngine::External);
        let span = file.or(by_engine.map(|engine| &engine.span)).unwrap_or(&at.span).clone();
        Named { path: raw.config_file.value().map(|path| path.0.clone()), engine, span }
    };
    turn.iter().map(of).collect()
}

/// Reads them. What is wrong within a file is told with its place there; that one is missing or of no use, with the place in the topology
/// `text`, called `file`, that asks for it.
pub(super) fn mistakes(named: &[Named], file: &str, text: &str) -> Vec<Mistakes> {
    let (mut here, mut there): (Vec<Mistake>, Vec<Mistakes>) = Default::default();
    for Named { path, engine, span } in named {
        let path = path.as_deref();
        let read = match engine {
            TurnEngine::External => TurnFile::load_external(path),
            TurnEngine::Embedded | TurnEngine::Coturn => TurnFile::load(path),
        };
        let Err(mistakes) = read else { continue };
        if mistakes.iter().all(|mistake| mistake.position().is_none()) {
            let shown = path.unwrap_or(Path::new(DEFAULT_PATH)).display().to_string();
            let label = format!("needs {shown}");
            here.extend(mistakes.iter().map(|mistake| mistake.clone().at(span.clone(), &label)));
        } else if !there.contains(&mistakes) {
            there.push(mistakes);
        }
    }
    if !here.is_empty() {
        there.insert(0, Mistakes::new(file, text, here));
    }
    there
}
