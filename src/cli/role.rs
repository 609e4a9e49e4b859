//! `hippius bootnode`, `node`, `signaling`, `web`, `turn`, `collector`: one role in the foreground, by itself.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{check, console, output};
use crate::p2p::{NodeConfig, NodeRole, Topic};
use crate::roles::config::{LogConfig, RoleConfig, load};
use crate::roles::turn::TurnRoleConfig;
use crate::roles::turn::config::BandwidthConfig;
use crate::roles::{collector, node, runtime, signaling, turn, web};
use crate::signaling::config::SignalingConfig;
use crate::telemetry::collector::CollectorConfig;
use crate::topology::plan::{Role, TurnEngine};
use crate::topology::turn_file::TurnFile;
use crate::turn::cidr::Cidr;
use crate::web::config::WebConfig;

/// What every role can be told.
#[derive(Debug, Clone, clap::Args)]
pub struct CommonArgs {
    /// Read the configuration from this file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The process's name in metrics and logs [default: the role's name].
    #[arg(long)]
    name: Option<String>,
    /// The folder that holds its state [default: data/NAME].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Run one libp2p node in the foreground.
#[derive(Debug, Clone, clap::Args)]
pub struct NodeArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Listen on this multiaddr, e.g. /ip4/127.0.0.1/tcp/4002; may be given several times.
    #[arg(long, value_name = "MULTIADDR", value_parser = address)]
    listen: Vec<Multiaddr>,
    /// Find the network through this bootnode, a multiaddr that ends in /p2p/PEER_ID; may be given several times.
    #[arg(long, value_name = "MULTIADDR", value_parser = bootnode)]
    bootnode: Vec<Multiaddr>,
    /// Join this topic; may be given several times.
    #[arg(long, value_name = "NAME", value_parser = str::parse::<Topic>)]
    topic: Vec<Topic>,
}

fn address(text: &str) -> Result<Multiaddr, String> {
    text.parse().map_err(|_| "not a multiaddr; they look like /ip4/127.0.0.1/tcp/4002".to_owned())
}

fn bootnode(text: &str) -> Result<Multiaddr, String> {
    let address = address(text)?;
    match address.iter().last() {
        Some(Protocol::P2p(_)) => Ok(address),
        _ => {
            Err("it does not end in /p2p/PEER_ID; a node prints its whole address when it starts".to_owned())
        }
    }
}

/// Run one server in the foreground.
#[derive(Debug, Clone, clap::Args)]
pub struct ServerArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Listen on this address; port 0 is any free one [default: 127.0.0.1 and port 8001 for signaling, 3000 for web, 9091
    /// for the collector].
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
}

/// Run a signaling server by itself.
#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct SignalingArgs {
    #[command(subcommand)]
    pub(super) command: Option<SignalingCommand>,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

/// What else there is to do for a signaling server.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum SignalingCommand {
    /// Print a token that permits to register.
    Token(super::token::TokenArgs),
}

/// Runs `hippius node` or `hippius bootnode`.
pub async fn run_node(args: NodeArgs, role: Role) -> ExitCode {
    let mut own = Map::new();
    for (key, values) in
        [("listen", json!(args.listen)), ("bootnodes", json!(args.bootnode)), ("topics", json!(args.topic))]
    {
        if values.as_array().is_some_and(|values| !values.is_empty()) {
            own.insert(key.to_owned(), values);
        }
    }
    let defaults = if role == Role::Bootnode { NodeConfig::of_bootnode() } else { NodeConfig::default() };
    let mut config: RoleConfig<NodeConfig> = match configure(role, defaults, args.common, own) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let kind = if role == Role::Bootnode { NodeRole::Bootnode } else { NodeRole::Node };
    let for_a_person = std::io::stdin().is_terminal()
        && std::io::stdout().is_terminal()
        && std::env::var_os("NOTIFY_SOCKET").is_none();
    if for_a_person && config.log == LogConfig::default() {
        // The prompt has the terminal; what goes well need not be told.
        config.log = LogConfig::beside_a_prompt();
    }
    runtime::run(role, config, async |context, settings| {
        let (socket, stop) = (context.process.admin_socket(), context.stop.clone());
        let mut started = node::start(context, settings, kind).await?;
        if for_a_person {
            output::say(&format!("peer id {}", started.facts.peer_id.as_deref().unwrap_or_default()));
            for address in &started.facts.addresses {
                output::say(&format!("listens on {address}"));
            }
            started.beside = Some(Box::pin(async move {
                if let Err(error) = console::attach(&socket, console::Input::standard()).await {
                    output::fail(error);
                }
                stop.cancel();
            }));
        }
        Ok(started)
    })
    .await
}

