//! A role as a service of systemd's kind: it reports readiness to `NOTIFY_SOCKET` and serves on the socket that it is
//! handed by `LISTEN_FDS`.

mod support;

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use support::role::{Folder, Role, wait_notice};
use support::wire::Place;
use support::{binary, wait_until};

#[test]
fn readiness_and_the_end_are_reported_to_a_socket_with_a_path() {
    let folder = Folder::new();
    let path = folder.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    for (role, listen) in [
        ("bootnode", "/ip4/127.0.0.1/tcp/0"),
        ("node", "/ip4/127.0.0.1/tcp/0"),
        ("signaling", "127.0.0.1:0"),
        ("web", "127.0.0.1:0"),
        ("collector", "127.0.0.1:0"),
    ] {
        let mut command = folder.command(&[role, "--listen", listen]);
        command.env("NOTIFY_SOCKET", &path);
        let running = folder.start(command, role);
        wait_notice(&socket, "READY=1");
        // Ready means ready: it serves at once.
        assert_eq!(running.admin.request("GET", "/readyz", "", b"").status, 200, "{role}");
        running.signal(Signal::SIGTERM);
        wait_notice(&socket, "STOPPING=1");
        running.ends_well();
    }
}

#[test]
fn an_abstract_socket_works_as_well_and_the_watchdog_is_fed() {
    let folder = Folder::new();
    let name = format!("hippius-test-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let mut command = folder.command(&["web", "--listen", "127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", format!("@{name}")).env("WATCHDOG_USEC", "300000");
    let running = folder.start(command, "web");
    wait_notice(&socket, "READY=1");
    for _ in 0..3 {
        wait_notice(&socket, "WATCHDOG=1");
    }
    running.stop(Signal::SIGTERM);
}

#[test]
fn a_failure_says_why() {
    let folder = Folder::new();
    let path = folder.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    std::fs::create_dir_all(folder.path("data/node")).unwrap();
    std::fs::write(folder.path("data/node/peer_id.key"), "garbage").unwrap();
    let mut command = folder.command(&["node", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    command.env("NOTIFY_SOCKET", &path);
    let mut running = folder.start(command, "node");
    let lines = wait_notice(&socket, "X_HIPPIUS_FATAL=1");
    let status = lines.iter().find_map(|line| line.strip_prefix("STATUS=")).expect("the reason");
    assert!(status.contains("peer_id.key"), "{status}");
    assert_eq!(running.wait_exit().code(), Some(1));
}

#[test]
fn a_notify_socket_that_is_not_there_is_no_reason_to_fail() {
    let folder = Folder::new();
    let mut command = folder.command(&["web", "--listen", "127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", folder.path("nobody"));
    let mut running = folder.start(command, "web");
    running.wait_ready();
    running.stop(Signal::SIGTERM);
}

/// Starts a role with `listener` as descriptor 3, as systemd does. The shell, which becomes the role, knows its own pid.
fn start_with_socket(folder: &Folder, role: &str, listener: TcpListener) -> Role {
    let mut command = Command::new("sh");
    let script = r#"exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$1""#;
    command.args(["-c", script]).arg(binary()).arg(role).current_dir(folder.path(""));
    command.env_remove("NOTIFY_SOCKET").stdin(Stdio::from(OwnedFd::from(listener)));
    folder.start(command, role)
}

#[test]
fn a_socket_that_is_handed_down_is_served_and_outlives_the_role() {
    for (role, target) in [("web", "/"), ("signaling", "/signal"), ("collector", "/metrics")] {
        let folder = Folder::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut running = start_with_socket(&folder, role, listener.try_clone().unwrap());
        running.wait_ready();
        let place = Place::Tcp(address.to_string());
        let status = place.request("GET", target, "", b"").status;
        assert!(status != 0 && status != 404, "{role} serves on the socket: {status}");
        running.stop(Signal::SIGTERM);

        // A client that comes now waits in the queue for the next one instead of being refused.
        let waiting = std::thread::spawn(move || place.request("GET", target, "", b"").status);
        let mut running = start_with_socket(&folder, role, listener.try_clone().unwrap());
        running.wait_ready();
        wait_until("the client is served", || waiting.is_finished());
        assert_eq!(waiting.join().unwrap(), status, "{role}");
        running.stop(Signal::SIGTERM);
    }
}

#[test]
fn a_wrong_configuration_is_fatal_and_says_why() {
    for (variable, value, reason) in [
        ("HIPPIUS_LOG__FORMAT", "yaml", "yaml"),
        ("HIPPIUS_LOG__FILTER", "info,=nonsense==", "is no filter"),
        ("HIPPIUS_WEB__LISTEN", "nowhere", "socket address"),
    ] {
        let folder = Folder::new();
        let path = folder.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut command = folder.command(&["web"]);
        command.env("NOTIFY_SOCKET", &path).env(variable, value);
        let mut running = folder.start(command, "web");
        let lines = wait_notice(&socket, "X_HIPPIUS_FATAL=1");
        let status = lines.iter().find_map(|line| line.strip_prefix("STATUS=")).expect("the reason");
        assert!(status.contains(reason), "{variable}: {status}");
        assert_eq!(running.wait_exit().code(), Some(1));
    }
}
