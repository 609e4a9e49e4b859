//! The nodes of the network that a console's node stands in, by the names of their processes.

use std::time::Duration;

use libp2p::PeerId;
use serde_json::{Value, json};

use super::session::Session;
use super::{render, who};
use crate::control::client::Client;
use crate::supervisor::state_dir::Paths;
use crate::supervisor::wire::Status;

/// For the supervisor to answer: without it everything works, but for the names.
const PATIENCE: Duration = Duration::from_secs(1);

/// A node that a supervisor runs.
pub(super) struct Process {
    pub(super) name: String,
    pub(super) peer: PeerId,
    addresses: Vec<String>,
}

#[cfg(test)]
impl Process {
    pub(super) fn named(name: &str, peer: PeerId) -> Self {
        Self { name: name.to_owned(), peer, addresses: Vec::new() }
    }
}

impl Session {
    /// The nodes of the network; none where the node runs by itself.
    pub(super) async fn processes(&self) -> Vec<Process> {
        let Some(folder) = self.data_dir() else { return Vec::new() };
        let supervisor = Client::new(&Paths::new(folder).control_socket()).with_timeout(PATIENCE);
        let status: Result<Status, _> = supervisor.get("/v1/status").await;
        let of_node = |process: crate::supervisor::wire::ProcessStatus| {
            let peer = process.peer_id?.parse().ok()?;
            Some(Process { name: process.name, peer, addresses: process.addresses })
        };
        status.map(|status| status.processes.into_iter().filter_map(of_node).collect()).unwrap_or_default()
    }

    /// The names of the others, for completion.
    pub(super) async fn node_names(&self) -> Vec<String> {
        let names = self.processes().await.into_iter().map(|process| process.name);
        names.filter(|name| self.name() != Some(name.as_str())).collect()
    }

    /// Who is meant: a peer id, a process of the same network, or the end of the id of one of `candidates`.
    pub(super) async fn resolve(
        &self,
        typed: &str,
        candidates: impl IntoIterator<Item = PeerId>,
    ) -> Result<PeerId, String> {
        if let Ok(peer) = typed.parse() {
            return Ok(peer);
        }
        who::resolve(typed, &self.processes().await, candidates).map_err(|error| render::harmless(&error))
    }

    /// The same of connected peers, and of a process that is not: the supervisor knows its address, which the node may not have heard
    /// yet, so they are connected.
    pub(super) async fn reached(&self, typed: &str) -> Result<PeerId, String> {
        if let Ok(peer) = typed.parse() {
            return Ok(peer);
        }
        let processes = self.processes().await;
        let Some(process) = processes.iter().find(|process| process.name == typed) else {
            return self.connected_named(typed).await;
        };
        for address in &process.addresses {
            // Whoever cannot be reached is told of by the command itself.
            let dialled: Result<Value, _> =
                self.client().post("/v1/peers/connect", &json!({ "address": address })).await;
            if dialled.is_ok() {
                break;
            }
        }
        Ok(process.peer)
    }
}
