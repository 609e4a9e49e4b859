//! Commands for private messages and files.

use std::path::Path;

use libp2p::PeerId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::render;
use super::session::{Session, words};
use crate::control::client::Client;
use crate::p2p::TransferInfo;
use crate::supervisor::state_dir::Paths;
use crate::supervisor::wire::Status;

#[derive(Deserialize)]
struct Files {
    files: Vec<TransferInfo>,
}

impl Session {
    /// The peer id of the process called `name`, where a supervisor runs one. The supervisor knows its address, which the node may
    /// not have heard yet: so they are connected.
    async fn process(&self, name: &str) -> Option<PeerId> {
        let socket = Paths::new(self.data_dir()?).control_socket();
        let status: Status = Client::new(&socket).get("/v1/status").await.ok()?;
        let process = status.processes.into_iter().find(|process| process.name == name)?;
        let peer = process.peer_id?.parse().ok()?;
        for address in process.addresses {
            // Whoever cannot be reached is told of by the command itself.
            let dialled: Result<Value, _> =
                self.client().post("/v1/peers/connect", &json!({ "address": address })).await;
            if dialled.is_ok() {
                break;
            }
        }
        Some(peer)
    }

    /// Who is meant: a peer id, the end of that of a connected peer, or a process of the same network.
    async fn named(&self, typed: &str) -> Result<PeerId, String> {
        match self.connected_named(typed).await {
            Ok(peer) => Ok(peer),
            Err(error) => self.process(typed).await.ok_or(error),
        }
    }

    pub(super) async fn message(&self, typed: &str, text: &str) -> Result<String, String> {
        let peer = self.named(typed).await?;
        let body = json!({ "peer_id": peer.to_base58(), "text": text });
        let _: Value = self.client().post("/v1/messages", &body).await.map_err(words)?;
        Ok(format!("delivered to {peer}"))
    }

    /// Begins to send a file. A relative path is seen from here.
    pub(super) async fn send_file(&self, typed: &str, path: &Path) -> Result<TransferInfo, String> {
        let path = std::path::absolute(path).map_err(|error| error.to_string())?;
        let peer = self.named(typed).await?;
        let body = json!({ "peer_id": peer.to_base58(), "path": path });
        self.client().post("/v1/files", &body).await.map_err(words)
    }

    pub(super) async fn transfers(&self) -> Result<Vec<TransferInfo>, String> {
        self.client().get::<Files>("/v1/files").await.map(|files| files.files).map_err(words)
    }

    /// `accept`, `refuse` or `cancel`.
    pub(super) async fn decide(&self, id: u64, verb: &str) -> Result<String, String> {
        let target = format!("/v1/files/{id}/{verb}");
        let info: TransferInfo = self.client().post(&target, &json!({})).await.map_err(words)?;
        let done = match verb {
            "accept" => "accepted",
            "refuse" => "refused",
            _ => "cancelled",
        };
        Ok(format!("{done} {}", render::harmless(&info.name)))
    }
}
