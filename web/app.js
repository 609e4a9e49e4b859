// The page: keeps who is here and what was said, and joins signaling, links and view.

import { byId, copy } from "./dom.js";
import { Identity, cleanName, isId } from "./identity.js";
import { Link } from "./link.js";
import { Signaling } from "./signaling.js";
import * as view from "./view.js";

const MAX_LINKS = 64;
const MAX_ENTRIES = 500;
const REPORT_INTERVAL_MS = 10_000;

const identity = new Identity();
const peers = new Map();
let selected = null;
let signaling = null;
let signalingUrl = "";
/** What takes the place of the signaling's state while there is none. */
let unserved = "connecting";
let iceServers = [];
/** Tries in a row that led nowhere; the first one is over before anybody could read about it. */
let failures = 0;

// --- people ----------------------------------------------------------------------------------------------

function peerOf(id) {
  let peer = peers.get(id);
  if (!peer) {
    peer = { id, name: "", present: false, link: null, state: "idle", reason: "", path: "", rtt: undefined, wanted: false, unread: 0, entries: [] };
    peers.set(id, peer);
  }
  return peer;
}

/** Forgets a peer that is gone and with whom nothing was said, unless this side asked for it and waits until it comes. */
function tidy(peer) {
  const idle = ["idle", "closed"].includes(peer.state) || (peer.state === "failed" && !peer.wanted);
  if (!peer.present && idle && peer.entries.length === 0 && selected !== peer.id) peers.delete(peer.id);
}

/** Whether who is here is known; else it is who was here last. */
function informed() {
  const state = signaling?.state ?? unserved;
  return state === "online" || (["connecting", "waiting"].includes(state) && failures < 2 && !signaling?.refusal);
}

function paint() {
  view.paintPeople([...peers.values()], selected, select, signaling?.state ?? unserved, informed());
  view.paintConversation(selected ? peers.get(selected) : null);
}

function note(peer, text) {
  add(peer, { kind: "note", text, at: Date.now() });
}

function add(peer, entry) {
  peer.entries.push(entry);
  if (peer.entries.length > MAX_ENTRIES) peer.entries.shift();
  view.append(peer, entry);
}

/** A click on somebody: shows the conversation, and connects if there is no connection. */
function select(id) {
  const before = selected;
  selected = id;
  const peer = peerOf(id);
  peer.unread = 0;
  if (before && before !== id && peers.has(before)) tidy(peers.get(before));
  if (["idle", "closed", "failed"].includes(peer.state)) connect(peer);
  paint();
  view.showPane("talk");
  byId(peer.state === "open" ? "message" : "conversation").focus();
}

// --- links -----------------------------------------------------------------------------------------------

function connect(peer) {
  peer.wanted = true;
  if (signaling?.state !== "online") return fail(peer, "signaling");
  link(peer)?.start();
}

function fail(peer, reason) {
  peer.state = "failed";
  peer.reason = reason;
  paint();
}

/** A new link with `peer` in place of the one there was; null if there are too many. */
function link(peer) {
  const open = [...peers.values()].filter((other) => other.link && other !== peer).length;
  if (open >= MAX_LINKS) {
    fail(peer, "too-many");
    return null;
  }
  peer.link?.close();
  const link = new Link({
    selfId: identity.id,
    peerId: peer.id,
    iceServers,
    signal: (type, fields) => signaling.send(type, { from: identity.id, to: peer.id, ...fields }),
  });
  peer.link = link;
  const current = (handler) => (event) => peer.link === link && handler(event.detail);
  link.addEventListener("state", current(() => linkChanged(peer, link)));
  link.addEventListener("stats", current(() => {
    const moved = peer.path !== link.path;
    Object.assign(peer, { path: link.path, rtt: link.rtt });
    if (moved) report(peer);
    paint();
  }));
  link.addEventListener("text", current(({ text }) => receive(peer, text)));
  link.addEventListener("delivered", current(({ id }) => settle(peer, (entry) => entry.id === id, "delivered")));
  peer.state = "connecting";
  peer.reason = "";
  return link;
}

