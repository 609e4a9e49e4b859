//! Commands for private messages and files.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::render;
use super::session::{Session, words};
use crate::p2p::TransferInfo;

#[derive(Deserialize)]
struct Files {
    files: Vec<TransferInfo>,
}

impl Session {
    pub(super) async fn message(&self, typed: &str, text: &str) -> Result<String, String> {
        let peer = self.reached(typed).await?;
        let body = json!({ "peer_id": peer.to_base58(), "text": text });
        let _: Value = self.client().post("/v1/messages", &body).await.map_err(words)?;
        Ok(format!("delivered to {peer}"))
    }

    /// Begins to send a file. A relative path is seen from here.
    pub(super) async fn send_file(&self, typed: &str, path: &Path) -> Result<TransferInfo, String> {
        let path = std::path::absolute(path).map_err(|error| error.to_string())?;
        let peer = self.reached(typed).await?;
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
