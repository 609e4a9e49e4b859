//! What the supervisor knows of TURN servers: where they listen, their secrets, and what web and signaling servers are to tell
//! browsers about them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::sockets::{self, BindError};
use super::state_dir::{Paths, create_private};
use crate::roles::turn::config::{BandwidthConfig, TurnRoleConfig};
use crate::topology::Mistakes;
use crate::topology::plan::{Plan, PlannedProcess, Settings, TurnEngine, TurnSettings};
use crate::topology::turn_file::{Access, TurnFile};
use crate::turn::config::{PortRange, TurnConfig};
use crate::turn::ice::{HOST, IceSource};
use crate::turn::secret;

/// Where one TURN server listens, with the ports that it was given in place of 0: it keeps them when it restarts, and whoever tells
/// browsers of it need not wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// UDP and TCP.
    pub listen: SocketAddr,
    /// TLS, if there is any.
    pub tls_listen: Option<SocketAddr>,
}

fn file(settings: &TurnSettings) -> Result<TurnFile, Mistakes> {
    let path = settings.config_file.as_deref();
    match settings.engine {
        TurnEngine::External => TurnFile::load_external(path),
        TurnEngine::Embedded | TurnEngine::Coturn => TurnFile::load(path),
    }
}

/// Finds out whether what a server is to be told is of use, and makes its secret where it has none yet.
///
/// # Errors
/// When the secret or the TURN file is of no use; the message says which.
pub fn prepare(process: &str, settings: &TurnSettings, paths: &Paths) -> io::Result<()> {
    file(settings).map_err(io::Error::other)?;
    match settings.engine {
        TurnEngine::External => Ok(()),
        TurnEngine::Embedded | TurnEngine::Coturn => secret_of(process, settings, paths).map(drop),
    }
}

/// Finds out whether a server's ports are free, and frees them again.
///
/// # Errors
/// [`BindError`] with the holder of one that is taken.
pub fn place(what: &str, settings: &TurnSettings) -> Result<Option<Place>, BindError> {
    if settings.engine == TurnEngine::External {
        return Ok(None);
    }
    let listen = free(what, settings.listen)?;
    let tls_listen = match settings.tls_listen {
        Some(address) => Some(sockets::bind(what, address)?.local_addr().unwrap_or(address)),
        None => None,
    };
    Ok(Some(Place { listen, tls_listen }))
}

