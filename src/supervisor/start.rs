//! Brings a supervisor up: everything that can be refused is opened before the first process is started.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::api;
use super::core::{Core, NOTICE_QUEUE, Slot};
use super::fleet::Fleet;
use super::handle::{COMMAND_QUEUE, Handle, Pulse};
use super::launch::{describe, reachable};
use super::lifecycle::Lifecycle;
use super::logs::Logs;
use super::sockets::{self, BindError, Listening};
use super::state_dir::{StateDir, StateError, write_private};
use super::strays::Strays;
use super::turn;
use crate::control::http::{self, Limits, Server};
use crate::control::socket;
use crate::p2p::address::{self, Listen, Socket};
use crate::roles::runtime::raise_file_limit;
use crate::telemetry::store::SharedStore;
use crate::telemetry::supervisor::{MeterError, ProcessTable, SupervisorInstruments, supervisor_meter};
use crate::telemetry::{exposition, receiver};
use crate::topology::plan::{Plan, Settings};

/// Connections that the metrics endpoint serves at once.
const METRICS_CONNECTIONS: usize = 256;
/// Connections that the receiver of the children's telemetry serves at once: one per child of a large network.
const RECEIVER_CONNECTIONS: usize = 2_500;
/// Connections that the control socket serves at once.
const CONTROL_CONNECTIONS: usize = 64;
/// Time for replies under way when the supervisor ends.
const LAST_REPLIES: Duration = Duration::from_millis(500);

