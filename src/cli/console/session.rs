//! One user's conversation with a node: carries out commands and remembers the topic used last.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::command::{COMMANDS, Command};
use super::{ConsoleError, files, render};
use crate::control::client::{Client, ClientError};
use crate::p2p::waiting::PATIENCE;
use crate::p2p::{PeerInfo, Published, Topic, TopicInfo, TransferInfo};

#[derive(Deserialize)]
struct Topics {
    details: Vec<TopicInfo>,
}

#[derive(Deserialize)]
pub(super) struct Peers {
    pub(super) peers: Vec<PeerInfo>,
}

#[derive(Deserialize)]
struct Connected {
    peer_id: String,
}

/// What a command comes to.
pub(super) enum Reply {
    /// Lines to show.
    Lines(Vec<String>),
    /// A file is being sent.
    Sending(TransferInfo),
    /// The user wants to leave.
    Quit,
}

/// See the module's comment.
pub(super) struct Session {
    client: Client,
    last_topic: Option<Topic>,
    /// The network's data folder, where the node stands in one.
    data_dir: Option<PathBuf>,
    /// The node's process.
    name: Option<String>,
}

impl Session {
    /// Makes contact with the node. Where it has joined a single topic, plain text goes there.
    pub(super) async fn open(socket: &Path) -> Result<Self, ConsoleError> {
        // A dial may take its full 10 s before it fails.
        let client = Client::new(socket).with_timeout(std::time::Duration::from_secs(15));
        let topics: Topics = client.get("/v1/topics").await.map_err(ConsoleError::Connect)?;
        let last_topic = match topics.details.as_slice() {
            [only] => Some(only.topic.clone()),
            _ => None,
        };
        // The socket is `DATA/PROCESS/admin.sock`, unless somebody has put it elsewhere.
        let data_dir = socket.ancestors().nth(2).map(Path::to_owned);
        let process = socket.parent().and_then(Path::file_name);
        let name = process.map(|name| name.to_string_lossy().into_owned());
        Ok(Self { client, last_topic, data_dir, name })
    }

    pub(super) fn data_dir(&self) -> Option<&Path> {
        self.data_dir.as_deref()
    }

    /// What the node's process is called.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Where plain text goes.
    pub(super) fn last_topic(&self) -> Option<&Topic> {
        self.last_topic.as_ref()
    }

    /// The joined topics, for completion; none when the node does not answer.
    pub(super) async fn topics(&self) -> Vec<String> {
        let topics = self.topic_infos().await.unwrap_or_default();
        topics.into_iter().map(|info| info.topic.into()).collect()
    }

    /// The joined topics with their peers.
    pub(super) async fn topic_infos(&self) -> Result<Vec<TopicInfo>, String> {
        self.client.get::<Topics>("/v1/topics").await.map(|topics| topics.details).map_err(words)
    }

    /// Carries out a command; the error is for the user.
    pub(super) async fn execute(&mut self, command: Command) -> Result<Reply, String> {
        let line = match command {
            Command::Nothing => return Ok(Reply::Lines(Vec::new())),
            Command::Quit => return Ok(Reply::Quit),
            Command::Help => return Ok(Reply::Lines(help())),
            Command::CreateTopic(topic) => {
                self.on_topic("create", &topic).await?;
                self.last_topic = Some(topic.clone());
                format!("created and joined {topic}")
            }
            Command::JoinTopic(topic) => {
                self.on_topic("join", &topic).await?;
                self.last_topic = Some(topic.clone());
                format!("joined {topic}")
            }
            Command::LeaveTopic(topic) => {
                let left = self.on_topic("leave", &topic).await?;
                self.last_topic.take_if(|last| *last == topic);
                if left { format!("left {topic}") } else { format!("{topic} was not joined") }
            }
            Command::Send(topic, text) => self.send(topic, text).await?,
            Command::Say(text) => {
                let Some(topic) = self.last_topic.clone() else {
                    return Err("say where to: /send NAME \"TEXT\", or /join-topic NAME first".to_owned());
                };
                self.send(topic, text).await?
            }
            Command::History(topic, count) => {
                let past = self.history(&topic, count).await?;
                if past.is_empty() {
                    return Ok(Reply::Lines(vec![format!("nothing was said on {topic} yet")]));
                }
                return Ok(Reply::Lines(
                    past.iter().map(|message| render::earlier(message, false)).collect(),
                ));
            }
            Command::Topics => return Ok(Reply::Lines(render::topics(&self.topic_infos().await?))),
            Command::Disconnect(peer) => self.disconnect(&peer).await?,
            Command::Block(peer, time) => self.block(&peer, time).await?,
            Command::Unblock(peer) => self.unblock(&peer).await?,
            Command::Message(peer, text) => self.message(&peer, &text).await?,
            Command::SendFile(peer, path) => {
                return self.send_file(&peer, &path).await.map(Reply::Sending);
            }
            Command::Files => return Ok(Reply::Lines(files::list(&self.transfers().await?))),
            Command::Accept(id) => self.decide(id, "accept").await?,
            Command::Refuse(id) => self.decide(id, "refuse").await?,
            Command::Cancel(id) => self.decide(id, "cancel").await?,
            Command::Blocked => return Ok(Reply::Lines(self.blocked().await?)),
            Command::Peers => {
                return Ok(Reply::Lines(render::peers(&self.connected().await?, &self.processes().await)));
            }
            Command::Connect(address) => {
                let body = json!({ "address": address });
                let connected: Connected =
                    self.client.post("/v1/peers/connect", &body).await.map_err(words)?;
                format!("connected to {}", render::harmless(&connected.peer_id))
            }
        };
        Ok(Reply::Lines(vec![line]))
    }

    async fn on_topic(&self, verb: &str, topic: &Topic) -> Result<bool, String> {
        let target = format!("/v1/topics/{verb}");
        let reply: Value = self.client.post(&target, &json!({ "topic": topic })).await.map_err(words)?;
        Ok(reply["changed"].as_bool().unwrap_or(true))
    }

    async fn send(&mut self, topic: Topic, text: String) -> Result<String, String> {
        let body = json!({ "topic": topic, "text": text });
        let sent: Published = self.client.post("/v1/publish", &body).await.map_err(words)?;
        let line = match sent.peers {
            0 => format!(
                "no connected peer is on {topic} yet; the message waits {} s for one",
                PATIENCE.as_secs()
            ),
            count => format!("sent to {topic}: {}", render::peer_count(count)),
        };
        self.last_topic = Some(topic);
        Ok(line)
    }
}

pub(super) fn words(error: ClientError) -> String {
    render::harmless(&error.to_string())
}

fn help() -> Vec<String> {
    let mut lines: Vec<String> = COMMANDS
        .iter()
        .map(|(name, usage, help)| format!("{:<28} {help}", format!("{name} {usage}")))
        .collect();
    lines.push("text without a / goes to the topic used last".to_owned());
    lines
}