/// Runs `hippius signaling`.
pub async fn run_signaling(args: ServerArgs) -> ExitCode {
    match configure(Role::Signaling, SignalingConfig::default(), args.common, listen(args.listen)) {
        Ok(config) => runtime::run(Role::Signaling, config, signaling::start).await,
        Err(code) => code,
    }
}

/// Runs `hippius web`.
pub async fn run_web(args: ServerArgs) -> ExitCode {
    match configure(Role::Web, WebConfig::default(), args.common, listen(args.listen)) {
        Ok(config) => runtime::run(Role::Web, config, web::start).await,
        Err(code) => code,
    }
}

/// Runs `hippius collector`.
pub async fn run_collector(args: ServerArgs) -> ExitCode {
    match configure(Role::Collector, CollectorConfig::default(), args.common, listen(args.listen)) {
        Ok(config) => runtime::run(Role::Collector, config, collector::start).await,
        Err(code) => code,
    }
}

/// Run one STUN and TURN server in the foreground.
#[derive(Debug, Clone, clap::Args)]
pub struct TurnArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Listen on this address, UDP and TCP; port 0 is any free one; may be given several times [default: 127.0.0.1:3478].
    #[arg(long, value_name = "IP:PORT")]
    listen: Vec<SocketAddr>,
    /// Who relays: embedded, coturn or external [default: embedded].
    #[arg(long, value_parser = engine)]
    engine: Option<TurnEngine>,
    /// Relay to this network although it is refused by default, e.g. 127.0.0.0/8; may be given several times.
    #[arg(long, value_name = "NETWORK", value_parser = str::parse::<Cidr>)]
    allow: Vec<Cidr>,
    /// The file that names external servers and says how traffic is written down [default: config/turn_config.json, if there].
    #[arg(long, value_name = "FILE")]
    turn_config: Option<PathBuf>,
}

fn engine(word: &str) -> Result<TurnEngine, String> {
    serde_json::from_value(json!(word))
        .map_err(|_| "the engines are embedded, coturn and external".to_owned())
}

/// Runs `hippius turn`.
pub async fn run_turn(args: TurnArgs) -> ExitCode {
    let mut defaults = TurnRoleConfig::default();
    // A configuration file of the role says all of it already, unless the other is asked for.
    if args.common.config.is_none() || args.turn_config.is_some() {
        match TurnFile::load(args.turn_config.as_deref()) {
            Ok(file) => {
                defaults.bandwidth = BandwidthConfig::of(&file.monitoring);
                defaults.urls = file.turn.map(|turn| turn.urls).unwrap_or_default();
            }
            Err(mistakes) => {
                check::report(&mistakes);
                return ExitCode::FAILURE;
            }
        }
    }
    let mut own = Map::new();
    own.extend(args.engine.map(|engine| ("engine".to_owned(), json!(engine))));
    let mut server = Map::new();
    for (key, values) in [("listen", json!(args.listen)), ("allow", json!(args.allow))] {
        if values.as_array().is_some_and(|values| !values.is_empty()) {
            server.insert(key.to_owned(), values);
        }
    }
    if !server.is_empty() {
        own.insert("server".to_owned(), Value::Object(server));
    }
    match configure(Role::Turn, defaults, args.common, own) {
        Ok(config) => runtime::run(Role::Turn, config, turn::start).await,
        Err(code) => code,
    }
}

fn listen(address: Option<SocketAddr>) -> Map<String, Value> {
    address.into_iter().map(|address| ("listen".to_owned(), json!(address))).collect()
}

/// Puts the configuration together, flags last; prints what is wrong with it.
fn configure<S>(
    role: Role,
    defaults: S,
    common: CommonArgs,
    own: Map<String, Value>,
) -> Result<RoleConfig<S>, ExitCode>
where
    S: DeserializeOwned + Serialize,
{
    let mut process = Map::new();
    process.extend(common.name.map(|name| ("name".to_owned(), json!(name))));
    process.extend(common.data_dir.map(|dir| ("data_dir".to_owned(), json!(dir))));
    let mut flags = Map::new();
    for (table, values) in [("process", process), (role.as_str(), own)] {
        if !values.is_empty() {
            flags.insert(table.to_owned(), Value::Object(values));
        }
    }
    load(role, defaults, common.config.as_deref(), Value::Object(flags))
        .map_err(|error| runtime::refuse(&error))
}
