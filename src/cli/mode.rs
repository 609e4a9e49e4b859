//! The short form, `hippius --mode all|signaling|bootnode|node`: a topology in memory, run like `up` runs a file's.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;

use super::foreground::{self, Audience, Options};
use super::{check, output};
use crate::supervisor::sockets;
use crate::supervisor::start::{StartError, Supervisor};
use crate::supervisor::state_dir::{DEFAULT_DATA_DIR, Paths, StateError};
use crate::topology::{ShortForm, ShortNode, Topology};

const WEB_PORT: u16 = 3000;
const SIGNALING_PORT: u16 = 8001;
const BOOTNODE_PORT: u16 = 4002;
const METRICS_PORT: u16 = 9091;
/// How many ports after a taken default one are tried.
const PORTS_TRIED: u16 = 100;
/// How many networks may share a folder.
const FOLDERS_TRIED: u32 = 100;
/// How often ports and folder are chosen, when others take them at the same time.
const TRIES: u32 = 10;

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
    #[arg(long, value_name = "MULTIADDR", requires = "mode", value_parser = bootnode_address)]
    bootnode_address: Option<String>,
    /// The folder that holds the network's state [default: data, or data-2 … while another network uses that].
    #[arg(long, value_name = "DIR", requires = "mode")]
    data_dir: Option<PathBuf>,
}

/// Refuses what no node could dial: there is no file in which the mistake could be shown.
fn bootnode_address(text: &str) -> Result<String, String> {
    match ShortNode::check_bootnode(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(reason) => Err(format!("{reason}; it should be /ip4/ADDRESS/tcp/PORT/p2p/PEER_ID")),
    }
}

/// Runs the short form.
pub async fn run(mode: Mode, args: ModeArgs) -> ExitCode {
    let program = match foreground::check_environment().and_then(|()| super::own_program()) {
        Ok(program) => program,
        Err(error) => return output::fail(error),
    };
    let mut tries = 0;
    loop {
        tries += 1;
        let Choice { topology, data_dir, notes } = match choose(mode, &args) {
            Ok(choice) => choice,
            Err(code) => return code,
        };
        match Supervisor::prepare(topology.plan(), &data_dir, program.clone()).await {
            Ok(supervisor) => {
                notes.iter().for_each(|note| output::say(note));
                let options = Options { data_dir, program, timeout: None, audience: Audience::Foreground };
                return foreground::live(supervisor, options).await;
            }
            // Somebody was faster between the choice and now: choose again.
            Err(error) if tries < TRIES && args.left_open(&error) => {}
            Err(error) => return output::fail(error),
        }
    }
}

