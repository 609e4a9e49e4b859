//! Nodes behind routers, and on one local network, each in a network namespace of its own: hole punching, relays where nothing else helps,
//! routers that pass ports on, discovery by multicast DNS.

mod support;

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;

use libp2p::PeerId;
use serde_json::{Value, json};
use support::gateway::{Gateway, Manner};
use support::lab::{self, Host};
use support::role::{Folder, Role};
use support::{wait_for, wait_until};

/// A role's process, on a host of the lab.
struct Running {
    role: Role,
    peer_id: String,
}

/// Writes the configuration and starts the role there.
fn start(folder: &Folder, host: &Host, role: &str, name: &str, own: &str) -> Running {
    let file = folder.path(&format!("{name}.toml"));
    let log = "filter = \"info,hippius=debug\"";
    let text = format!("[process]\nname = \"{name}\"\n[log]\n{log}\n[{role}]\n{own}\n");
    std::fs::write(&file, text).expect("writable");
    let plain: Command = folder.command(&[role, "--config", file.to_str().expect("text")]);
    let mut role = folder.start(host.command(&plain), name);
    role.wait_ready();
    let peer_id = role.status()["peer_id"].as_str().expect("a peer id").to_owned();
    Running { role, peer_id }
}

impl Running {
    fn get(&self, path: &str) -> Value {
        serde_json::from_str(&self.role.admin.request("GET", path, "", b"").body).expect("JSON")
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let reply =
            self.role.admin.request("POST", path, "content-type: application/json\r\n", body.as_bytes());
        (reply.status, serde_json::from_str(&reply.body).expect("JSON"))
    }

    fn addresses(&self, key: &str) -> Vec<String> {
        let status = self.get("/v1/status");
        let list = status[key].as_array().expect("a list");
        list.iter().map(|address| address.as_str().expect("text").to_owned()).collect()
    }

    /// The addresses of the connections with `peer`; one is shown.
    fn address_of(&self, peer: &Running) -> Option<String> {
        let peers = self.get("/v1/peers");
        let peers = peers["peers"].as_array().expect("a list");
        let found = peers.iter().find(|other| other["peer_id"] == peer.peer_id.as_str())?;
        assert!(found["connections"].as_u64() >= Some(1));
        Some(found["address"].as_str().expect("text").to_owned())
    }

    /// Its address at a relay, once it has a place.
    fn place(&self) -> String {
        wait_for("the node has a place at the relay", || {
            self.addresses("addresses").into_iter().find(|address| address.contains("/p2p-circuit/"))
        })
    }
}

const RELAY: &str = r#"listen = ["/ip4/0.0.0.0/tcp/4002", "/ip4/0.0.0.0/udp/4002/quic-v1"]"#;

/// A node behind a router, that knows the relay and looks for nobody else.
fn behind(listen: &str, relay: &Running, transport: &str) -> String {
    format!(
        "listen = [\"{listen}\", \"/p2p-circuit\"]\nbootnodes = [\"/ip4/203.0.113.1/{transport}/p2p/{}\"]\ntopics = [\"lobby\"]\nlow_peers = 0",
        relay.peer_id
    )
}

/// Two nodes behind routers of their own and a relay that both can reach.
fn two_nats(folder: &Folder, listen: &str, transport: &str, scramble: bool) -> (Running, Running, Running) {
    lab::begin();
    let relay_host = Host::on_wire("relay", 1);
    let hosts = [Host::behind_nat("a", 1, scramble), Host::behind_nat("b", 2, scramble)];
    let relay = start(folder, &relay_host, "bootnode", "relay", RELAY);
    let a = start(folder, &hosts[0], "node", "a", &behind(listen, &relay, transport));
    let b = start(folder, &hosts[1], "node", "b", &behind(listen, &relay, transport));
    // Where the relay sees them is what they tell each other.
    for node in [&a, &b] {
        wait_until("the relay is known", || node.address_of(&relay).is_some());
    }
    (relay, a, b)
}

