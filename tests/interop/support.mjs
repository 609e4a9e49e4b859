// A js-libp2p peer, and the nodes of hippius that it meets; NETWORK says where those are.
import assert from "node:assert/strict";
import { request } from "node:http";
import { noise } from "@chainsafe/libp2p-noise";
import { quic } from "@chainsafe/libp2p-quic";
import { yamux } from "@chainsafe/libp2p-yamux";
import { circuitRelayTransport } from "@libp2p/circuit-relay-v2";
import { gossipsub } from "@libp2p/gossipsub";
import { identify } from "@libp2p/identify";
import { kadDHT, passthroughMapper } from "@libp2p/kad-dht";
import { ping } from "@libp2p/ping";
import { tcp } from "@libp2p/tcp";
import { webRTCDirect } from "@libp2p/webrtc";
import { webSockets } from "@libp2p/websockets";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";

const network = JSON.parse(process.env.NETWORK);

/** What this side tells of itself; hippius shows it among its peers. */
export const AGENT = "interop-js/1";
export const LIMIT = { timeout: 60_000 };

/** A running node of hippius, spoken to over its admin socket. */
export class Hippius {
  constructor(name) {
    const { admin, peer_id: id, addresses } = network.processes[name];
    Object.assign(this, { name, admin, id, addresses });
  }

  /** Its address by one transport: `tcp`, `ws`, `quic-v1` or `webrtc-direct`. */
  address(transport) {
    const found = this.addresses.find((address) => transportOf(address) === transport);
    assert.ok(found, `${this.name} does not listen on ${transport}`);
    return multiaddr(found);
  }

  get = (path) => this.#call("GET", path);
  post = (path, body) => this.#call("POST", path, body);
  connect = (address) => this.post("/v1/peers/connect", { address: String(address) });
  publish = (topic, text) => this.post("/v1/publish", { topic, text });
  refused = async (what) => (await this.get("/v1/status")).refused[what] ?? 0;

  /** What it says of one of its peers; nothing if that is not connected. */
  async peer(id) {
    const { peers } = await this.get("/v1/peers");
    return peers.find((peer) => peer.peer_id === String(id));
  }

  /** The texts of a topic's messages, as they come; the list grows until the test ends. */
  async listen(t, topic) {
    const heard = [];
    const response = await this.#open("GET", `/v1/events?topic=${topic}`);
    t.after(() => response.destroy());
    let rest = "";
    const subscribed = new Promise((resolve) => {
      response.setEncoding("utf8").on("data", (chunk) => {
        const lines = (rest + chunk).split("\n");
        rest = lines.pop();
        for (const event of lines.map((line) => JSON.parse(line))) {
          if (event.type === "subscribed") resolve();
          if (event.type === "message") heard.push(event);
        }
      });
    });
    await subscribed;
    return heard;
  }

  #open(method, path, body) {
    return new Promise((resolve, reject) => {
      const headers = { "content-type": "application/json" };
      request({ socketPath: this.admin, method, path, headers }, resolve)
        .on("error", reject)
        .end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  async #call(method, path, body) {
    const response = await this.#open(method, path, body);
    let text = "";
    for await (const chunk of response.setEncoding("utf8")) text += chunk;
    assert.equal(response.statusCode, 200, `${method} ${path}: ${text}`);
    return JSON.parse(text);
  }
}

/** The last part of an address that names its transport. */
export function transportOf(address) {
  return String(address).split("/").findLast((part) => ["tcp", "ws", "quic-v1", "webrtc-direct"].includes(part));
}

/** Hippius and Go know a message by its author's id and number; the default of js-libp2p leaves out a prefix of the id. */
function messageId({ from, sequenceNumber }) {
  const number = Buffer.alloc(8);
  number.writeBigUInt64BE(sequenceNumber);
  return Buffer.concat([from.toMultihash().bytes, number]);
}

/** A js-libp2p peer with every transport and protocol, which stops with the test. */
export async function jsPeer(t, { listen = [], clientMode = false, metrics } = {}) {
  const peer = await createLibp2p({
    nodeInfo: { userAgent: AGENT },
    addresses: { listen },
    transports: [tcp(), webSockets(), quic(), webRTCDirect(), circuitRelayTransport()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: {
      identify: identify(),
      ping: ping(),
      pubsub: gossipsub({ allowPublishToZeroTopicPeers: true, msgIdFn: messageId }),
      dht: kadDHT({ protocol: "/hippius/kad/1.0.0", clientMode, peerInfoMapper: passthroughMapper }),
    },
    metrics,
  });
  t.after(() => {
    // Without the courtesies, and nobody waits for the rest: WebRTC streams of rust-libp2p do not confirm their end, for which
    // js-libp2p waits ten seconds.
    for (const connection of peer.getConnections()) connection.abort(new Error("the test is over"));
    peer.stop().catch(() => {});
  });
  return peer;
}

/** A message in the form that docs/node.md describes. */
export function message(peer, topic, text) {
  const body = { id: crypto.randomUUID(), from: String(peer.peerId), topic, sent_at: Date.now(), text };
  return Buffer.from(JSON.stringify(body));
}

/** Waits until `condition` gives something, and gives that. */
export async function until(what, condition) {
  for (const end = Date.now() + 30_000; ; ) {
    const value = await condition();
    if (value) return value;
    assert.ok(Date.now() < end, `never: ${what}`);
    await new Promise((wake) => setTimeout(wake, 20));
  }
}

/** A ping comes back. js-libp2p's monitor of connections pings, too, and only one may be under way. */
export const pinged = (js, peer) =>
  until("a ping comes back", async () => {
    try {
      return (await js.services.ping.ping(peer)) >= 0;
    } catch (error) {
      if (error.name === "TooManyOutboundProtocolStreamsError") return false;
      throw error;
    }
  });

/** What the network's metrics endpoint says. */
export const metrics = async () => (await fetch(network.metrics)).text();
