// A signaling server and a peer that mean harm: the page neither freezes, nor grows without end, nor says what is not so.
import assert from "node:assert/strict";
import { audit } from "./audit.mjs";
import { MinimalClient } from "./minimal_client.mjs";
import { connected, givenIce, hears, idOf, pair, row, say, scripted, stage, until, watchLinks, web } from "./support.mjs";

const scene = stage();
const MIB = 1024 * 1024;

/** Keeps the connections to the server within a test's reach, which are the page's side of `scripted`. */
const watchSockets = (page) => page.addInitScript(() => {
  window.sockets = [];
  const listen = EventTarget.prototype.addEventListener;
  // Whatever stands for a WebSocket in the page: its messages are listened to.
  EventTarget.prototype.addEventListener = function (type, ...rest) {
    if (type === "message" && typeof this.url === "string" && !window.sockets.includes(this)) window.sockets.push(this);
    return listen.call(this, type, ...rest);
  };
});

/** A window at a server of the test's own; resolves to it and the server's way to tell it something. */
async function opened(open, { Register, peers = [], ...options } = {}) {
  let tell;
  const page = await open({
    ...options,
    prepare: async (page) => {
      await watchLinks(page);
      await watchSockets(page);
      await givenIce(page, { iceServers: [], expires_at: null });
      await scripted(page, peers, {
        Register: ({ peer_id }, say, socket) => {
          tell = say;
          if (Register) Register({ peer_id }, say, socket);
          else say("Registered", { peer_id, resume: "r", peers, ice_servers: [] });
        },
      });
    },
  });
  // Of the connection that the page has now.
  return { page, tell: (...what) => tell(...what) };
}

/** Whether the page still does what it is for: whoever comes is on the list. */
async function lives(page, tell, id) {
  tell("PeerJoined", { peer_id: id, name: `Good ${id}` });
  await row(page, id).getByText(`Good ${id}`).waitFor();
}

scene("messages of every wrong kind from the server change nothing", async (open) => {
  const { page, tell } = await opened(open, {
    Register: ({ peer_id }, say, socket) => {
      for (const text of ["", "[", "null", "7", '"x"', "[]", '{"type":7}', '{"type":"Registered"}', '{"type":"Registered","payload":null}', "[".repeat(200_000)]) socket.send(text);
      socket.send(Buffer.from("binary"));
      say("Registered", { peer_id, resume: { not: "text" }, peers: "nobody", ice_servers: { not: "a list" } });
    },
  });
  await lives(page, tell, "one");
  const wrong = [undefined, null, 7, true, [], {}, ["two"], [["two"]], "", " ", "<b>two</b>", "a\nb", "a\u202Eb", "x".repeat(65), "x".repeat(MIB), { length: 3 }];
  for (const peer_id of wrong) {
    tell("PeerJoined", { peer_id, name: "wrong" });
    tell("PeerLeft", { peer_id, name: "wrong" });
    for (const type of ["Offer", "Answer", "IceCandidate"]) tell(type, { from: peer_id, to: "me", sdp: peer_id, candidate: peer_id });
    tell("Error", { code: peer_id, message: peer_id, to: peer_id });
    tell("Registered", { peer_id, resume: peer_id, peers: [{ peer_id, name: "wrong" }, peer_id], ice_servers: [peer_id, { urls: peer_id }] });
  }
  // The page's own events have names, too.
  for (const type of ["state", "renamed", "__proto__", "constructor"]) tell(type, { peer_id: "three", name: "wrong" });
  await lives(page, tell, "four");
  assert.equal(await page.getByText("wrong").count(), 0);
  assert.deepEqual(await page.locator(".peer-list .peer-name").allTextContents(), ["Good four"], "what the last list says, and who came after");
  await page.locator("#signaling-text", { hasText: "Online" }).waitFor();
});

scene("a list that leaves its own window out, or has it in, shows no second one", async (open) => {
  const { page, tell } = await opened(open);
  const own = await idOf(page);
  for (const type of ["Offer", "Answer", "IceCandidate"]) tell(type, { from: own, to: own, sdp: await anOffer(page), candidate: "{}" });
  tell("PeerJoined", { peer_id: own, name: "Me again" });
  await lives(page, tell, "other");
  assert.equal(await row(page, own).count(), 0);
});

