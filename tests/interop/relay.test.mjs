// A place at a relay of hippius for js-libp2p, connections through it, and js-libp2p reaching a node that has only such a place.
import assert from "node:assert/strict";
import { test } from "node:test";
import { multiaddr } from "@multiformats/multiaddr";
import { AGENT, Hippius, LIMIT, jsPeer, pinged, until } from "./support.mjs";

const relay = new Hippius("bootnode");
const isRelayed = (address) => String(address).includes("/p2p-circuit");

/** A peer that is reached through the relay only. */
async function hidden(t) {
  const js = await jsPeer(t, { listen: [`${relay.address("tcp")}/p2p-circuit`] });
  const address = await until("it has a place", () => js.getMultiaddrs().find(isRelayed));
  assert.ok(String(address).includes(relay.id), `${address}`);
  return { js, address };
}

test("js-libp2p reaches js-libp2p through hippius", LIMIT, async (t) => {
  const { js, address } = await hidden(t);
  const visitor = await jsPeer(t);
  const connection = await visitor.dial(address);
  assert.ok(connection.remotePeer.equals(js.peerId) && isRelayed(connection.remoteAddr), `${connection.remoteAddr}`);
  assert.ok(connection.limits, "the relay has said what it passes on");
  await pinged(visitor, js.peerId);
});

test("hippius reaches js-libp2p through hippius", LIMIT, async (t) => {
  const { js, address } = await hidden(t);
  const visitor = new Hippius("node-0");
  const { peer_id } = await visitor.connect(address);
  assert.equal(peer_id, String(js.peerId));
  const seen = await until("they know each other", async () => {
    const peer = await visitor.peer(js.peerId);
    return peer?.agent && peer.latency_ms !== null && peer;
  });
  assert.equal(seen.agent, AGENT);
  assert.ok(isRelayed(seen.address), seen.address);
});

test("js-libp2p reaches a hidden hippius through hippius", LIMIT, async (t) => {
  const node = new Hippius("hidden");
  const js = await jsPeer(t);
  // A place may be lost and taken again, at another address, while it is used.
  const connection = await until("it is reached at its place", async () => {
    const address = (await node.get("/v1/status")).addresses.find(isRelayed);
    return address && js.dial(multiaddr(address)).catch((error) => t.diagnostic(`${address}: ${error}`));
  });
  assert.equal(String(connection.remotePeer), node.id);
  await pinged(js, connection.remotePeer);
  await until("it sees us come through the relay", async () => {
    const peer = await node.peer(js.peerId);
    return peer?.agent === AGENT && isRelayed(peer.address);
  });
});
