// Every state that the page can be in, by a signaling server that a test plays: what is said, that everybody can read it, and a picture.
import assert from "node:assert/strict";
import { audit, fits, narrow } from "./audit.mjs";
import { ROOM, givenIce, picture, row, scripted, stage, until, watchLinks } from "./support.mjs";

const scene = stage();
const BELA = { peer_id: "calm-otter-0001", name: "Bela" };
const SOMEBODY = [BELA, { peer_id: "a".repeat(64), name: "Maximiliane Friederike von und zu Hohenlangenburg-Schillingsfürst" }, { peer_id: "no-name", name: "" }];
const LATER_MS = 21_000;

/** A window whose signaling server answers as `answers` say, and whose clock the test moves. */
const opened = (open, answers = {}, { peers = SOMEBODY, ice = [], registered = true, ...rest } = {}) => open({
  registered,
  prepare: async (page) => {
    await page.clock.install();
    await watchLinks(page);
    await givenIce(page, { iceServers: ice, expires_at: null });
    await scripted(page, peers, answers);
  },
  ...rest,
});

const token = `${Buffer.from("{}").toString("base64url")}.${Buffer.from('{"sub":"alice"}').toString("base64url")}.x`;
const refusing = (code, message) => ({ Register: (_, tell) => tell("Error", { code, message }) });
const closing = (code, reason) => ({ Register: (_, tell, socket) => socket.close({ code, reason }) });

for (const [what, title, pill, answers, options] of [
  ["asked for a token", "You need an invitation", "Refused", refusing("token_required", "this server asks for a token")],
  ["with a token of yesterday", "You need an invitation", "Refused", refusing("token_expired", "the token has expired")],
  ["with a token in use", "Your invitation is in use", "Refused", refusing("id_taken", "somebody else has this id"), { hash: `#token=${token}` }],
  ["one of too many joins", "Many have just come from your address", "Refused", refusing("too_many_joins", "too many")],
  ["at a full room", "This room is full", "Refused", refusing("room_full", "lobby holds 1000 peers and is full")],
  ["not understood", "refuses this window", "Refused", refusing("bad_message", "missing field `peer_id`")],
  ["at a full server", "The signaling server is full", "Refused", closing(1013, "server full")],
  ["one of too many windows", "Too many windows from your address", "Refused", closing(1013, "too many connections")],
  ["told to pause", "The server wants a pause", "Refused", closing(1008, "rate limit")],
  ["replaced", "You are in another window", "Moved", closing(4001, "replaced")],
]) {
  scene(`a window that is ${what} reads why`, async (open) => {
    const a = await opened(open, answers, { registered: false, ...options });
    await a.locator("#signaling-help-title", { hasText: title }).waitFor();
    assert.equal(await a.textContent("#signaling-text"), pill);
    // Of chats that go on only where there are some.
    assert.doesNotMatch(await a.textContent("body"), /Open (ones|chats) go on/);
    await audit(a, `window ${what}`);
    await narrow(a);
    await fits(a);
    await picture(a, `window-${what.replaceAll(" ", "-")}-narrow-dark`);
  });
}

scene("while nothing is known yet, the page says whom it asks", async (open) => {
  const a = await opened(open, { Register: () => {} }, { registered: false });
  await a.locator("#welcome-title", { hasText: "One moment" }).waitFor();
  assert.equal(await a.textContent("#signaling-text"), "Connecting");
  await audit(a, "registering");
});

for (const [what, answer, title, pill] of [
  ["a web server that does not answer any more", (route) => route.fulfill({ status: 503 }), "The web server does not answer", "Offline"],
  ["a network without signaling", (route) => route.fulfill({ json: { signaling: null } }), "No signaling server", "No signaling"],
]) {
  scene(`${what} is called that`, async (open) => {
    const a = await open({ registered: false, prepare: (page) => page.route("**/config.json", answer) });
    await a.locator("#signaling-help-title", { hasText: title }).waitFor();
    assert.equal(await a.textContent("#signaling-text"), pill);
    await audit(a, what);
    await narrow(a);
    await fits(a);
    await picture(a, `${what.replaceAll(" ", "-")}-narrow-dark`);
  });
}

const undelivered = (code) => ({ Offer: ({ to }, tell) => tell("Error", { code, message: code, to }) });
/** What the browser finds out about a relay, said by the test. */
const relay = [{ urls: ["turn:127.0.0.1:9?transport=tcp"], username: "u", credential: "c" }];
const relayError = (errorCode) => (page) => page.evaluate((errorCode) => {
  const event = new RTCPeerConnectionIceErrorEvent("icecandidateerror", { url: "turn:127.0.0.1:9?transport=tcp", errorCode });
  window.links.at(-1).dispatchEvent(event);
}, errorCode);
const relayed = (page) => page.evaluate(() => {
  const candidate = new RTCIceCandidate({ candidate: "candidate:1 1 udp 1 127.0.0.1 9 typ relay raddr 0.0.0.0 rport 0", sdpMid: "0" });
  window.links.at(-1).dispatchEvent(new RTCPeerConnectionIceEvent("icecandidate", { candidate }));
});