/// One port that is free for UDP and TCP both.
fn free(what: &str, address: SocketAddr) -> Result<SocketAddr, BindError> {
    const TRIES: usize = 16;
    let mut last = None;
    for _ in 0..TRIES {
        let bound = sockets::bind(what, address)?.local_addr().unwrap_or(address);
        match sockets::probe_udp(what, bound) {
            Ok(()) => return Ok(bound),
            Err(error) if address.port() == 0 => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    last.map_or(Ok(address), Err)
}

/// What the role of `process` is told.
///
/// # Errors
/// When the secret or the TURN file is of no use; the message says which.
pub fn role_config(
    process: &str,
    settings: &TurnSettings,
    place: Option<Place>,
    plan: &Plan,
    paths: &Paths,
) -> io::Result<TurnRoleConfig> {
    let file = file(settings).map_err(io::Error::other)?;
    let bandwidth = BandwidthConfig {
        log_file: log_file(process, &file.monitoring.log_file, plan, paths),
        max_bytes: plan.logs.max_bytes,
        keep: plan.logs.keep,
        ..BandwidthConfig::of(&file.monitoring)
    };
    let Some(place) = place else {
        let urls = file.turn.map(|turn| turn.urls).unwrap_or_default();
        return Ok(TurnRoleConfig { engine: settings.engine, urls, bandwidth, ..TurnRoleConfig::default() });
    };
    let server = TurnConfig {
        listen: vec![place.listen],
        tls_listen: place.tls_listen.into_iter().collect(),
        tls: settings.tls.clone(),
        realm: settings.realm.clone(),
        secret: Some(secret_of(process, settings, paths)?.into()),
        external_address: settings.external_address,
        ports: PortRange { min: settings.relay_ports.min, max: settings.relay_ports.max },
        allow: settings.allow.clone(),
        deny: settings.deny.clone(),
        max_allocations: settings.max_allocations,
        max_per_user: settings.max_per_user,
        max_per_address: settings.max_per_address,
        stranger_answers_per_second: settings.stranger_answers_per_second,
        bytes_per_second: settings.bytes_per_second.unwrap_or(0),
        ..TurnConfig::default()
    };
    Ok(TurnRoleConfig { engine: settings.engine, server, urls: Vec::new(), bandwidth })
}

/// Where the traffic of `process` is written down: below `logs/` means the network's folder of logs, and every server but the
/// first has a file of its own.
fn log_file(process: &str, written: &Path, plan: &Plan, paths: &Paths) -> PathBuf {
    let path = match written.strip_prefix("logs") {
        Ok(rest) => paths.logs().join(rest),
        Err(_) => written.to_owned(),
    };
    let first = turn_servers(plan).next().is_none_or(|(first, _)| first.name == process);
    if first {
        return path;
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let end = path.extension().map(|end| format!(".{}", end.to_string_lossy())).unwrap_or_default();
    path.with_file_name(format!("{stem}-{process}{end}"))
}

fn turn_servers(plan: &Plan) -> impl Iterator<Item = (&PlannedProcess, &TurnSettings)> {
    plan.processes.iter().filter_map(|process| match &process.settings {
        Settings::Turn(settings) => Some((process, &**settings)),
        _ => None,
    })
}

/// The secret of a server: the one in the file that the topology names, or one of its own, made at the first start.
fn secret_of(process: &str, settings: &TurnSettings, paths: &Paths) -> io::Result<String> {
    match &settings.secret_file {
        Some(file) => secret::read(file).map_err(io::Error::other),
        None => {
            let folder = paths.process(process);
            create_private(&folder).map_err(io::Error::other)?;
            secret::read_or_make(&folder.join("secret")).map_err(io::Error::other)
        }
    }
}

/// What browsers are told of all TURN servers of `plan`; `place_of` knows where each listens.
///
/// # Errors
/// As [`role_config`].
pub fn ice_sources(
    plan: &Plan,
    paths: &Paths,
    place_of: &dyn Fn(&str) -> Option<Place>,
) -> io::Result<Vec<IceSource>> {
    let mut sources = Vec::new();
    for (process, settings) in turn_servers(plan) {
        match place_of(&process.name) {
            Some(place) => {
                let secret = secret_of(&process.name, settings, paths)?;
                sources.extend(own(settings, place, secret));
            }
            None => {
                let file = file(settings).map_err(io::Error::other)?;
                sources.extend(external(file, settings));
            }
        }
    }
    Ok(sources)
}

fn own(settings: &TurnSettings, place: Place, secret: String) -> [IceSource; 2] {
    let host = match (&settings.host, settings.external_address, place.listen.ip()) {
        (Some(host), ..) => host.clone(),
        (None, Some(address), _) => written(address),
        // Whoever sees the page sees this machine by that name.
        (None, None, address) if address.is_unspecified() || address.is_loopback() => HOST.to_owned(),
        (None, None, address) => written(address),
    };
    let port = place.listen.port();
    let mut urls =
        vec![format!("turn:{host}:{port}?transport=udp"), format!("turn:{host}:{port}?transport=tcp")];
    if let Some(secure) = place.tls_listen {
        urls.push(format!("turns:{host}:{}?transport=tcp", secure.port()));
    }
    [
        IceSource::open(vec![format!("stun:{host}:{port}")]),
        IceSource { secret: Some(secret), lifetime: settings.credential_lifetime, ..IceSource::open(urls) },
    ]
}

fn written(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

fn external(file: TurnFile, settings: &TurnSettings) -> Vec<IceSource> {
    let stun = (!file.stun.is_empty()).then(|| IceSource::open(file.stun));
    let turn = file.turn.map(|turn| {
        let base = IceSource { lifetime: settings.credential_lifetime, ..IceSource::open(turn.urls) };
        match turn.access {
            Access::Secret(secret) => IceSource { secret: Some(secret), ..base },
            Access::Fixed { username, credential } => {
                IceSource { username: Some(username), credential: Some(credential), ..base }
            }
        }
    });
    stun.into_iter().chain(turn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology;

    fn plan(text: &str) -> Plan {
        topology::parse("x.toml", text, &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}")).plan()
    }

    fn urls(text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path());
        let place = Place {
            listen: "127.0.0.1:4000".parse().unwrap(),
            tls_listen: text.contains("tls").then(|| "127.0.0.1:5000".parse().unwrap()),
        };
        let sources = ice_sources(&plan(text), &paths, &|_| Some(place)).unwrap();
        sources.into_iter().flat_map(|source| source.urls).collect()
    }

    #[test]
    fn browsers_are_told_of_the_host_that_leads_there() {
        assert_eq!(
            urls("[turn]"),
            ["stun:{host}:4000", "turn:{host}:4000?transport=udp", "turn:{host}:4000?transport=tcp"]
        );
        assert_eq!(urls("[turn]\nexternal_address = \"2001:db8::7\"")[0], "stun:[2001:db8::7]:4000");
        let all = urls(
            "[turn]\nhost = \"turn.example.org\"\nexternal_address = \"203.0.113.7\"\ntls = { certificate = \"c\", key = \"k\" }",
        );
        assert_eq!(all[3], "turns:turn.example.org:5000?transport=tcp");
    }

    #[test]
    fn every_server_but_the_first_has_a_log_of_its_own() {
        let plan = plan("[[turn]]\nname = \"a\"\n[[turn]]\nname = \"b\"\nport = 0");
        let paths = Paths::new(Path::new("data"));
        let of = |process: &str, file: &str| log_file(process, Path::new(file), &plan, &paths);
        assert_eq!(of("a", "logs/turn_bandwidth.log"), Path::new("logs/turn_bandwidth.log"));
        assert_eq!(of("b", "logs/turn_bandwidth.log"), Path::new("logs/turn_bandwidth-b.log"));
        assert_eq!(of("b", "/var/log/x"), Path::new("/var/log/x-b"));
        let elsewhere = Paths::new(Path::new("elsewhere"));
        let moved = log_file("a", Path::new("logs/turn_bandwidth.log"), &plan, &elsewhere);
        assert_eq!(moved, Path::new("elsewhere/logs/turn_bandwidth.log"));
    }

    #[test]
    fn one_secret_is_made_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (paths, plan) = (Paths::new(folder.path()), plan("[turn]"));
        let place = Place { listen: "127.0.0.1:4000".parse().unwrap(), tls_listen: None };
        let sources = ice_sources(&plan, &paths, &|_| Some(place)).unwrap();
        let Settings::Turn(settings) = &plan.processes[0].settings else { panic!("{plan:?}") };
        let config = role_config("turn", settings, Some(place), &plan, &paths).unwrap();
        let told = config.server.secret.unwrap();
        assert_eq!(sources[1].secret.as_deref(), Some(told.as_str()));
        assert!(told.as_str().len() >= 32);
    }
}
