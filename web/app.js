// The page: starts everything, and brings what the signaling server says to where it belongs.

import { followHash, takeToken, wire } from "./controls.js";
import { cleanName, isId } from "./identity.js";
import { connect, report, signalled } from "./links.js";
import { Signaling } from "./signaling.js";
import { MAX_LISTED, MAX_UNLISTED, openPeers, peerOf, store, tidy } from "./store.js";
import { note, paint, paintSoon } from "./talk.js";
import * as view from "./view.js";

const { identity, peers, unlisted, ice } = store;

function listen(signaling) {
  signaling.addEventListener("state", () => {
    store.failures = signaling.state === "online" ? 0 : store.failures + (signaling.state === "waiting" ? 1 : 0);
    paintSignaling();
    paint();
  });
  signaling.addEventListener("renamed", () => view.paintSelf(identity));
  signaling.addEventListener("Registered", ({ detail }) => registered(detail));
  signaling.addEventListener("PeerJoined", ({ detail }) => {
    const known = peers.get(detail.peer_id)?.present;
    const peer = present(detail);
    if (peer && !known && !peer.blocked) view.announce(`${view.nameOf(peer)} is here`);
    paintSoon();
  });
  signaling.addEventListener("PeerLeft", ({ detail }) => {
    const peer = peers.get(detail.peer_id);
    if (!peer) unlisted.delete(detail.peer_id);
    else {
      left(peer);
      if (!peer.blocked) view.announce(`${view.nameOf(peer)} left`);
    }
    listMore();
    paintSoon();
  });
  for (const type of ["Offer", "Answer", "IceCandidate"]) {
    signaling.addEventListener(type, ({ detail }) => isId(detail.from) && signalled(type, detail));
  }
  signaling.addEventListener("Error", ({ detail }) => {
    const peer = peers.get(detail.to);
    if (detail.code === "unknown_peer") peer?.link?.onUndelivered(peer.present ? "away" : "gone");
    else if (detail.code === "peer_busy") peer?.link?.onUndelivered("busy");
    else console.warn("signaling", String(detail.code).slice(0, 100), String(detail.message).slice(0, 300));
  });
}

const paintSignaling = () => view.paintSignaling(store.signaling, store.signalingUrl, store.failures, openPeers().length);

function registered({ peers: told, ice_servers: given }) {
  view.paintSelf(identity);
  ice.fallBackOn(given);
  const here = (Array.isArray(told) ? told : []).filter((peer) => isId(peer?.peer_id));
  unlisted.clear();
  const ids = new Set(here.map((peer) => peer.peer_id));
  for (const peer of [...peers.values()]) if (!ids.has(peer.id)) left(peer);
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
  if (!isId(id) || id === identity.id) return null;
  const clean = cleanName(String(name ?? ""));
  if (!peers.has(id) && peers.size >= MAX_LISTED) {
    if (unlisted.size < MAX_UNLISTED) unlisted.set(id, clean);
    return null;
  }
  const peer = peerOf(id);
  const before = peer.present ? view.nameOf(peer) : "";
  peer.present = true;
  peer.name = clean;
  const now = view.nameOf(peer);
  if (before && before !== now && peer.state === "open") note(peer, `${before} is now called ${now}`);
  peer.link?.resume();
  if (peer.wanted && peer.state === "failed" && ["gone", "away"].includes(peer.reason)) connect(peer);
  return peer;
}

function left(peer) {
  if (peer.present) peer.goneAt = Date.now();
  peer.present = false;
  tidy(peer);
}

/** Lists some of those for whom there was no place. */
function listMore() {
  for (const [id, name] of unlisted) {
    if (peers.size >= MAX_LISTED) return;
    unlisted.delete(id);
    present({ peer_id: id, name });
  }
}

/** There is no signaling server, or nobody to ask where it is. */
function without(state) {
  store.unserved = state;
  view.paintSignaling({ state, retryAt: 0 }, "", 0);
  paint();
}

/** Asks the web server where the signaling server is, until it says so. */
async function configuration() {
  for (let delay = 500; ; delay = Math.min(delay * 2, 8_000)) {
    try {
      const answer = await fetch("/config.json");
      if (answer.ok) return await answer.json();
    } catch {
      // It is away, or starting.
    }
    if (delay > 500) without("unserved");
    await new Promise((wake) => setTimeout(wake, delay));
  }
}

/** Credentials end; calls through a relay go on with the next ones. */
ice.addEventListener("renewed", () => {
  for (const peer of peers.values()) peer.link?.renew();
});

async function begin() {
  takeToken();
  view.paintSelf(identity);
  wire();
  paint();
  const asked = ice.ask();
  const { signaling: server } = await configuration();
  if (!server) return without("off");
  await asked;
  const scheme = server.secure || location.protocol === "https:" ? "wss" : "ws";
  store.signalingUrl = `${scheme}://${location.hostname}:${server.port}${server.path}`;
  store.unserved = "";
  const signaling = new Signaling(store.signalingUrl, identity);
  store.signaling = signaling;
  listen(signaling);
  signaling.connect();
  setInterval(() => (signaling.retryAt || signaling.leftOut) && paintSignaling(), 1_000);
}

begin();