function linkChanged(peer, link) {
  const before = peer.state;
  Object.assign(peer, { state: link.state, reason: link.reason });
  const name = view.nameOf(peer);
  if (peer.state === "open") {
    if (before !== "interrupted") {
      peer.wanted = true;
      note(peer, `Connected to ${name}`);
    }
    view.announce(`Connected to ${name}`);
  } else if (peer.state === "interrupted") {
    // What broke it may have broken the way to the server as well.
    signaling?.check();
  } else if (peer.state === "closed" || peer.state === "failed") {
    peer.link = null;
    peer.path = "";
    peer.rtt = undefined;
    report(peer);
    settle(peer, (entry) => entry.kind === "own" && entry.delivery === "sent", "lost");
    if (before === "open" || before === "interrupted") {
      note(peer, link.reason === "here" ? "You disconnected" : link.reason === "there" ? `${name} disconnected` : "The connection was lost");
      view.announce(`Disconnected from ${name}`);
    }
    // Somebody asked for by id who is not here yet: connected when they come.
    if (peer.state === "closed") peer.wanted = false;
    tidy(peer);
  }
  const writing = selected === peer.id && before !== "open" && peer.state === "open";
  paint();
  if (writing && [document.body, byId("conversation"), byId("chat-help-action")].includes(document.activeElement)) byId("message").focus();
}

/** Notes what became of a message of one's own. */
function settle(peer, which, delivery) {
  for (const entry of peer.entries) {
    if (entry.kind === "own" && entry.delivery === "sent" && which(entry)) {
      entry.delivery = delivery;
      view.paintDelivery(entry);
    }
  }
}

function receive(peer, text) {
  add(peer, { kind: "theirs", text, at: Date.now() });
  if (selected !== peer.id || document.visibilityState === "hidden") {
    peer.unread += 1;
    if (selected !== peer.id) view.announce(`Message from ${view.nameOf(peer)}`);
  }
  paint();
}

/** Tells the server how a connection is doing; it counts them. */
function report(peer) {
  const { link, path, rtt } = peer;
  const connected = link && peer.state === "open";
  if (connected && !path) return;
  const payload = { to: peer.id, state: connected ? "connected" : "closed" };
  if (connected) Object.assign(payload, { connection_type: path, bytes_sent: link.bytesSent, bytes_received: link.bytesReceived, rtt });
  signaling?.send("Report", payload);
}

// --- signaling -------------------------------------------------------------------------------------------

function listen() {
  signaling.addEventListener("state", () => {
    failures = signaling.state === "online" ? 0 : failures + (signaling.state === "waiting" ? 1 : 0);
    view.paintSignaling(signaling, signalingUrl, failures);
    paint();
  });
  signaling.addEventListener("renamed", () => view.paintSelf(identity));
  signaling.addEventListener("Registered", ({ detail }) => registered(detail));
  signaling.addEventListener("PeerJoined", ({ detail }) => {
    const known = peers.get(detail.peer_id)?.present;
    present(detail);
    if (!known) view.announce(`${view.nameOf(peerOf(detail.peer_id))} is here`);
    paint();
  });
  signaling.addEventListener("PeerLeft", ({ detail }) => {
    const peer = peers.get(detail.peer_id);
    if (!peer) return;
    peer.present = false;
    view.announce(`${view.nameOf(peer)} left`);
    tidy(peer);
    paint();
  });
  for (const type of ["Offer", "Answer", "IceCandidate"]) {
    signaling.addEventListener(type, ({ detail }) => {
      if (!isId(detail.from ?? "")) return;
      const peer = peerOf(detail.from);
      if (type === "Offer" && !peer.link) link(peer);
      if (type === "IceCandidate") peer.link?.onCandidate(detail.candidate);
      else peer.link?.onDescription(type.toLowerCase(), detail.sdp);
      paint();
    });
  }
  signaling.addEventListener("Error", ({ detail }) => {
    const peer = peers.get(detail.to);
    if (detail.code === "unknown_peer") peer?.link?.onUndelivered(peer.present ? "away" : "gone");
    else if (detail.code === "peer_busy") peer?.link?.onUndelivered("busy");
    else console.warn("signaling", detail.code, detail.message);
  });
}

function registered({ peers: here, ice_servers: given }) {
  view.paintSelf(identity);
  if (Array.isArray(given) && given.length) iceServers = given;
  const ids = new Set(here.map((peer) => peer.peer_id));
  for (const peer of [...peers.values()]) {
    if (!ids.has(peer.id)) {
      peer.present = false;
      tidy(peer);
    }
  }
  here.forEach(present);
  // Connections of before a reload.
  for (const id of identity.talks) if (ids.has(id)) connect(peerOf(id));
  identity.update({ talks: [] });
  for (const peer of peers.values()) {
    peer.link?.resume();
    if (peer.state === "open") report(peer);
    else if (peer.wanted && peer.reason === "signaling") connect(peer);
  }
  followHash();
  paint();
}

function present({ peer_id: id, name }) {
  if (!isId(id ?? "") || id === identity.id) return;
  const peer = peerOf(id);
  peer.present = true;
  peer.name = cleanName(String(name ?? ""));
  peer.link?.resume();
  if (peer.wanted && peer.state === "failed" && ["gone", "away"].includes(peer.reason)) connect(peer);
}

