// A web page's own libp2p peer, as browser.test.mjs bundles it.
import { noise } from "@chainsafe/libp2p-noise";
import { yamux } from "@chainsafe/libp2p-yamux";
import { gossipsub } from "@libp2p/gossipsub";
import { identify } from "@libp2p/identify";
import { ping } from "@libp2p/ping";
import { webRTCDirect } from "@libp2p/webrtc";
import { webSockets } from "@libp2p/websockets";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";

const heard = [];
let peer;

globalThis.libp2p = {
  /** Joins the lobby and connects; gives this peer's id and the round-trip time. */
  async meet(address) {
    peer = await createLibp2p({
      nodeInfo: { userAgent: "interop-page/1" },
      transports: [webSockets(), webRTCDirect()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
      // Pages do not dial private addresses by themselves; this one is told to.
      connectionGater: { denyDialMultiaddr: () => false },
      services: { identify: identify(), ping: ping(), pubsub: gossipsub({ allowPublishToZeroTopicPeers: true }) },
    });
    peer.services.pubsub.addEventListener("message", ({ detail }) => heard.push(JSON.parse(new TextDecoder().decode(detail.data))));
    peer.services.pubsub.subscribe("lobby");
    const { remotePeer } = await peer.dial(multiaddr(address));
    return { id: String(peer.peerId), latency: await peer.services.ping.ping(remotePeer) };
  },
  mesh: () => peer.services.pubsub.getMeshPeers("lobby"),
  heard: () => heard,
  async say(text) {
    const body = { id: crypto.randomUUID(), from: String(peer.peerId), topic: "lobby", sent_at: Date.now(), text };
    await peer.services.pubsub.publish("lobby", new TextEncoder().encode(JSON.stringify(body)));
  },
};