fn punches_a_hole(listen: &str, transport: &str) {
    let folder = Folder::new();
    let (relay, a, b) = two_nats(&folder, listen, transport, false);
    a.place();
    let at = b.place();
    assert!(at.contains(&relay.peer_id), "{at}");
    let (status, answer) = a.post("/v1/peers/connect", &json!({ "address": at }));
    assert_eq!(status, 200, "{answer}");
    for (one, other, ip) in [(&a, &b, "/ip4/203.0.113.12/"), (&b, &a, "/ip4/203.0.113.11/")] {
        wait_until("the connection is a direct one through the other's router", || {
            one.address_of(other)
                .is_some_and(|address| address.starts_with(ip) && !address.contains("p2p-circuit"))
        });
    }
    wait_until("the relayed connection is closed", || {
        let peers = a.get("/v1/peers");
        let peers = peers["peers"].as_array().expect("a list");
        peers.iter().any(|peer| peer["peer_id"] == b.peer_id.as_str() && peer["connections"] == 1)
    });
}

#[test]
fn two_nodes_behind_nats_get_a_direct_connection_over_tcp() {
    if lab::inside("two_nodes_behind_nats_get_a_direct_connection_over_tcp") {
        punches_a_hole("/ip4/0.0.0.0/tcp/0", "tcp/4002");
    }
}

#[test]
fn two_nodes_behind_nats_get_a_direct_connection_over_quic() {
    if lab::inside("two_nodes_behind_nats_get_a_direct_connection_over_quic") {
        punches_a_hole("/ip4/0.0.0.0/udp/0/quic-v1", "udp/4002/quic-v1");
    }
}

#[test]
fn where_no_hole_can_be_punched_the_relayed_connection_stays() {
    if !lab::inside("where_no_hole_can_be_punched_the_relayed_connection_stays") {
        return;
    }
    let folder = Folder::new();
    let (_relay, a, b) = two_nats(&folder, "/ip4/0.0.0.0/tcp/0", "tcp/4002", true);
    let (status, answer) = a.post("/v1/peers/connect", &json!({ "address": b.place() }));
    assert_eq!(status, 200, "{answer}");
    wait_until("the attempts are over", || b.role.log().contains("no direct connection came about"));
    assert!(a.address_of(&b).is_some_and(|address| address.contains("/p2p-circuit")));
    for node in [&a, &b] {
        wait_until("both are on the topic", || {
            let (_, sent) = node.post("/v1/publish", &json!({ "topic": "lobby", "text": "hello" }));
            sent["peers"] == 1
        });
    }
}

#[test]
fn a_public_node_learns_its_address_and_one_behind_a_nat_does_not() {
    if !lab::inside("a_public_node_learns_its_address_and_one_behind_a_nat_does_not") {
        return;
    }
    let folder = Folder::new();
    lab::begin();
    let hosts = [Host::on_wire("relay", 1), Host::on_wire("open", 2), Host::behind_nat("a", 1, false)];
    let relay = start(&folder, &hosts[0], "bootnode", "relay", RELAY);
    let listen = "/ip4/0.0.0.0/tcp/4004";
    let open = start(&folder, &hosts[1], "node", "open", &behind(listen, &relay, "tcp/4002"));
    let hidden = start(&folder, &hosts[2], "node", "a", &behind(listen, &relay, "tcp/4002"));
    wait_until("the public address is confirmed", || {
        open.role.log().contains("reachable from outside")
            && open.role.log().contains("/ip4/203.0.113.2/tcp/4004")
    });
    hidden.place();
    assert_eq!(hidden.addresses("external"), Vec::<String>::new());
}