/// Why a network cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// An address that is taken or cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The secret of a TURN server, or the file that names external ones.
    #[error("{what} cannot be started: {source}")]
    Turn {
        /// Which one, e.g. `the TURN server "turn"`.
        what: String,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The folder of logs.
    #[error("cannot use the log folder {path}: {source}", path = .path.display())]
    Logs {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The control socket.
    #[error("cannot open the control socket {path}: {source}", path = .path.display())]
    Control {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The supervisor's own metrics.
    #[error(transparent)]
    Meter(#[from] MeterError),
    /// The registry of metrics.
    #[error("cannot set up the metrics: {0}")]
    Registry(#[from] prometheus::Error),
    /// Something the operating system refused.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { what, source }
}

/// A supervisor that has everything it needs and has started nothing yet.
pub struct Supervisor {
    core: Core,
    handle: Handle,
    metrics_server: Server,
    receiver_server: Server,
    control_server: Server,
    control_path: PathBuf,
    _provider: SdkMeterProvider,
    _instruments: SupervisorInstruments,
}

impl Supervisor {
    /// Opens the data folder, the logs, every listening socket and the control socket. `program` plays the roles.
    ///
    /// Must be called on the thread that then runs it.
    ///
    /// # Errors
    /// See [`StartError`]; nothing has been started then and nothing is left open.
    pub async fn prepare(plan: Plan, data_dir: &Path, program: PathBuf) -> Result<Self, StartError> {
        raise_file_limit();
        // Before orphans of roles fall to this process.
        let strays = Strays::besides_present_children();
        nix::sys::prctl::set_child_subreaper(true)
            .map_err(|e| system("cannot become a subreaper")(e.into()))?;
        let state_dir = StateDir::acquire(data_dir, &plan.topology)?;
        let log_dir = state_dir.paths().logs();
        let logs =
            Logs::open(&log_dir, plan.logs).map_err(|source| StartError::Logs { path: log_dir, source })?;

        let metrics_socket = sockets::bind("the metrics endpoint", plan.metrics)?;
        let metrics_address =
            reachable(metrics_socket.local_addr().map_err(system("cannot read a socket's address"))?);
        let mut slots = Vec::with_capacity(plan.processes.len());
        for process in &plan.processes {
            let what = format!("the {}", describe(process));
            if let Settings::Bootnode(node) | Settings::Node(node) = &process.settings {
                for address in &node.listen {
                    match address::parse_listen(address) {
                        Ok(Listen::Socket(socket, _)) if socket.address().port() == 0 => {}
                        Ok(Listen::Socket(Socket::Tcp(at), _)) => sockets::probe(&what, at)?,
                        Ok(Listen::Socket(Socket::Udp(at), _)) => sockets::probe_udp(&what, at)?,
                        Ok(Listen::Relay) | Err(_) => {}
                    }
                }
            }
            let turn = match &process.settings {
                Settings::Turn(settings) => {
                    turn::prepare(&process.name, settings, state_dir.paths())
                        .map_err(|source| StartError::Turn { what: what.clone(), source })?;
                    turn::place(&what, settings)?
                }
                _ => None,
            };
            slots.push(Slot {
                turn,
                log: logs.of(&process.name),
                shown: None,
                listening: process
                    .listen_socket
                    .map(|address| Listening::open(&what, address))
                    .transpose()?,
                child: None,
                peer_id: None,
                addresses: Vec::new(),
                keep_addresses: false,
                last_words: None,
                fatal: false,
            });
        }

        let plan_path = state_dir.paths().plan();
        serde_json::to_vec(&plan)
            .map_err(io::Error::other)
            .and_then(|text| write_private(&plan_path, &text))
            .map_err(|source| StateError::Io { path: plan_path, source })?;
        let (registry, provider, meter) = supervisor_meter()?;
        let (store, table) = (SharedStore::default(), ProcessTable::new());
        exposition::register(&registry, store.clone())?;
        let metrics_listener =
            TcpListener::from_std(metrics_socket).map_err(system("cannot watch the metrics socket"))?;
        let metrics_handler = receiver::handler(store.clone(), registry);
        let metrics_server = http::serve(
            metrics_listener,
            Limits { max_connections: METRICS_CONNECTIONS, ..Limits::default() },
            metrics_handler.clone(),
        );
        // The children push to a socket of their own: whoever floods the public one keeps none of them out.
        let receiver_listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(system("cannot open the receiver of telemetry"))?;
        let receiver = receiver_listener.local_addr().map_err(system("cannot read a socket's address"))?;
        let receiver_server = http::serve(
            receiver_listener,
            Limits { max_connections: RECEIVER_CONNECTIONS, ..Limits::default() },
            metrics_handler,
        );
        // Last of all: whoever can ask must find a supervisor that is about to run.
        let control_path = state_dir.paths().control_socket();
        let control_listener = socket::bind(&control_path)
            .await
            .map_err(|source| StartError::Control { path: control_path.clone(), source })?;
        let (commands_in, commands) = mpsc::channel(COMMAND_QUEUE);
        let (pulse, changes) = watch::channel(Pulse::default());
        let handle = Handle::new(commands_in, changes, logs);
        let control_server = http::serve(
            control_listener,
            Limits {
                max_connections: CONTROL_CONNECTIONS,
                // Our own commands ask at once; whoever only holds a connection makes room for them soon.
                header_timeout: Duration::from_secs(5),
                // Whoever follows the logs may pause.
                write_timeout: None,
            },
            api::handler(handle.clone()),
        );
        let refused = vec![
            ("control", control_server.refused_counter()),
            ("metrics", metrics_server.refused_counter()),
            ("receiver", receiver_server.refused_counter()),
        ];
        let instruments = SupervisorInstruments::new(&meter, &table, &store, refused, data_dir)
            .map_err(system("cannot read the supervisor's own figures"))?;

        let (lifeline, lifeline_held) =
            pipe2(OFlag::O_CLOEXEC).map_err(|e| system("cannot open the lifeline")(e.into()))?;
        let core = Core {
            fleet: fleet(&plan),
            plan,
            slots,
            state_dir,
            program,
            metrics: metrics_address,
            receiver,
            store,
            table,
            lifeline,
            _lifeline_held: lifeline_held,
            pids: HashMap::new(),
            queue: VecDeque::new(),
            strays,
            child_ended: signal(SignalKind::child()).map_err(system("cannot listen for SIGCHLD"))?,
            notices: mpsc::channel(NOTICE_QUEUE),
            commands,
            pulse,
        };
        Ok(Self {
            core,
            handle,
            metrics_server,
            receiver_server,
            control_server,
            control_path,
            _provider: provider,
            _instruments: instruments,
        })
    }

    /// A handle to it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Starts everything, and returns once it was told to go down and nothing runs any more.
    pub async fn run(self) {
        let state_dir = self.core.run().await;
        tokio::join!(
            self.control_server.shutdown(LAST_REPLIES),
            self.metrics_server.shutdown(Duration::ZERO),
            self.receiver_server.shutdown(Duration::ZERO)
        );
        let _ = std::fs::remove_file(&self.control_path);
        // The lock goes last: the next supervisor's socket has the same path.
        drop(state_dir);
    }
}

fn fleet(plan: &Plan) -> Fleet {
    let places: HashMap<&str, usize> =
        plan.processes.iter().enumerate().map(|(index, process)| (process.name.as_str(), index)).collect();
    let members = plan
        .processes
        .iter()
        .map(|process| {
            let life = Lifecycle::new(process.restart, process.timing, rand::random());
            let depends_on =
                process.depends_on.iter().filter_map(|name| places.get(name.as_str()).copied()).collect();
            (life, depends_on)
        })
        .collect();
    Fleet::new(members)
}
