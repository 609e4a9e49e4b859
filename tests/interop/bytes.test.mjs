// The bytes that hippius counts for a peer are those that the peer counts.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Hippius, LIMIT, jsPeer, message, metrics, until } from "./support.mjs";

const hippius = new Hippius("node-0");
/** What an author may send at once is 500 tokens, of which a text of 64 KiB takes 17 and one of 4 KiB 2; see docs/node.md. */
const LARGE = { size: 64 * 1024, ours: 25, theirs: 9 };
/** The WebRTC library of rust-libp2p takes no more than 8 KiB in one piece. */
const SMALL = { size: 4_000, ours: 100, theirs: 20 };

/** Counts what protocols send and receive on the streams of a js-libp2p peer. */
function counting() {
  const bytes = { sent: 0, received: 0 };
  const trackProtocolStream = (stream) => {
    const send = stream.send.bind(stream);
    stream.send = (data) => {
      bytes.sent += data.byteLength;
      return send(data);
    };
    stream.addEventListener("message", ({ data }) => (bytes.received += data.byteLength));
  };
  // Everything else that js-libp2p measures goes nowhere.
  const nothing = new Proxy(() => nothing, { get: (_, name) => (name === "then" ? undefined : nothing) });
  const tracker = { trackProtocolStream, trackMultiaddrConnection() {} };
  return { bytes, metrics: () => new Proxy(tracker, { get: (own, name) => own[name] ?? nothing }) };
}

/** What hippius says it received from and sent to a peer. */
async function counted(js) {
  const text = await metrics();
  const value = (name) => {
    const line = text.split("\n").find((line) => line.startsWith(`${name}{`) && line.includes(js.peerId) && line.includes("node-0"));
    return Number(line?.split(" ").at(-1) ?? 0);
  };
  return { sent: value("p2p_peer_bytes_received_total"), received: value("p2p_peer_bytes_sent_total") };
}

function close(left, right) {
  return Math.abs(left - right) <= 0.01 * Math.max(left, right);
}

for (const [transport, { size, ours, theirs }] of [["tcp", LARGE], ["ws", LARGE], ["quic-v1", LARGE], ["webrtc-direct", SMALL]]) {
  test(`both count the same bytes over ${transport}`, LIMIT, async (t) => {
    const text = "x".repeat(size);
    const { bytes, metrics } = counting();
    const js = await jsPeer(t, { metrics });
    let heard = 0;
    js.services.pubsub.addEventListener("message", () => (heard += 1));
    js.services.pubsub.subscribe("lobby");
    await js.dial(hippius.address(transport));
    await until("they share a topic", () => js.services.pubsub.getMeshPeers("lobby").includes(hippius.id));
    await until("both know", async () => (await hippius.peer(js.peerId))?.topics.includes("lobby"));
    const arrived = await hippius.listen(t, "lobby");
    for (let sent = 0; sent < ours; sent += 1) await js.services.pubsub.publish("lobby", message(js, "lobby", text));
    for (let sent = 0; sent < theirs; sent += 1) await hippius.publish("lobby", text);
    await until("all arrive", () => arrived.filter(({ from }) => from === String(js.peerId)).length === ours && heard === theirs);
    const seen = await until("the figures are up to date and agree", async () => {
      const counts = await counted(js);
      return counts.sent >= ours * size && close(counts.sent, bytes.sent) && close(counts.received, bytes.received) && counts;
    });
    t.diagnostic(`counted by hippius ${JSON.stringify(seen)}, by js-libp2p ${JSON.stringify(bytes)}`);
    assert.ok(bytes.sent >= ours * size && bytes.received >= theirs * size);
  });
}
