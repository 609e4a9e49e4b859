// Files between two windows: what may come in, and how it is shown in the conversation.

import { makeCard, paintCard } from "./filecard.js";
import { store } from "./store.js";
import { add, arrived } from "./talk.js";
import { MAX_AT_ONCE, Transfers } from "./transfer.js";
import { announce, keepEnd, nameOf } from "./view.js";
import { fileWords, sizeWords } from "./words.js";

/** The largest file that is taken or sent. It stays in the browser until it is saved. */
export const MAX_FILE_BYTES = 256 * 1024 * 1024;
/** All received files together, of all peers: those on their way, and those that are not removed. */
const MAX_HELD_BYTES = 512 * 1024 * 1024;
/** Progress is painted at most so often. */
const PAINT_EVERY_MS = 100;

/** Accepted files of the others, while they take room. */
const held = new Set();

/** Whether there is room for `size` more bytes: "", or the reason why not. */
function room(size) {
  if (size > MAX_FILE_BYTES) return "too-large";
  const taken = [...held].reduce((sum, transfer) => sum + transfer.size, 0);
  return taken + size > MAX_HELD_BYTES ? "full" : "";
}

/** What carries the files of a link with `peer`. */
export function service(peer) {
  const transfers = new Transfers({ room });
  transfers.addEventListener("offer", ({ detail: { transfer } }) => {
    const entry = entryOf(peer, transfer);
    arrived(peer, entry, `${nameOf(peer)} offers a file: ${transfer.name}, ${sizeWords(transfer.size)}`);
  });
  transfers.addEventListener("changed", ({ detail: { transfer } }) => changed(peer, transfer));
  return transfers;
}

/** Offers files to `peer`; what stands in the way of one, or nothing. */
export function offer(peer, files) {
  for (const file of files) {
    if (file.size > MAX_FILE_BYTES) return `${file.name} is larger than ${sizeWords(MAX_FILE_BYTES)}.`;
    const transfer = peer.files?.offer(file);
    if (!transfer) return peer.state === "open" ? `${MAX_AT_ONCE} files at once are the most. Send the others after these.` : "Not connected.";
    add(peer, entryOf(peer, transfer));
  }
  return "";
}

function entryOf(peer, transfer) {
  const entry = { kind: "file", at: Date.now(), transfer, name: nameOf(peer), element: null, paintedState: "", timer: 0, url: "", problem: "" };
  transfer.entry = entry;
  entry.make = () => makeCard(entry, actions(peer, entry));
  entry.release = () => {
    transfer.cancel();
    discard(entry);
  };
  return entry;
}

function actions(peer, entry) {
  const { transfer } = entry;
  return {
    accept() {
      entry.problem = room(transfer.size);
      if (!entry.problem) {
        held.add(transfer);
        transfer.accept();
      }
      paintCard(entry);
    },
    cancel: () => transfer.cancel(),
    remove: () => discard(entry),
    again() {
      entry.problem = offer(peer, [transfer.file]);
      paintCard(entry);
    },
    mayRepeat: () => peer.state === "open",
  };
}

/** Lets go of a received file. */
function discard(entry) {
  held.delete(entry.transfer);
  if (entry.url) URL.revokeObjectURL(entry.url);
  entry.url = "";
  entry.transfer.blob = null;
  paintCard(entry);
}

function changed(peer, transfer) {
  const { entry } = transfer;
  if (transfer.state === "ended") held.delete(transfer);
  if (transfer.blob && !entry.url) entry.url = URL.createObjectURL(transfer.blob);
  if (transfer.over && store.peers.has(peer.id)) announce(`${transfer.name}: ${fileWords(transfer, entry.name)}`);
  if (entry.paintedState === transfer.state) {
    entry.timer ||= setTimeout(() => {
      entry.timer = 0;
      paintCard(entry);
    }, PAINT_EVERY_MS);
    return;
  }
  paintCard(entry);
  keepEnd();
}
