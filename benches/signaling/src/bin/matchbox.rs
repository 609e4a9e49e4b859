//! `matchbox PORT`: a signaling server of the crate `matchbox_signaling` as its documentation shows it, without logging.

use std::net::Ipv4Addr;

use matchbox_signaling::SignalingServer;

#[tokio::main]
async fn main() -> Result<(), matchbox_signaling::Error> {
    let port: u16 = std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("a port");
    SignalingServer::full_mesh_builder((Ipv4Addr::LOCALHOST, port)).build().serve().await
}
