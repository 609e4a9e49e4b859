// The connections to the others: makes and ends them, hears what they carry, and reports them to the server.

import { Chat } from "./chat.js";
import { byId } from "./dom.js";
import * as files from "./files.js";
import { MAX_BLOCKED } from "./identity.js";
import { Bucket } from "./limits.js";
import { Link } from "./link.js";
import { current, openPeers, peerOf, store, tidy } from "./store.js";
import { add, arrived, note, own, paint, paintSoon, settle } from "./talk.js";
import { announce, nameOf } from "./view.js";
import { noteWords } from "./words.js";

const MAX_LINKS = 64;
/** Somebody who sent too much is not let in again for so long, unless this side asks for it. */
const SHUN_MS = 60_000;
const NOTE_FLOOD_EVERY_MS = 30_000;
/** The server's `message_burst`, and what a connection needs of it: those over it wait for the sustained rate. */
const CROWD = 20;
const CROWD_PACE_MS = 250;

/** Makes a connection; `wanted`: also later, where it is not possible now. */
export function connect(peer, wanted = true) {
  if (peer.blocked) return;
  peer.wanted = wanted;
  peer.shunnedUntil = 0;
  if (store.signaling?.state !== "online") return fail(peer, "signaling");
  newLink(peer)?.start();
  paintSoon();
}

/** Connects to everyone who is here. */
export function connectToAll() {
  const others = [...store.peers.values()].filter((peer) => peer.present && !peer.blocked && unconnected(peer));
  const connectIfNot = (peer) => peer.present && unconnected(peer) && connect(peer, false);
  others.slice(0, MAX_LINKS).forEach((peer, index) => {
    if (index < CROWD) connectIfNot(peer);
    else setTimeout(connectIfNot, (index - CROWD + 1) * CROWD_PACE_MS, peer);
  });
  paint();
}

/** Takes nothing of `peer` from now on, under the id that the server vouches for; what stands in the way, or nothing. */
export function block(peer) {
  const { identity } = store;
  if (peer.blocked) return "";
  if (identity.blocked.length >= MAX_BLOCKED) return "So many are blocked that there is no room for another one. Unblock somebody first.";
  identity.update({ blocked: [...identity.blocked, { id: peer.id, name: peer.name }] });
  peer.blocked = true;
  peer.link?.close();
  Object.assign(peer, { wanted: false, state: "idle", reason: "", unread: 0 });
  note(peer, noteWords.blocked(nameOf(peer)));
  announce(noteWords.blocked(nameOf(peer)));
  tidy(peer);
  paint();
  return "";
}

/** Takes calls from `id` again. */
export function unblock(id) {
  const { identity, peers } = store;
  const who = identity.blocked.find((blocked) => blocked.id === id);
  if (!who) return;
  identity.update({ blocked: identity.blocked.filter((other) => other !== who) });
  const peer = peers.get(id);
  if (peer) {
    peer.blocked = false;
    note(peer, noteWords.unblocked(nameOf(peer)));
    tidy(peer);
  }
  announce(noteWords.unblocked(peer ? nameOf(peer) : nameOf(who)));
  paint();
}

export const unconnected = (peer) => ["idle", "closed", "failed"].includes(peer.state);

const linkCount = (but) => [...store.peers.values()].filter((other) => other.link && other !== but).length;

/** Connections that others make this page begin: each costs some milliseconds, and memory until the browser has cleaned up. */
const begun = new Bucket(100, 5);

/** Whether `peer` may have this page begin one more. */
function mayBegin(peer) {
  peer.begun ??= new Bucket(12, 0.5);
  return peer.begun.take() && begun.take();
}

function fail(peer, reason) {
  peer.state = "failed";
  peer.reason = reason;
  paint();
}

/** A new link with `peer` in place of the one there was; null if there are too many. */
function newLink(peer) {
  if (linkCount(peer) >= MAX_LINKS) {
    fail(peer, "too-many");
    return null;
  }
  peer.link?.close();
  const chat = new Chat();
  const transfers = files.service(peer);
  const link = new Link({
    selfId: store.identity.id,
    peerId: peer.id,
    ice: store.ice,
    mayBegin: () => mayBegin(peer),
    signal: (type, fields) => store.signaling.send(type, { from: store.identity.id, to: peer.id, ...fields }),
    services: [chat, transfers],
  });
  Object.assign(peer, { link, chat, files: transfers, state: "connecting", reason: "" });
  const ours = (handler) => ({ detail }) => peer.link === link && handler(detail);
  link.addEventListener("state", ours(() => changed(peer, link)));
  link.addEventListener("stats", ours(() => {
    const moved = peer.path !== link.meter.path;
    Object.assign(peer, { path: link.meter.path, rtt: link.meter.rtt });
    if (moved) report(peer);
    paint();
  }));
  chat.addEventListener("text", ours(({ text, all }) => {
    const entry = { kind: "theirs", text, at: Date.now(), from: { id: peer.id, name: nameOf(peer) } };
    arrived(all ? store.room : peer, entry, all ? `Message to everyone from ${nameOf(peer)}` : `Message from ${nameOf(peer)}`);
  }));
  chat.addEventListener("delivered", ours(({ id }) => settle(peer, "delivered", id)));
  for (const source of [chat, transfers, link]) source.addEventListener("flood", ours(({ over }) => flooded(peer, over)));
  return link;
}

