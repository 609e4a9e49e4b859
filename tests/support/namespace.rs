//! A network of a test's own: a namespace with nothing but loopback, so that what a browser sends by itself (mDNS, STUN, update
//! checks) reaches nobody, and all ports are free.

use std::process::Command;

/// Set in the copy of a test that runs inside.
const INSIDE: &str = "HIPPIUS_TEST_OWN_NETWORK";

/// Whether this is the inside of the namespace. Outside, runs the test called `name` of this program again, inside, and
/// fails if that fails.
#[track_caller]
pub fn inside(name: &str) -> bool {
    enter(name, &["--net"])
}

/// The same with other namespaces, as options of unshare(1).
#[track_caller]
pub fn enter(name: &str, namespaces: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip(8) is installed");
        assert!(up.success(), "loopback could not be switched on");
        return true;
    }
    let mut unshare = Command::new("unshare");
    unshare.args(namespaces);
    if !nix::unistd::geteuid().is_root() {
        // Root of a user namespace may do the same, where the kernel lets everybody have one.
        unshare.arg("--map-root-user");
    }
    let status = unshare
        .arg("--")
        .arg(std::env::current_exe().expect("a path"))
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare(1) is installed");
    assert!(
        status.success(),
        "{name} failed inside its network namespace, or this user may not make one (run as root)"
    );
    false
}

/// Gives the namespace an address that is not loopback, 10.77.0.1: WebRTC libraries do not use loopback.
#[allow(dead_code, reason = "only tests with WebRTC need it")]
pub fn add_address() {
    for arguments in [
        "link add wire type veth peer name end",
        "address add 10.77.0.1/24 dev wire",
        "link set wire up",
        "link set end up",
    ] {
        let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip(8) is installed");
        assert!(status.success(), "ip {arguments}");
    }
}