#[test]
fn external_addresses_are_told_to_others() {
    if !lab::inside("external_addresses_are_told_to_others") {
        return;
    }
    let folder = Folder::new();
    lab::begin();
    let hosts = [Host::on_wire("one", 1), Host::on_wire("two", 2)];
    let own = "listen = [\"/ip4/0.0.0.0/tcp/4002\"]\nexternal = [\"/dns4/one.example/tcp/443/tls/ws\", \"/ip4/203.0.113.99/tcp/4002\"]";
    let one = start(&folder, &hosts[0], "bootnode", "one", own);
    let told = one.addresses("external");
    let expected = ["/dns4/one.example/tcp/443/tls/ws", "/ip4/203.0.113.99/tcp/4002"];
    assert_eq!(told, expected.map(|address| format!("{address}/p2p/{}", one.peer_id)));
    // A relay tells those who are behind it where it is: there and nowhere else.
    let two = start(&folder, &hosts[1], "node", "two", &behind("/ip4/0.0.0.0/tcp/0", &one, "tcp/4002"));
    two.place();
    let places = two.addresses("addresses");
    let places: Vec<&String> = places.iter().filter(|address| address.contains("p2p-circuit")).collect();
    assert_eq!(places.len(), 2, "{places:?}");
    assert!(
        expected.iter().all(|address| places.iter().any(|place| place.starts_with(address))),
        "{places:?}"
    );
}

#[test]
fn a_node_that_finds_no_router_to_ask_goes_on_without() {
    if !lab::inside("a_node_that_finds_no_router_to_ask_goes_on_without") {
        return;
    }
    let folder = Folder::new();
    lab::begin();
    let one = start(
        &folder,
        &Host::on_wire("one", 1),
        "node",
        "one",
        "listen = [\"/ip4/0.0.0.0/tcp/0\"]\nupnp = true",
    );
    wait_until("the search is over", || one.role.log().contains("no router with UPnP was found"));
    assert_eq!(one.addresses("external"), Vec::<String>::new());
}

#[test]
fn nodes_on_one_local_network_find_each_other_by_multicast_dns() {
    if !lab::inside("nodes_on_one_local_network_find_each_other_by_multicast_dns") {
        return;
    }
    let folder = Folder::new();
    lab::begin();
    let hosts = [Host::on_wire("one", 1), Host::on_wire("two", 2), Host::on_wire("deaf", 3)];
    let own = "listen = [\"/ip4/0.0.0.0/tcp/0\"]\nmdns = true\ntopics = [\"lobby\"]";
    let one = start(&folder, &hosts[0], "node", "one", own);
    let deaf = start(&folder, &hosts[2], "node", "deaf", "listen = [\"/ip4/0.0.0.0/tcp/0\"]");
    let two = start(&folder, &hosts[1], "node", "two", own);
    wait_until("the two are connected", || one.address_of(&two).is_some() && two.address_of(&one).is_some());
    assert_eq!(one.address_of(&deaf), None);
    assert_eq!(deaf.get("/v1/peers")["peers"], json!([]));
}

/// A multicast DNS answer that tells of one peer at many addresses, in the way of libp2p, to be believed for years.
fn mdns_answer(peer: PeerId, addresses: u16) -> Vec<u8> {
    fn name(packet: &mut Vec<u8>, labels: &[&str]) {
        for label in labels {
            packet.push(label.len() as u8);
            packet.extend(label.as_bytes());
        }
        packet.push(0);
    }
    fn record(packet: &mut Vec<u8>, labels: &[&str], kind: u16, data: &[u8]) {
        name(packet, labels);
        packet.extend(kind.to_be_bytes());
        packet.extend(1_u16.to_be_bytes());
        packet.extend(u32::MAX.to_be_bytes());
        packet.extend((data.len() as u16).to_be_bytes());
        packet.extend(data);
    }
    let service = ["_p2p", "_udp", "local"];
    let own = ["stranger", "_p2p", "_udp", "local"];
    let mut packet = vec![0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0];
    packet.extend(addresses.to_be_bytes());
    let mut pointer = Vec::new();
    name(&mut pointer, &own);
    record(&mut packet, &service, 12, &pointer);
    for port in 1..=addresses {
        let address = format!("dnsaddr=/ip4/203.0.113.254/tcp/{port}/p2p/{peer}");
        let mut text = vec![address.len() as u8];
        text.extend(address.as_bytes());
        record(&mut packet, &own, 16, &text);
    }
    packet
}

