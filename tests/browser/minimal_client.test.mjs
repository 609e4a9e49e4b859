// The four original messages are enough: two minimal clients exchange them through the server.
import assert from "node:assert/strict";
import { once } from "node:events";
import test from "node:test";
import { MinimalClient } from "./minimal_client.mjs";

const web = process.env.WEB_URL ?? "http://127.0.0.1:3000";

test("a client of four messages", { timeout: 20_000 }, async () => {
  const { signaling } = await (await fetch(`${web}/config.json`)).json();
  const url = `ws://${new URL(web).hostname}:${signaling.port}${signaling.path}`;
  const [a, b] = [new MinimalClient(url, "minimal-a"), new MinimalClient(url, "minimal-b")];
  await Promise.all([once(a.socket, "message"), once(b.socket, "message")]);
  a.tell("Offer", "minimal-b", { sdp: "v=0 offer" });
  assert.deepEqual(await b.next(), { type: "Offer", from: "minimal-a", to: "minimal-b", sdp: "v=0 offer" });
  b.tell("Answer", "minimal-a", { sdp: "v=0 answer" });
  assert.deepEqual(await a.next(), { type: "Answer", from: "minimal-b", to: "minimal-a", sdp: "v=0 answer" });
  const candidate = JSON.stringify({ candidate: "candidate:1 1 udp 1 127.0.0.1 9 typ host", sdpMid: "0" });
  a.tell("IceCandidate", "minimal-b", { candidate });
  assert.deepEqual(await b.next(), { type: "IceCandidate", from: "minimal-a", to: "minimal-b", candidate });
  // A clean close frees the id at once.
  a.close();
  await once(a.socket, "close");
  const again = new MinimalClient(url, "minimal-a");
  await once(again.socket, "message");
  again.tell("Offer", "minimal-b", { sdp: "again" });
  assert.equal((await b.next()).sdp, "again");
  again.close();
  b.close();
});
