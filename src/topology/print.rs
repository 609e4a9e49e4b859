//! A plan as `hippius plan` prints it: a table for people, JSON for programs.

use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

use super::plan::{Plan, PlannedProcess, Role, Settings, TurnEngine};

/// What `hippius plan` prints. `Display` is the table; serialized it is `hippius plan --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanTable {
    /// The network's name.
    pub topology: String,
    /// Where `/metrics` and `/stats` are served; port 0 is any free one.
    pub metrics: SocketAddr,
    /// The processes in start order.
    pub processes: Vec<PlanRow>,
}

/// One process of a [`PlanTable`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanRow {
    /// Its place in the start order, from 1.
    pub order: usize,
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Which processes must be ready before it starts.
    pub depends_on: Vec<String>,
    /// What it listens on; port 0 is any free one.
    pub listen: Vec<String>,
}

impl PlanTable {
    /// The table of `plan`.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let rows = plan.processes.iter().enumerate().map(|(index, process)| PlanRow {
            order: index + 1,
            name: process.name.clone(),
            role: process.role(),
            depends_on: process.depends_on.clone(),
            listen: listen(process),
        });
        Self { topology: plan.topology.clone(), metrics: plan.metrics, processes: rows.collect() }
    }
}

fn listen(process: &PlannedProcess) -> Vec<String> {
    match &process.settings {
        Settings::Bootnode(node) | Settings::Node(node) => {
            node.listen.iter().map(ToString::to_string).collect()
        }
        Settings::Signaling(_) | Settings::Web(_) => {
            process.listen_socket.iter().map(ToString::to_string).collect()
        }
        Settings::Turn(turn) if turn.engine == TurnEngine::External => Vec::new(),
        Settings::Turn(turn) => [("", Some(turn.listen)), (" (TLS)", turn.tls_listen)]
            .into_iter()
            .filter_map(|(what, socket)| Some(format!("{}{what}", socket?)))
            .collect(),
    }
}

impl fmt::Display for PlanTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles = ["#", "PROCESS", "ROLE", "AFTER", "LISTENS ON"].map(str::to_owned);
        let rows = self.processes.iter().map(|row| {
            let (order, after) = (row.order.to_string(), after(&row.depends_on));
            [order, row.name.clone(), row.role.to_string(), after, row.listen.join(", ")]
        });
        let rows: Vec<[String; 5]> = std::iter::once(titles).chain(rows).collect();
        // Names and addresses are ASCII.
        let [order, name, role, after, _] =
            std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or_default());
        writeln!(f, "topology {}, {} processes in start order", self.topology, self.processes.len())?;
        for row in &rows {
            let line = format!(
                " {:>order$}  {:name$}  {:role$}  {:after$}  {}",
                row[0], row[1], row[2], row[3], row[4]
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        write!(f, "metrics on {}; port 0 is any free one", self.metrics)
    }
}

/// The names that a process waits for, on one line.
fn after(names: &[String]) -> String {
    const MOST_LISTED: usize = 3;
    match names {
        [] => "-".to_owned(),
        names if names.len() <= MOST_LISTED => names.join(", "),
        names => format!("{} and {} more", names[..MOST_LISTED].join(", "), names.len() - MOST_LISTED),
    }
}
