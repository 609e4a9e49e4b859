// What the page knows: who it is, who else is here, and which conversation is looked at. Everything else reads it here.

import { IceServers } from "./ice.js";
import { Identity } from "./identity.js";

/** Stands where the id of a peer does, for the conversation with all of them; no peer can have it. */
export const ROOM = "*";
/** People on the list: more would take a browser a while for every change. A server has rooms of 1,000 unless configured otherwise. */
export const MAX_LISTED = 2_000;
/** Others of whom only the name is kept, up to the largest room that a server can have. */
export const MAX_UNLISTED = 98_000;
/** People kept although they have left, because something was said. */
const MAX_GONE = 100;

const identity = new Identity();

export const store = {
  identity,
  ice: new IceServers(() => identity.token),
  peers: new Map(),
  /** Names by id of those who are here and have no place on the list. */
  unlisted: new Map(),
  room: { id: ROOM, name: "Everyone", entries: [], unread: 0 },
  /** The id of the conversation on the screen. */
  selected: null,
  signaling: null,
  signalingUrl: "",
  /** What takes the place of the signaling's state while there is none. */
  unserved: "connecting",
  /** Tries in a row that led nowhere; the first one is over before anybody could read about it. */
  failures: 0,
};

/** The peer with `id`, made up where it is not known yet. */
export function peerOf(id) {
  let peer = store.peers.get(id);
  if (!peer) {
    peer = {
      id, name: "", present: false, link: null, chat: null, files: null, state: "idle", reason: "", path: "", rtt: undefined,
      wanted: false, unread: 0, entries: [], signals: null, shunnedUntil: 0, goneAt: 0, blocked: identity.blocks(id),
    };
    if (store.unlisted.has(id)) Object.assign(peer, { present: true, name: store.unlisted.get(id) });
    store.unlisted.delete(id);
    store.peers.set(id, peer);
  }
  return peer;
}

/** The conversation on the screen: a peer, the room, or null. */
export const current = () => (store.selected === ROOM ? store.room : (store.peers.get(store.selected) ?? null));

/** Those with an open connection. */
export const openPeers = () => [...store.peers.values()].filter((peer) => peer.state === "open");

const idle = (peer) => ["idle", "closed"].includes(peer.state) || (peer.state === "failed" && !peer.wanted);

/** Forgets a peer that is gone and with whom nothing was said, unless this side asked for it and waits until it comes. */
export function tidy(peer) {
  if (peer.present || !idle(peer) || store.selected === peer.id) return;
  if (peer.entries.length === 0) forget(peer);
  // Whoever comes under a hundred names is not remembered under all of them.
  const gone = [...store.peers.values()].filter((other) => !other.present && idle(other) && store.selected !== other.id);
  gone.sort((a, b) => a.goneAt - b.goneAt);
  for (const other of gone.slice(0, Math.max(0, gone.length - MAX_GONE))) forget(other);
}

/** Lets go of a peer, and of the files it has sent. */
function forget(peer) {
  store.peers.delete(peer.id);
  for (const entry of peer.entries) entry.release?.();
}

/** The signaling's state, or what is said in its place. */
export const signalingState = () => store.signaling?.state ?? store.unserved;

/** Whether who is here is known; else it is who was here last. */
export function informed() {
  const state = signalingState();
  return state === "online" || (["connecting", "waiting"].includes(state) && store.failures < 2 && !store.signaling?.refusal);
}
