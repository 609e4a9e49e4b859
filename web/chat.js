// The chat of one link: texts, and the word that they arrived, on a data channel that both sides know in advance.

import { Bucket } from "./limits.js";

export const MAX_TEXT = 4_000;
const MAX_BUFFERED_BYTES = 1024 * 1024;
/** Texts of a peer: as many at once, and a second. Somebody who types, or pastes line after line, stays below. */
const BURST = 60;
const PER_SECOND = 5;
/** What is over is left out; somebody who goes on all the same is no chat partner. */
const PATIENCE = 500;

/**
 * Events: `text` ({id, text, all}: to everyone, or to this side alone), `delivered` ({id}), `flood` ({over}: something is left out, and
 * whether it has become too much).
 */
export class Chat extends EventTarget {
  label = "chat";
  id = 0;
  #channel = null;
  #nextId = 1;
  #pending = new Set();
  #bucket = new Bucket(BURST, PER_SECOND);
  /** This side keeps to what the other takes, with something to spare. */
  #own = new Bucket(BURST - 10, PER_SECOND - 1);
  #patience = new Bucket(PATIENCE, PER_SECOND);

  attach(channel) {
    this.#channel = channel;
    this.#pending.clear();
    channel.addEventListener("message", ({ data }) => channel === this.#channel && this.#message(data));
  }

  detach() {
    this.#channel = null;
  }

  /** Sends a text; its number, or 0 if the channel does not take it, or not so fast. */
  send(text, all = false) {
    if (!this.#ready() || !this.#own.take()) return 0;
    const id = this.#nextId++;
    this.#pending.add(id);
    this.#channel.send(JSON.stringify({ kind: "text", id, text: text.slice(0, MAX_TEXT), ...(all && { all }) }));
    return id;
  }

  #ready() {
    return this.#channel?.readyState === "open" && this.#channel.bufferedAmount < MAX_BUFFERED_BYTES;
  }

  #message(data) {
    const message = parse(data, 8 * MAX_TEXT);
    const { kind, id, text, all } = message ?? {};
    if (kind === "ack" && this.#pending.delete(id)) return this.#say("delivered", { id });
    if (!this.#bucket.take()) {
      const over = !this.#patience.take();
      return this.#say("flood", { over });
    }
    if (kind !== "text" || typeof text !== "string" || !Number.isSafeInteger(id)) return;
    this.#say("text", { id, text: text.slice(0, MAX_TEXT), all: all === true });
    if (this.#ready()) this.#channel.send(JSON.stringify({ kind: "ack", id }));
  }

  #say(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** The object that `data` is the JSON of; null for anything else, and for what is longer than `limit`. */
export function parse(data, limit) {
  if (typeof data !== "string" || data.length > limit) return null;
  try {
    const value = JSON.parse(data);
    return typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}