// --- by id and by link -----------------------------------------------------------------------------------

function connectById(text) {
  const id = text.trim().replace(/^.*#peer=/, "");
  if (!isId(id)) return "An id is made of letters, digits, dots, - and _.";
  if (id === identity.id) return "That is your own id.";
  select(id);
  return "";
}

function followHash() {
  const id = new URLSearchParams(location.hash.slice(1)).get("peer");
  if (!id) return;
  history.replaceState(null, "", location.pathname);
  byId("by-id-error").textContent = connectById(id);
}

// --- the user --------------------------------------------------------------------------------------------

function wire() {
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    const field = byId("message");
    const peer = peers.get(selected);
    const text = field.value.trim();
    if (!peer?.link || !text) return;
    const id = peer.link.send(text);
    add(peer, { kind: "own", text, at: Date.now(), id, delivery: id ? "sent" : "lost" });
    field.value = "";
    field.focus();
  });
  byId("message").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    byId("composer").requestSubmit();
  });
  byId("chat-action").addEventListener("click", () => {
    const peer = peers.get(selected);
    if (peer.link) peer.link.close();
    else connect(peer);
    paint();
  });
  byId("chat-help-action").addEventListener("click", () => {
    connect(peers.get(selected));
    paint();
    byId("conversation").focus();
  });
  byId("back").addEventListener("click", () => {
    const id = selected;
    selected = null;
    if (peers.has(id)) tidy(peers.get(id));
    paint();
    view.showPane("people");
    document.querySelector(`[data-peer="${CSS.escape(id)}"]`)?.focus();
  });
  byId("by-id").addEventListener("submit", (event) => {
    event.preventDefault();
    const problem = connectById(byId("peer-id").value);
    byId("by-id-error").textContent = problem;
    if (!problem) byId("peer-id").value = "";
  });
  byId("name").addEventListener("change", () => {
    identity.update({ name: cleanName(byId("name").value) });
    byId("name").value = identity.name;
    view.paintSelf(identity);
    if (signaling?.state === "online" || signaling?.refusal) signaling.connect();
  });
  byId("name").addEventListener("keydown", (event) => event.key === "Enter" && byId("name").blur());
  byId("signaling-help-action").addEventListener("click", () => {
    if (signaling.state === "replaced") {
      identity.renew();
      view.paintSelf(identity);
    }
    signaling.connect();
  });
  for (const id of ["copy-link", "share-copy"]) {
    byId(id).addEventListener("click", async () => {
      const copied = await copy(view.linkTo(identity.id));
      view.announce(copied ? "Link copied" : "The link could not be copied");
      if (!copied) return;
      byId(id).classList.add("done");
      if (id === "share-copy") byId(id).textContent = "Copied";
      setTimeout(() => {
        byId(id).classList.remove("done");
        if (id === "share-copy") byId(id).textContent = "Copy link";
      }, 2_000);
    });
  }
  addEventListener("hashchange", followHash);
  document.addEventListener("visibilitychange", () => {
    const peer = peers.get(selected);
    if (peer && document.visibilityState === "visible") {
      peer.unread = 0;
      paint();
    }
  });
  addEventListener("pagehide", () => {
    identity.leave([...peers.values()].filter((peer) => peer.state === "open").map((peer) => peer.id));
    for (const peer of peers.values()) peer.link?.close();
  });
  // Back from the browser's cache of pages: everything was closed when it went in.
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  setInterval(() => {
    for (const peer of peers.values()) if (peer.state === "open") report(peer);
  }, REPORT_INTERVAL_MS);
  setInterval(() => signaling?.retryAt && view.paintSignaling(signaling, signalingUrl, failures), 1_000);
}

/** There is no signaling server, or nobody to ask where it is. */
function without(state) {
  unserved = state;
  view.paintSignaling({ state, retryAt: 0 }, "", 0);
  paint();
}

async function begin() {
  view.paintSelf(identity);
  wire();
  paint();
  let config = null;
  for (let delay = 500; !config; delay = Math.min(delay * 2, 8_000)) {
    try {
      const [page, ice] = await Promise.all(["/config.json", "/ice"].map(async (path) => (await fetch(path)).json()));
      config = page;
      iceServers = ice.iceServers;
    } catch {
      if (delay > 500) without("unserved");
      await new Promise((wake) => setTimeout(wake, delay));
    }
  }
  if (!config.signaling) return without("off");
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  signalingUrl = `${scheme}://${location.hostname}:${config.signaling.port}${config.signaling.path}`;
  unserved = "";
  signaling = new Signaling(signalingUrl, identity);
  listen();
  signaling.connect();
}

begin();
