// The four original messages are enough: two minimal clients exchange them through the server.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import test from "node:test";
import { fileURLToPath } from "node:url";
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

test("one in another language", { timeout: 20_000 }, async () => {
  const { signaling } = await (await fetch(`${web}/config.json`)).json();
  const host = new URL(web).hostname;
  const a = new MinimalClient(`ws://${host}:${signaling.port}${signaling.path}`, "javascript");
  const arrived = new Promise((done) => {
    a.socket.on("message", (data) => {
      const { type, payload } = JSON.parse(data);
      if (type === "PeerJoined" && payload.peer_id === "python") done();
    });
  });
  await once(a.socket, "open");
  const script = fileURLToPath(new URL("minimal_client.py", import.meta.url));
  const python = spawn("python3", [script, host, signaling.port, signaling.path, "python"], { stdio: ["ignore", "inherit", "inherit"] });
  const ended = once(python, "exit");
  await Promise.race([arrived, ended]);
  a.tell("Offer", "python", { sdp: "v=0" });
  assert.deepEqual(await a.next(), { type: "Answer", from: "python", to: "javascript", sdp: "answer to v=0" });
  a.tell("IceCandidate", "python", { candidate: "{}" });
  assert.deepEqual(await a.next(), { type: "IceCandidate", from: "python", to: "javascript", candidate: "{}" });
  assert.deepEqual((await ended)[0], 0);
  a.close();
});