/** The peer sends more than the page takes: said now and then, and ended when it is too much. */
function flooded(peer, over) {
  if (over) {
    peer.shunnedUntil = Date.now() + SHUN_MS;
    return peer.link.close("flood");
  }
  if (Date.now() - (peer.floodNotedAt ?? -Infinity) < NOTE_FLOOD_EVERY_MS) return;
  peer.floodNotedAt = Date.now();
  note(peer, noteWords.flooding(nameOf(peer)));
}

function changed(peer, link) {
  const before = peer.state;
  Object.assign(peer, { state: link.state, reason: link.reason });
  const name = nameOf(peer);
  if (peer.state === "open") {
    if (before !== "interrupted") {
      peer.wanted = true;
      note(peer, `Connected to ${name}`);
    }
    announce(`Connected to ${name}`);
  } else if (peer.state === "interrupted") {
    // What broke it may have broken the way to the server as well.
    store.signaling?.check();
  } else {
    peer.path = "";
    peer.rtt = undefined;
    settle(peer, "lost");
  }
  if (peer.state === "closed" || peer.state === "failed") {
    Object.assign(peer, { link: null, chat: null, files: null, goneAt: Date.now() });
    report(peer);
    if (before === "open" || before === "interrupted") {
      note(peer, (noteWords[link.reason] ?? noteWords.lost)(name));
      announce(`Disconnected from ${name}`);
    }
    if (link.reason === "flood") Object.assign(peer, { state: "failed", reason: "flood" });
    // Somebody asked for by id who is not here yet: connected when they come.
    if (peer.state === "closed" || peer.reason === "flood") peer.wanted = false;
    tidy(peer);
  }
  const writing = store.selected === peer.id && before !== "open" && peer.state === "open";
  paint();
  if (writing && [document.body, byId("conversation"), byId("chat-help-action")].includes(document.activeElement)) byId("message").focus();
}

/** A description or candidate for `type` from a peer, by way of the server. */
export function signalled(type, { from, candidate, sdp }) {
  if (from === store.identity.id || store.identity.blocks(from)) return;
  // The server tells of everybody before they call; whom it does not tell of is heard while there is room, and then forgotten.
  if (!store.peers.has(from) && (type !== "Offer" || linkCount() >= MAX_LINKS)) return;
  const peer = peerOf(from);
  if (peer.shunnedUntil > Date.now()) return;
  // Each may cost a connection of its own.
  peer.signals ??= { Offer: new Bucket(40, 2), Answer: new Bucket(40, 2), IceCandidate: new Bucket(400, 20) };
  if (!peer.signals[type].take()) return;
  if (type === "Offer" && !peer.link) {
    if (!mayBegin(peer)) return tidy(peer);
    newLink(peer);
  }
  if (type === "IceCandidate") peer.link?.onCandidate(candidate);
  else peer.link?.onDescription(type.toLowerCase(), sdp);
  paint();
}

/** Tells the server how a connection is doing; it counts them. */
export function report(peer) {
  const { link, path, rtt } = peer;
  const connected = link && peer.state === "open";
  if (connected && !path) return;
  const payload = { to: peer.id, state: connected ? "connected" : "closed" };
  if (connected) {
    const { bytesSent, bytesReceived } = link.meter;
    Object.assign(payload, { connection_type: path, bytes_sent: bytesSent, bytes_received: bytesReceived, rtt });
  }
  store.signaling?.send("Report", payload);
}

/** Sends what is in the field to whoever is on the screen; what stands in its way, or nothing. */
export function say(text) {
  const talk = current();
  if (talk === store.room) {
    const ways = openPeers().map((peer) => [peer, peer.chat.send(text, true)]);
    if (ways.length === 0) return "Nobody is connected.";
    if (ways.every(([, id]) => id === 0)) return "That was too fast. Send it again in a moment.";
    add(talk, own(text, ways, true));
    return "";
  }
  const id = talk?.chat?.send(text) ?? 0;
  if (!id && talk?.state === "open") return "That was too fast. Send it again in a moment.";
  if (talk) add(talk, own(text, [[talk, id]]));
  return "";
}