for (const [reason, title, tone, { answers = {}, ice = [], then = () => {} }] of [
  ["nobody of that id", "Bela has left", "wait", { answers: undelivered("unknown_peer"), then: (page, leave) => leave() }],
  ["somebody who is away", "Bela is away for a moment", "wait", { answers: undelivered("unknown_peer") }],
  ["somebody who reads nothing", "Bela is not answering", "bad", { answers: undelivered("peer_busy") }],
  ["no relay", "No way through to Bela", "bad", {}],
  ["a relay that refuses", "The relay refused this window", "bad", { ice: relay, then: relayError(401) }],
  ["a relay without room", "The relay has no room", "bad", { ice: relay, then: relayError(486) }],
  ["a silent relay", "No way through to Bela", "bad", { ice: relay, then: relayError(701) }],
  ["a relay and no route", "No way through to Bela", "bad", { ice: relay, then: relayed }],
]) {
  scene(`a chat that does not come about because of ${reason} says so`, async (open) => {
    let leave;
    const Register = ({ peer_id }, tell) => {
      leave = () => tell("PeerLeft", BELA);
      tell("Registered", { peer_id, resume: "r", peers: SOMEBODY, ice_servers: [] });
    };
    const a = await opened(open, { Register, ...answers }, { ice });
    await row(a, BELA.peer_id).click();
    await a.locator("#chat-state-text", { hasText: "Connecting" }).waitFor();
    await until("a connection", () => a.evaluate(() => window.links.at(-1)?.signalingState === "have-local-offer"));
    if (reason === "no relay") await audit(a, "connecting");
    await then(a, leave);
    await until("it is given up", async () => {
      await a.clock.fastForward(LATER_MS / 10);
      return a.isVisible("#chat-help");
    });
    assert.equal(await a.textContent("#chat-help-title"), title);
    assert.equal(await a.getAttribute("#chat-help", "data-tone"), tone);
    await audit(a, `chat failed by ${reason}`);
    await narrow(a);
    await fits(a);
    await picture(a, `chat-failed-by-${reason.replaceAll(" ", "-")}-narrow-dark`);
  });
}

scene("who is called while the server is away is called once it is back", async (open) => {
  let calls = 0;
  let away = false;
  let socket;
  const a = await opened(open, {
    Register: ({ peer_id }, tell, own) => {
      if (away) return own.close({ code: 3000 });
      socket = own;
      tell("Registered", { peer_id, resume: "r", peers: SOMEBODY, ice_servers: [] });
    },
    Offer: () => { calls += 1; },
  });
  away = true;
  await socket.close({ code: 3000 });
  await a.locator("#signaling-text", { hasText: "Offline" }).waitFor();
  await row(a, BELA.peer_id).click();
  await a.locator("#chat-help-title", { hasText: "signaling server is out of reach" }).waitFor();
  await until("the page complains", async () => {
    await a.clock.fastForward(10_000);
    return a.isVisible("#signaling-help");
  });
  await audit(a, "chat waits for signaling");
  away = false;
  await until("a call", async () => {
    await a.clock.fastForward(10_000);
    return calls > 0;
  });
});

scene("everybody at once: who leaves before the connection is not waited for, and there is a most", async (open) => {
  const peers = Array.from({ length: 66 }, (_, index) => ({ peer_id: `peer-${String(index).padStart(2, "0")}`, name: `Number ${index}` }));
  let tell;
  const a = await opened(open, {
    Register: ({ peer_id }, say) => {
      tell = say;
      tell("Registered", { peer_id, resume: "r", peers, ice_servers: [] });
    },
  }, { peers });
  await row(a, ROOM).click();
  await a.locator("#chat-action", { hasText: "Connect to everyone" }).click();
  // The first ones at once, the others by and by.
  await a.clock.runFor(44 * 250);
  const called = () => a.evaluate(() => [...document.querySelectorAll(".peer-state")].filter(({ textContent }) => textContent === "Connecting…").length);
  await until("as many as may be are called", async () => (await called()) === 64);
  // The state is said once; there is nobody left to connect to but those who are too many.
  assert.equal(await a.textContent("#chat-state-text"), "Connecting to 64…");
  await audit(a, "room connecting");
  // Called, and gone before the server could hand the call over.
  tell("PeerLeft", peers[0]);
  tell("Error", { code: "unknown_peer", message: "gone", to: "peer-00" });
  await row(a, "peer-00").waitFor({ state: "detached" });
  await row(a, "peer-64").click();
  await a.locator("#chat-state-text", { hasText: "Connecting" }).waitFor();
  await row(a, "peer-65").click();
  await a.locator("#chat-help-title", { hasText: "Too many chats at once" }).waitFor();
  await audit(a, "too many chats");
});