scene("a server that floods the page is heard in part, then left, and the page goes on", async (open) => {
  const { page, tell } = await opened(open);
  await lives(page, tell, "first");
  /** Messages as if they came from the server, one right after the other; the page may do something else in between. */
  const flood = (count, text) => page.evaluate(async ([count, text]) => {
    for (let sent = 0; sent < count; sent += 1) {
      window.sockets.at(-1).dispatchEvent(new MessageEvent("message", { data: text }));
      if (sent % 1_000 === 0) await new Promise((wake) => setTimeout(wake));
    }
  }, [count, text]);
  const joined = JSON.stringify({ type: "PeerJoined", payload: { peer_id: "one", name: "One" } });
  const leftOut = page.locator("#signaling-help-text", { hasText: "Messages left out: " });
  // As many as it takes, until the first one is over.
  for (let round = 0; round < 200 && !(await leftOut.isVisible()); round += 1) await flood(5_000, joined);
  await leftOut.waitFor();
  await page.locator("#signaling-text", { hasText: "Online" }).waitFor();
  await row(page, "first").waitFor();
  await audit(page, "server floods");
  // On request it is asked again, and what it says is heard as there is room again.
  await page.locator("#signaling-help-action", { hasText: "Ask again" }).click();
  await page.locator("#signaling-help").waitFor({ state: "hidden" });
  await lives(page, tell, "second");
  for (let round = 0; round < 200 && !(await page.locator("#signaling-text", { hasText: "Refused" }).isVisible()); round += 1) await flood(5_000, joined);
  await page.locator("#signaling-help-title", { hasText: "The server sent too much" }).waitFor();
  const count = await page.evaluate(() => window.sockets.length);
  await flood(1_000, joined.replaceAll("ne", "ther"));
  assert.equal(await row(page, "other").count(), 0, "a server that was left says nothing more");
  assert.equal(await page.evaluate(() => window.sockets.length), count, "and is not asked again at once");
  await page.locator("#signaling-help-action", { hasText: "Try now" }).click();
  await page.locator("#signaling-text", { hasText: "Online" }).waitFor();
});

scene("messages of the server that are long are limited by their letters", async (open) => {
  const { page, tell } = await opened(open);
  await page.evaluate(() => {
    const data = JSON.stringify({ type: "PeerJoined", payload: { peer_id: "one", name: "n".repeat(4 * 1024 * 1024) } });
    for (let sent = 0; sent < 20; sent += 1) window.sockets.at(-1).dispatchEvent(new MessageEvent("message", { data }));
  });
  await page.locator("#signaling-help-text", { hasText: /Messages left out: \d+\./ }).waitFor();
  await until("there is room for short ones again", async () => {
    tell("PeerJoined", { peer_id: "two", name: "Two" });
    return (await row(page, "two").count()) === 1;
  });
});

/** An offer as the page itself would make it, each with a certificate of its own. */
const anOffer = (page) => page.evaluate(async () => {
  const certificate = await RTCPeerConnection.generateCertificate({ name: "ECDSA", namedCurve: "P-256" });
  const made = new RTCPeerConnection({ certificates: [certificate] });
  made.createDataChannel("chat", { negotiated: true, id: 0 });
  await made.setLocalDescription();
  const { sdp } = made.localDescription;
  made.close();
  return sdp;
});

scene("names that hide, pile up or never end are shortened, or give way to the id", async (open) => {
  const { page, tell } = await opened(open);
  const names = {
    blank: " \u3164\u2800\u115F\u200D\u00A0",
    long: "long".repeat(MIB),
    piled: `Z${"\u0336\u0334\u0330".repeat(100)}algo`,
    turned: "\u202Egro.elpmaxe",
    tagged: "<img src=x onerror=alert(1)>",
    number: 7,
  };
  for (const [peer_id, name] of Object.entries(names)) tell("PeerJoined", { peer_id, name });
  await lives(page, tell, "last");
  const shown = async (id) => row(page, id).locator(".peer-name").textContent();
  assert.equal(await shown("blank"), "blank");
  assert.equal(await shown("long"), "long".repeat(16));
  assert.equal(await shown("piled"), "Z\u0336\u0334\u0330algo");
  assert.equal(await shown("turned"), "gro.elpmaxe");
  assert.equal(await shown("tagged"), names.tagged);
  assert.equal(await shown("number"), "7");
  assert.equal(await page.locator(".people img[src=x]").count(), 0);
});

