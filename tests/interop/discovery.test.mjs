// Kademlia: what one js-libp2p peer provides, another finds through nodes of hippius.
import assert from "node:assert/strict";
import { test } from "node:test";
import { CID } from "multiformats/cid";
import * as raw from "multiformats/codecs/raw";
import { sha256 } from "multiformats/hashes/sha2";
import { Hippius, LIMIT, jsPeer, until } from "./support.mjs";

const [first, second] = [new Hippius("node-0"), new Hippius("node-1")];

/** A peer connected to one node of hippius only, which both have in their routing tables. */
async function beside(t, hippius, options) {
  const js = await jsPeer(t, { listen: ["/ip4/127.0.0.1/tcp/0"], ...options });
  await js.dial(hippius.address("tcp"));
  await until("js-libp2p may ask it", () => js.services.dht.routingTable.size > 0);
  await until("hippius knows what it is", async () => (await hippius.peer(js.peerId))?.agent);
  return js;
}

/** The first provider of a key that `wanted` holds for. */
async function provider(js, key, wanted) {
  for await (const found of js.contentRouting.findProviders(key)) if (wanted(found)) return found;
}

test("content provided through one node is found through another", LIMIT, async (t) => {
  // Nobody asks a client, so that only the nodes of hippius can know.
  const giver = await beside(t, first, { clientMode: true });
  const seeker = await beside(t, second);
  const key = CID.createV1(raw.code, await sha256.digest(crypto.getRandomValues(new Uint8Array(32))));
  const isGiver = ({ id }) => id.equals(giver.peerId);
  assert.equal(await provider(seeker, key, isGiver), undefined, "nobody has said so yet");
  await giver.contentRouting.provide(key);
  const found = await until("it is found", () => provider(seeker, key, isGiver));
  const [listening] = giver.getMultiaddrs();
  assert.ok(found.multiaddrs.some((address) => String(listening).startsWith(String(address))), `${found.multiaddrs}`);
});

test("a peer is found by its id", LIMIT, async (t) => {
  const [one, other] = [await beside(t, first), await beside(t, second)];
  const found = await until("it is found", () => other.peerRouting.findPeer(one.peerId).catch(() => undefined));
  assert.ok(found.multiaddrs.length > 0);
});

test("who is on a topic is found by the topic's key", LIMIT, async (t) => {
  const js = await beside(t, first);
  // A key of its own form, not a hash of content.
  const key = { multihash: { bytes: new TextEncoder().encode("/hippius/topic/lobby") } };
  await until("the node farther away is found", () => provider(js, key, ({ id }) => String(id) === second.id));
});
