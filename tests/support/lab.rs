//! Small internets for tests: hosts in network namespaces of their own, on one public wire, or behind routers that translate addresses.
//!
//! ```text
//!   203.0.113.0/24 ──┬───────────────┬──────────────┬──── the wire (a bridge in the test's own namespace)
//!                 relay (.1)     nat-a (.11)    nat-b (.12)
//!                                    │ 10.0.1.1     │ 10.0.2.1
//!                                 a (10.0.1.2)   b (10.0.2.2)
//! ```
//!
//! Only [`inside`] namespaces of the test's own: everything is gone with its process.

use std::io::Write;
use std::process::{Command, Stdio};

use super::namespace;

/// A host of the lab, by the name of its namespace.
#[derive(Debug, Clone)]
pub struct Host(String);

/// As [`namespace::inside`], with mounts of its own.
#[track_caller]
pub fn inside(name: &str) -> bool {
    namespace::enter(name, &["--net", "--mount"])
}

/// Prepares the lab's wire. Before anything else.
pub fn begin() {
    // Names of namespaces are files in /run/netns: not those of the machine.
    run("mount", &["-t", "tmpfs", "lab", "/run"]);
    std::fs::create_dir("/run/netns").expect("a folder");
    run("ip", &["link", "add", "wire", "type", "bridge"]);
    run("ip", &["addr", "add", "203.0.113.254/24", "dev", "wire"]);
    run("ip", &["link", "set", "wire", "up"]);
}

/// Gives the test itself an address of the private network of [`Host::at_home`], too.
pub fn begin_at_home() -> std::net::Ipv4Addr {
    begin();
    run("ip", &["addr", "add", "10.0.0.254/24", "dev", "wire"]);
    std::net::Ipv4Addr::new(10, 0, 0, 254)
}

/// The address on the wire of the test itself.
pub const TESTER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(203, 0, 113, 254);

impl Host {
    /// A host on the wire, `203.0.113.NUMBER`.
    pub fn on_wire(name: &str, number: u8) -> Self {
        let host = Self::new(name);
        let port = format!("w-{name}");
        run("ip", &["link", "add", &port, "type", "veth", "peer", "name", "wire", "netns", name]);
        run("ip", &["link", "set", &port, "master", "wire", "up"]);
        host.address("wire", &format!("203.0.113.{number}/24"));
        host
    }

    /// A host behind a router of its own: `10.0.NUMBER.2` behind `203.0.113.1NUMBER`. The router lets nothing in that was not asked for; with
    /// `scramble` it gives every connection another port, so that nobody can foretell it, and says so to whoever knocks.
    pub fn behind_nat(name: &str, number: u8, scramble: bool) -> Self {
        let nat = Self::on_wire(&format!("nat-{name}"), 10 + number);
        let host = Self::new(name);
        run(
            "ip",
            &["-n", &nat.0, "link", "add", "home", "type", "veth", "peer", "name", "home", "netns", name],
        );
        nat.address("home", &format!("10.0.{number}.1/24"));
        host.address("home", &format!("10.0.{number}.2/24"));
        run("ip", &["-n", name, "route", "add", "default", "via", &format!("10.0.{number}.1")]);
        nat.feed("sh", &[], "echo 1 > /proc/sys/net/ipv4/ip_forward");
        let (masquerade, otherwise) =
            if scramble { ("masquerade fully-random", "reject") } else { ("masquerade", "drop") };
        let rules = format!(
            "table ip home {{
                chain out {{ type nat hook postrouting priority 100; oifname \"wire\" {masquerade}; }}
                chain through {{
                    type filter hook forward priority 0; policy drop;
                    iifname \"home\" accept
                    ct state established,related accept
                }}
                chain to_router {{
                    type filter hook input priority 0; policy drop;
                    iifname \"home\" accept
                    ct state established,related accept
                    {otherwise}
                }}
            }}"
        );
        nat.feed("nft", &["-f", "-"], &rules);
        host
    }

    /// A host on the wire that also has an address of a private network, `10.0.0.NUMBER`, by which it sends to groups.
    pub fn at_home(name: &str, number: u8) -> Self {
        let host = Self::on_wire(name, number);
        let address = format!("10.0.0.{number}");
        host.address("wire", &format!("{address}/24"));
        run("ip", &["-n", name, "route", "add", "239.0.0.0/8", "dev", "wire", "src", &address]);
        host
    }

    fn new(name: &str) -> Self {
        run("ip", &["netns", "add", name]);
        run("ip", &["-n", name, "link", "set", "lo", "up"]);
        Self(name.to_owned())
    }

    fn address(&self, interface: &str, address: &str) {
        run("ip", &["-n", &self.0, "addr", "add", address, "dev", interface]);
        run("ip", &["-n", &self.0, "link", "set", interface, "up"]);
    }

    /// `command`, to be run on this host.
    pub fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.0]).arg(command.get_program()).args(command.get_args());
        if let Some(folder) = command.get_current_dir() {
            inside.current_dir(folder);
        }
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside.stdin(Stdio::null());
        inside
    }

    #[track_caller]
    fn feed(&self, program: &str, arguments: &[&str], input: &str) {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.0, program])
            .args(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .expect("ip(8) is installed");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("writable");
        assert!(child.wait().expect("waitable").success(), "{program} on {}: {input}", self.0);
    }
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().expect("the program is installed");
    assert!(status.success(), "{program} {arguments:?}");
}