impl ModeArgs {
    fn named_ports(&self) -> [(&'static str, Option<u16>); 3] {
        [("web", self.web_port), ("signaling", self.signaling_port), ("bootnode", self.bootnode_port)]
    }

    /// Whether what is taken was not named by the user.
    fn left_open(&self, error: &StartError) -> bool {
        match error {
            StartError::State(StateError::InUse { .. }) => self.data_dir.is_none(),
            StartError::Bind(error) if error.kind == io::ErrorKind::AddrInUse => {
                self.named_ports().iter().all(|(_, named)| *named != Some(error.address.port()))
            }
            _ => false,
        }
    }
}

/// What is about to be started.
struct Choice {
    topology: Topology,
    data_dir: PathBuf,
    /// What is not as usual.
    notes: Vec<String>,
}

fn choose(mode: Mode, args: &ModeArgs) -> Result<Choice, ExitCode> {
    if args.bootnode_address.is_some() && mode != Mode::Node {
        return Err(misused(&format!(
            "--bootnode-address is for --mode node; there is no node in --mode {}",
            mode.as_str()
        )));
    }
    let serves = matches!(mode, Mode::All | Mode::Signaling | Mode::Node);
    let boots = matches!(mode, Mode::All | Mode::Bootnode);
    let mut ports = Ports::default();
    // The named ones first: a default one makes way for them.
    for ((what, named), wanted) in args.named_ports().into_iter().zip([serves, serves, boots]) {
        match named {
            Some(_) if !wanted => {
                let reason = format!("--{what}-port does not go with this --mode: it starts no {what}");
                return Err(misused(&reason));
            }
            Some(port) => ports.reserve(what, port)?,
            None => {}
        }
    }
    let mut port = |wanted: bool, what: &str, named: Option<u16>, default: u16| match (wanted, named) {
        (false, _) => Ok(None),
        (true, Some(port)) => Ok(Some(port)),
        (true, None) => ports.choose(what, default).map(Some),
    };
    let form = ShortForm {
        name: mode.as_str().to_owned(),
        web: port(serves, "web", args.web_port, WEB_PORT)?,
        signaling: port(serves, "signaling", args.signaling_port, SIGNALING_PORT)?,
        bootnode: port(boots, "bootnode", args.bootnode_port, BOOTNODE_PORT)?,
        node: (mode == Mode::Node)
            .then(|| ShortNode { name: "node".to_owned(), bootnode: args.bootnode_address.clone() }),
        metrics: ports.choose("metrics", METRICS_PORT)?,
    };
    let topology = Topology::from_short_form(&form).map_err(|mistakes| {
        check::report(&mistakes);
        ExitCode::FAILURE
    })?;
    let mut notes = ports.notes;
    let data_dir = match &args.data_dir {
        Some(dir) => dir.clone(),
        None => free_folder(&mut notes),
    };
    Ok(Choice { topology, data_dir, notes })
}

fn misused(reason: &str) -> ExitCode {
    output::complain(&format!("error: {reason}"));
    ExitCode::from(2)
}

/// Ports of one network: none twice.
#[derive(Default)]
struct Ports {
    taken: Vec<u16>,
    notes: Vec<String>,
}

impl Ports {
    /// The port that the user named, which must be free.
    fn reserve(&mut self, what: &str, port: u16) -> Result<(), ExitCode> {
        if self.taken.contains(&port) {
            let reason = format!("port {port} is named twice; give {what} another one with --{what}-port");
            return Err(misused(&reason));
        }
        if let Err(error) = sockets::probe(what, SocketAddr::from((Ipv4Addr::LOCALHOST, port))) {
            let advice = match error.kind {
                io::ErrorKind::AddrInUse => "; end it, or name another port",
                io::ErrorKind::PermissionDenied => "; name a higher one",
                _ => "",
            };
            return Err(output::fail(format_args!("--{what}-port {port}: {}{advice}", error.reason)));
        }
        self.taken.push(port);
        Ok(())
    }

    /// The default port or the next free one after it.
    fn choose(&mut self, what: &str, default: u16) -> Result<u16, ExitCode> {
        let free = |port: u16| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok();
        let mut candidates = default..=default.saturating_add(PORTS_TRIED);
        let Some(port) = candidates.find(|port| !self.taken.contains(port) && free(*port)) else {
            let range = format!("no free port for {what} from {default} on");
            let named = what != "metrics";
            let advice = if named { format!("; name one with --{what}-port") } else { String::new() };
            return Err(output::fail(format_args!("{range}{advice}")));
        };
        if port != default {
            self.notes.push(format!("port {default} is taken: {what} uses {port}"));
        }
        self.taken.push(port);
        Ok(port)
    }
}

/// The default folder, or the first of `data-2`, `data-3` … that no other network uses: each has its own identities.
fn free_folder(notes: &mut Vec<String>) -> PathBuf {
    let numbered = (2..FOLDERS_TRIED).map(|number| PathBuf::from(format!("{DEFAULT_DATA_DIR}-{number}")));
    let first = PathBuf::from(DEFAULT_DATA_DIR);
    let folder = std::iter::once(first.clone())
        .chain(numbered)
        .find(|dir| !Paths::new(dir).is_in_use())
        .unwrap_or(first);
    if folder != Path::new(DEFAULT_DATA_DIR) {
        let uses = folder.display();
        notes.push(format!("{DEFAULT_DATA_DIR} is used by another network: this one uses {uses}"));
    }
    folder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_port_makes_way_for_a_named_one() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut ports = Ports::default();
        assert!(ports.reserve("signaling", free).is_ok());
        let web = ports.choose("web", free).ok().unwrap();
        assert!(web > free, "{web}");
        assert_eq!(ports.notes, [format!("port {free} is taken: web uses {web}")]);
        assert!(ports.reserve("bootnode", web).is_err(), "none twice");
    }
}
