//! The short form, `hippius --mode all|signaling|bootnode|node`: a topology in memory, run like `up` runs a file's.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;

use super::check;
use super::foreground::{self, Audience, Options};
use crate::supervisor::sockets;
use crate::supervisor::state_dir::{DEFAULT_DATA_DIR, Paths};
use crate::topology::{ShortForm, ShortNode, Topology};

const WEB_PORT: u16 = 3000;
const SIGNALING_PORT: u16 = 8001;
const BOOTNODE_PORT: u16 = 4002;
const METRICS_PORT: u16 = 9091;
/// How many ports after a taken default one are tried.
const PORTS_TRIED: u16 = 100;
/// How many networks may share a folder.
const FOLDERS_TRIED: u32 = 100;

/// What the short form starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Web server, signaling server and bootnode.
    All,
    /// Signaling server and web server.
    Signaling,
    /// A bootnode.
    Bootnode,
    /// A node, web server and signaling server.
    Node,
}

impl Mode {
    fn as_str(self) -> &'static str {
        match self {
            Mode::All => "all",
            Mode::Signaling => "signaling",
            Mode::Bootnode => "bootnode",
            Mode::Node => "node",
        }
    }
}

/// The short form: a small network without a file.
#[derive(Debug, Clone, clap::Args)]
pub struct ModeArgs {
    /// Start a small network without a file.
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// The web server's port [default: 3000, or the next free one].
    #[arg(long, value_name = "PORT", requires = "mode", value_parser = clap::value_parser!(u16).range(1..))]
    web_port: Option<u16>,
    /// The signaling server's port [default: 8001, or the next free one].
    #[arg(long, value_name = "PORT", requires = "mode", value_parser = clap::value_parser!(u16).range(1..))]
    signaling_port: Option<u16>,
    /// The bootnode's port [default: 4002, or the next free one].
    #[arg(long, value_name = "PORT", requires = "mode", value_parser = clap::value_parser!(u16).range(1..))]
    bootnode_port: Option<u16>,
    /// A bootnode elsewhere, a multiaddr that ends in /p2p/PEER_ID.
    #[arg(long, value_name = "MULTIADDR", requires = "mode")]
    bootnode_address: Option<String>,
    /// The folder that holds the network's state [default: data, or data-2 … while another network uses that].
    #[arg(long, value_name = "DIR", requires = "mode")]
    data_dir: Option<PathBuf>,
}

/// Runs the short form.
pub async fn run(mode: Mode, args: ModeArgs) -> ExitCode {
    match plan(mode, &args) {
        Ok((topology, data_dir)) => {
            let program = match std::env::current_exe() {
                Ok(program) => program,
                Err(error) => {
                    eprintln!("error: cannot find out this program's own path: {error}");
                    return ExitCode::FAILURE;
                }
            };
            let options = Options { data_dir, program, timeout: None, audience: Audience::Foreground };
            foreground::run(topology.plan(), options).await
        }
        Err(code) => code,
    }
}

fn plan(mode: Mode, args: &ModeArgs) -> Result<(Topology, PathBuf), ExitCode> {
    let data_dir = match &args.data_dir {
        Some(dir) => dir.clone(),
        None => free_folder(),
    };
    let mut ports = Ports::default();
    let web = matches!(mode, Mode::All | Mode::Signaling | Mode::Node);
    let form = ShortForm {
        name: mode.as_str().to_owned(),
        web: ports.choose_if(web, "web", args.web_port, WEB_PORT)?,
        signaling: ports.choose_if(web, "signaling", args.signaling_port, SIGNALING_PORT)?,
        bootnode: ports.choose_if(
            matches!(mode, Mode::All | Mode::Bootnode),
            "bootnode",
            args.bootnode_port,
            BOOTNODE_PORT,
        )?,
        node: (mode == Mode::Node)
            .then(|| ShortNode { name: "node".to_owned(), bootnode: args.bootnode_address.clone() }),
        metrics: ports.choose("metrics", None, METRICS_PORT)?,
    };
    if args.bootnode_address.is_some() && mode != Mode::Node {
        eprintln!(
            "error: --bootnode-address is for --mode node; there is no node in --mode {}",
            mode.as_str()
        );
        return Err(ExitCode::from(2));
    }
    let topology = Topology::from_short_form(&form).map_err(|mistakes| {
        check::report(&mistakes);
        ExitCode::FAILURE
    })?;
    Ok((topology, data_dir))
}

/// Ports of one network: none twice.
#[derive(Default)]
struct Ports(Vec<u16>);

impl Ports {
    fn choose_if(
        &mut self,
        wanted: bool,
        what: &str,
        named: Option<u16>,
        default: u16,
    ) -> Result<Option<u16>, ExitCode> {
        match (wanted, named) {
            (true, named) => self.choose(what, named, default).map(Some),
            (false, None) => Ok(None),
            (false, Some(_)) => {
                eprintln!("error: --{what}-port does not go with this --mode: it starts no {what}");
                Err(ExitCode::from(2))
            }
        }
    }

    /// The port that the user named, which must be free, or the default one or the next free one after it.
    fn choose(&mut self, what: &str, named: Option<u16>, default: u16) -> Result<u16, ExitCode> {
        let free = |port: u16| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok();
        if let Some(port) = named {
            if self.0.contains(&port) {
                eprintln!("error: port {port} is named twice; give {what} another one with --{what}-port");
                return Err(ExitCode::from(2));
            }
            if let Err(error) = sockets::probe(what, SocketAddr::from((Ipv4Addr::LOCALHOST, port))) {
                eprintln!("error: --{what}-port {port}: {}", error.reason);
                return Err(ExitCode::FAILURE);
            }
            self.0.push(port);
            return Ok(port);
        }
        let candidates = default..=default.saturating_add(PORTS_TRIED);
        let Some(port) = candidates.into_iter().find(|port| !self.0.contains(port) && free(*port)) else {
            eprintln!("error: no free port for {what} from {default} on; name one with --{what}-port");
            return Err(ExitCode::FAILURE);
        };
        if port != default {
            println!("port {default} is taken: {what} uses {port}");
        }
        self.0.push(port);
        Ok(port)
    }
}

/// The default folder, or the first of `data-2`, `data-3` … that no other network uses: each has its own identities.
fn free_folder() -> PathBuf {
    let numbered = (2..FOLDERS_TRIED).map(|number| PathBuf::from(format!("{DEFAULT_DATA_DIR}-{number}")));
    let first = PathBuf::from(DEFAULT_DATA_DIR);
    let folder = std::iter::once(first.clone())
        .chain(numbered)
        .find(|dir| !Paths::new(dir).is_in_use())
        .unwrap_or(first);
    if folder != Path::new(DEFAULT_DATA_DIR) {
        println!("{DEFAULT_DATA_DIR} is used by another network: this one uses {}", folder.display());
    }
    folder
}
