// What was said: the entries of every conversation, what became of one's own, and what is unread.

import { current, informed, openPeers, signalingState, store } from "./store.js";
import * as view from "./view.js";
import { paintDetails } from "./details.js";

const MAX_ENTRIES = 500;
/** And of letters in them. */
const MAX_LETTERS = 400_000;
/** What the server tells of a full room comes in hundreds at once: it is painted together. */
const PAINT_EVERY_MS = 50;
let planned = 0;

/** Brings the page up to date with the store. */
export function paint() {
  clearTimeout(planned);
  planned = 0;
  const peers = [...store.peers.values()];
  view.paintPeople(peers, store.room, store.selected, signalingState(), informed(), store.unlisted.size);
  view.paintBlocked(store.identity.blocked);
  const talk = current();
  const connecting = peers.filter((peer) => peer.state === "connecting").length;
  view.paintConversation(talk, { here: peers.filter((peer) => peer.present && !peer.blocked).length + store.unlisted.size, open: openPeers().length, connecting });
  for (const peer of peers) peer.link?.watch(peer === talk && document.visibilityState === "visible");
  paintDetails(talk);
}

/** The same in a moment, once for all that happens until then. */
export function paintSoon() {
  planned ||= setTimeout(paint, PAINT_EVERY_MS);
}

export function note(talk, text) {
  add(talk, { kind: "note", text, at: Date.now() });
}

export function add(talk, entry) {
  talk.entries.push(entry);
  talk.letters = (talk.letters ?? 0) + lettersOf(entry);
  while (talk.entries.length > MAX_ENTRIES || talk.letters > MAX_LETTERS) {
    // A file on its way outlives the words around it.
    const oldest = talk.entries.findIndex(({ transfer }) => !transfer || transfer.over);
    const [dropped] = talk.entries.splice(Math.max(0, oldest), 1);
    talk.letters -= lettersOf(dropped);
    view.drop(dropped);
    dropped.release?.();
  }
  view.append(talk, entry);
}

const lettersOf = ({ text = "" }) => text.length;

/** Something of somebody else's: unread unless it is seen, and said to those who do not see. */
export function arrived(talk, entry, words) {
  add(talk, entry);
  if (store.selected !== talk.id || document.visibilityState === "hidden") {
    talk.unread += 1;
    if (store.selected !== talk.id) view.announce(words);
  }
  paint();
}

/** The conversation on the screen has been seen. */
export function seen() {
  const talk = current();
  if (talk) talk.unread = 0;
}

/** Notes what became of texts to `peer`: of the one with `id`, or of all that are under way. */
export function settle(peer, delivery, id) {
  for (const talk of [peer, store.room]) {
    for (const entry of talk.entries) {
      const way = entry.ways?.get(peer.id);
      if (way?.delivery !== "sent" || (id !== undefined && way.id !== id)) continue;
      way.delivery = delivery;
      view.paintDelivery(entry);
    }
  }
}

/** An entry for a text of one's own; `ways` are `[peer, id]`, the id 0 where the text could not be sent; `all`: to the room. */
export function own(text, ways, all = false) {
  const known = ways.map(([peer, id]) => [peer.id, { id, name: view.nameOf(peer), delivery: id ? "sent" : "lost" }]);
  return { kind: "own", text, at: Date.now(), all, ways: new Map(known) };
}