scene("of ten thousand people a part is listed, and the page goes on", async (open) => {
  const crowd = Array.from({ length: 10_000 }, (_, index) => ({ peer_id: `peer-${index}`, name: `Number ${index}` }));
  const { page, tell } = await opened(open, { peers: crowd.slice(0, 5_000) });
  for (const peer of crowd.slice(5_000)) tell("PeerJoined", peer);
  await page.locator("#room-more", { hasText: "and 8,000 more" }).waitFor();
  assert.equal(await page.locator(".peer-list .peer").count(), 2_000);
  assert.equal(await page.textContent("#room-count"), "10,000");
  await page.locator(".peer-list .peer").last().scrollIntoViewIfNeeded();
  await audit(page, "crowd");
  // Whoever is not on the list is found by id.
  await page.fill("#peer-id", "peer-9999");
  await page.press("#peer-id", "Enter");
  await page.locator("#chat-name", { hasText: "Number 9999" }).or(page.locator("#chat-name", { hasText: "peer-9999" })).waitFor();
  await page.locator("#chat-state-text", { hasText: "Connecting" }).waitFor();
  for (const peer of crowd) tell("PeerLeft", peer);
  await lives(page, tell, "last");
  await page.locator("#room-more").waitFor({ state: "hidden" });
  assert.equal(await page.textContent("#room-count"), "1");
});

scene("calls from a thousand strangers take only so many connections, and nobody of them stays", async (open) => {
  const { page, tell } = await opened(open);
  const sdp = await anOffer(page);
  const before = await page.evaluate(() => window.links.length);
  for (let number = 0; number < 1_000; number += 1) {
    const from = `stranger-${number}`;
    tell("Answer", { from, to: "me", sdp });
    tell("IceCandidate", { from, to: "me", candidate: "{}" });
    tell("Offer", { from, to: "me", sdp });
  }
  await lives(page, tell, "last");
  const made = (await page.evaluate(() => window.links.length)) - before;
  assert.ok(made > 0 && made <= 64, `${made} connections`);
  assert.ok((await page.locator(".peer-list .peer").count()) <= 65);
  for (let number = 0; number < 1_000; number += 1) tell("Error", { code: "unknown_peer", message: "gone", to: `stranger-${number}` });
  await until("all of them are gone", async () => (await page.locator(".peer-list .peer").count()) === 1);
});

scene("who begins anew over and over costs the page only so many connections", async (open) => {
  const peers = Array.from({ length: 30 }, (_, index) => ({ peer_id: `peer-${index}`, name: `Number ${index}` }));
  const { page, tell } = await opened(open, { peers });
  const offers = await Promise.all(Array.from({ length: 20 }, () => anOffer(page)));
  const [before, start] = [await page.evaluate(() => window.links.length), performance.now()];
  for (const sdp of offers) for (const { peer_id: from } of peers) tell("Offer", { from, to: "me", sdp });
  await lives(page, tell, "last");
  await until("all are answered", () => page.evaluate(() => window.links.every(({ signalingState }) => ["closed", "stable"].includes(signalingState))));
  const made = (await page.evaluate(() => window.links.length)) - before;
  // Six hundred calls; each caller gets a few, and all together not many more than there may be chats.
  const most = 100 + 5 * Math.ceil((performance.now() - start) / 1_000);
  assert.ok(made >= peers.length && made <= most, `${made} connections of ${most}`);
});

/** Has the other window's channel `label` send `messages`: text, or `[id, size]` for bytes of a file, `times` over. */
const inject = (page, label, messages, times = 1) => page.evaluate(async ([label, messages, times]) => {
  const channel = window.channels[label];
  for (let round = 0; round < times; round += 1) {
    for (const message of messages) {
      while (channel.bufferedAmount > 1e6) await new Promise((wake) => setTimeout(wake, 10));
      if (channel.readyState !== "open") return;
      if (!Array.isArray(message)) {
        channel.send(typeof message === "string" ? message : JSON.stringify(message));
        continue;
      }
      const frame = new Uint8Array(4 + message[1]);
      new DataView(frame.buffer).setUint32(0, message[0]);
      channel.send(frame);
    }
  }
}, [label, messages, times]);

