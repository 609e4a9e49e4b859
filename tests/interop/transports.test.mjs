// js-libp2p and hippius connect to each other by every transport that both have, ping, and learn what the other is.
import assert from "node:assert/strict";
import { test } from "node:test";
import { AGENT, Hippius, LIMIT, jsPeer, transportOf, pinged, until } from "./support.mjs";

const hippius = new Hippius("node-0");

// The WebRTC library of js-libp2p does not use loopback; the test's network has this address too.
const LISTEN = {
  tcp: "/ip4/127.0.0.1/tcp/0",
  ws: "/ip4/127.0.0.1/tcp/0/ws",
  "quic-v1": "/ip4/127.0.0.1/udp/0/quic-v1",
  "webrtc-direct": "/ip4/10.77.0.1/udp/0/webrtc-direct",
};

/** Both sides know each other, by one connection. */
async function acquainted(js, transport, direction) {
  const seen = await until("hippius has identified and pinged", async () => {
    const peer = await hippius.peer(js.peerId);
    return peer?.agent && peer.latency_ms !== null && peer;
  });
  assert.equal(seen.agent, AGENT);
  assert.equal(seen.direction, direction);
  assert.equal(seen.connections, 1);
  assert.equal(transportOf(seen.address), transport);
  const [connection] = js.getConnections();
  const agent = await until("js-libp2p has identified", async () => {
    const known = await js.peerStore.get(connection.remotePeer);
    return known.metadata.get("AgentVersion");
  });
  assert.match(Buffer.from(agent).toString(), /^hippius\/\d/);
  await pinged(js, connection.remotePeer);
  return connection;
}

for (const [transport, listen] of Object.entries(LISTEN)) {
  test(`js-libp2p dials hippius over ${transport}`, LIMIT, async (t) => {
    const js = await jsPeer(t);
    await js.dial(hippius.address(transport));
    const connection = await acquainted(js, transport, "inbound");
    // Nothing but the next ping tells that a WebRTC connection is gone.
    if (transport === "webrtc-direct") return;
    await connection.close();
    await until("hippius notices", async () => !(await hippius.peer(js.peerId)));
  });

  test(`hippius dials js-libp2p over ${transport}`, LIMIT, async (t) => {
    const js = await jsPeer(t, { listen: [listen] });
    const { peer_id } = await hippius.connect(js.getMultiaddrs()[0]);
    assert.equal(peer_id, String(js.peerId));
    await acquainted(js, transport, "outbound");
  });
}