#[test]
fn a_flood_of_names_on_the_local_network_is_forgotten_and_counted() {
    if !lab::inside("a_flood_of_names_on_the_local_network_is_forgotten_and_counted") {
        return;
    }
    let folder = Folder::new();
    lab::begin();
    let hosts = [Host::on_wire("one", 1), Host::on_wire("two", 2)];
    let own = "listen = [\"/ip4/0.0.0.0/tcp/0\"]\nmdns = true";
    let one = start(&folder, &hosts[0], "node", "one", own);
    let stranger = UdpSocket::bind((lab::TESTER, 0)).expect("an address of the test's own");
    let everybody = (Ipv4Addr::new(224, 0, 0, 251), 5353);
    wait_until("names are forgotten", || {
        for _ in 0..8 {
            stranger.send_to(&mdns_answer(PeerId::random(), 20), everybody).expect("sent");
        }
        one.get("/v1/status")["refused"]["local_name"].as_u64() >= Some(2_048)
    });
    let two = start(&folder, &hosts[1], "node", "two", own);
    wait_until("an honest node is found all the same", || one.address_of(&two).is_some());
}

/// A node at home, where a gateway answers in this manner.
fn with_gateway(folder: &Folder, manner: Manner) -> (Running, Gateway) {
    let inner = lab::begin_at_home();
    // Not an address that is set aside for documents: of those UPnP thinks that nobody could reach them.
    let gateway = Gateway::start(inner, Ipv4Addr::new(11, 0, 0, 7), manner);
    let host = Host::at_home("home", 5);
    let own = "listen = [\"/ip4/0.0.0.0/tcp/4002\", \"/ip4/0.0.0.0/udp/4003/quic-v1\"]\nupnp = true";
    (start(folder, &host, "node", "home", own), gateway)
}

#[test]
fn a_router_that_is_asked_passes_the_ports_on() {
    if !lab::inside("a_router_that_is_asked_passes_the_ports_on") {
        return;
    }
    let folder = Folder::new();
    let (node, gateway) = with_gateway(&folder, Manner::Willing);
    let tell = |rest: &str| format!("/ip4/11.0.0.7/{rest}/p2p/{}", node.peer_id);
    wait_until("both ports are told to others", || {
        node.addresses("external") == [tell("tcp/4002"), tell("udp/4003/quic-v1")]
    });
    let mut mappings = gateway.asked().mappings;
    mappings.sort();
    let client = "10.0.0.5".to_owned();
    assert_eq!(
        mappings,
        [("TCP".to_owned(), 4002, client.clone(), 4002), ("UDP".to_owned(), 4003, client, 4003),]
    );
}

#[test]
fn a_router_that_refuses_changes_nothing() {
    if !lab::inside("a_router_that_refuses_changes_nothing") {
        return;
    }
    let folder = Folder::new();
    let (node, gateway) = with_gateway(&folder, Manner::Refusing);
    wait_until("it has refused both", || gateway.asked().refused >= 2);
    assert!(node.addresses("external").is_empty() && gateway.asked().mappings.is_empty());
}

#[test]
fn a_router_that_nobody_understands_is_none() {
    if !lab::inside("a_router_that_nobody_understands_is_none") {
        return;
    }
    let folder = Folder::new();
    let (node, _gateway) = with_gateway(&folder, Manner::Babbling);
    wait_until("that is in the log", || node.role.log().contains("no router with UPnP was found"));
    assert!(node.addresses("external").is_empty());
}