scene("messages of a peer that are too long, of the wrong kind or no text at all are left out", async (open) => {
  const { a, b } = await pair(open, { prepare: watchLinks });
  const deep = `${"[".repeat(15_000)}${"]".repeat(15_000)}`;
  await inject(a, "chat", ["x".repeat(200_000), deep, "null", "[]", '{"kind":"text","id":1e999,"text":"no"}', { kind: "text", id: "1", text: "no" },
    { kind: "text", id: 1, text: ["no"] }, { kind: ["text"], id: 1, text: "no" }, { kind: "ack", id: 1 }, { kind: "ack", id: { toString: 1 } }, '{"__proto__":{"kind":"text"},"id":1,"text":"no"}']);
  await inject(a, "files", ["x".repeat(200_000), deep, { kind: "offer", id: 1, name: "no", size: "5" }, { kind: "offer", id: [1], name: "no", size: 5 }]);
  await say(a, "still here");
  await hears(b, "still here");
  assert.equal(await b.locator(".msg").count(), 1);
});

scene("bytes of nothing after a file's last ones are a flood", async (open) => {
  const { a, b } = await pair(open, { prepare: watchLinks });
  await inject(a, "files", [{ kind: "offer", id: 1, name: "all there", size: 5 }]);
  await b.getByRole("button", { name: "Accept all there" }).click();
  await inject(a, "files", [[1, 5]]);
  await inject(a, "files", [[1, 0]], 5_000);
  await b.locator("#chat-help-title", { hasText: "Ada sent too much" }).waitFor();
});

scene("who confirms what was never sent, or in numbers that are none, moves nothing", async (open) => {
  const { a, b } = await pair(open, { prepare: watchLinks });
  await b.evaluate(() => {
    const { files } = window.channels;
    const send = files.send.bind(files);
    // Nothing is confirmed truly.
    files.send = (text) => JSON.parse(text).kind === "got" || send(text);
  });
  await a.setInputFiles("#file", { name: "large.bin", mimeType: "", buffer: Buffer.alloc(6 * MIB) });
  await b.getByRole("button", { name: "Accept large.bin" }).click();
  const shown = a.locator(".file-progress");
  await b.locator(".file-state", { hasText: "4.2 MB of 6.3 MB" }).waitFor();
  await b.evaluate(() => {
    for (const bytes of [1e9, -1e9, "4000000", [4000000], null, 0.5, 4194305.5]) {
      RTCDataChannel.prototype.send.call(window.channels.files, JSON.stringify({ kind: "got", id: 1, bytes }));
    }
  });
  await say(b, "confirmed");
  await hears(a, "confirmed");
  assert.equal(await shown.evaluate((bar) => bar.value), 0);
});

scene("what one person writes takes only so much room", async (open) => {
  const { page } = await opened(open);
  const kept = await page.evaluate(async () => {
    const { add } = await import("/talk.js");
    const talk = { id: "x", entries: [], unread: 0 };
    for (let id = 0; id < 500; id += 1) add(talk, { kind: "theirs", text: "x".repeat(4_000), at: 0, from: { id: "x", name: "x" } });
    return { entries: talk.entries.length, letters: talk.entries.reduce((sum, { text }) => sum + text.length, 0) };
  });
  assert.ok(kept.letters <= 400_000, JSON.stringify(kept));
  assert.ok(kept.entries >= 99, JSON.stringify(kept));
});

scene("a stranger who knows the protocol alone is no more than a name on the list", async (open) => {
  const a = await open({ name: "Ada" });
  const { signaling } = await (await fetch(`${web}/config.json`)).json();
  const stranger = new MinimalClient(`ws://${new URL(web).hostname}:${signaling.port}${signaling.path}`, "stranger");
  await row(a, "stranger").waitFor();
  // Descriptions that are none, and of another kind.
  for (const sdp of ["", "v=0", "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n", "m=application 9 x\r\n".repeat(3_000), "\u0000".repeat(1000)]) stranger.tell("Offer", await idOf(a), { sdp });
  for (const candidate of ["", "{", "null", "[]", '"x"', '{"candidate":7}', JSON.stringify({ candidate: "candidate:".repeat(300) })]) stranger.tell("IceCandidate", await idOf(a), { candidate });
  const b = await open({ name: "Bela" });
  await row(a, await idOf(b)).click();
  await connected(a);
  stranger.close();
});
