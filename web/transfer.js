// Files over one link, on a data channel of their own. Nothing but an offer is sent before the other side accepts.
//
// As text: offer {id, name, size}, accept {id}, refuse {id, reason}, got {id, bytes}, done {id, sha256}, received {id},
// stop {id}. As bytes: the id in four bytes, then up to 16 KiB of the file. Ids are the sender's; each side numbers its own.

import { parse } from "./chat.js";
import { Bucket } from "./limits.js";
import { Sha256 } from "./sha256.js";

/** The largest part that every browser takes in one message (RFC 8831 leaves it to them). */
const CHUNK = 16 * 1024;
const HEADER = 4;
/** Read from the disk at once. */
const BLOCK = 16 * CHUNK;
/** What may wait in the browser before the next chunk has to. */
const HIGH_WATER = 1024 * 1024;
const LOW_WATER = 256 * 1024;
/** What the other side may be behind with: a browser takes messages faster than a busy page does. */
const WINDOW = 4 * 1024 * 1024;
const GOT_EVERY = 256 * 1024;
/** Collected before it goes into a Blob, which the browser may keep on disk. */
const PART = 1024 * 1024;
/** Files that one side has under way or on offer to the other. */
export const MAX_AT_ONCE = 8;
const MAX_CONTROL = 2_048;

/** One file on its way. States: `offered`, `moving`, `checking`, `done`, `ended` (with a reason). */
class Transfer {
  constructor(transfers, { id, own, name, size }) {
    Object.assign(this, { transfers, id, own, name, size, bytes: 0, state: "offered", reason: "", blob: null, sha256: "" });
  }

  get over() {
    return this.state === "done" || this.state === "ended";
  }

  accept() {
    this.transfers.accept(this);
  }

  /** Refuses an offer, takes one back, or breaks off. */
  cancel() {
    this.transfers.cancel(this);
  }
}

/**
 * Events: `offer` ({transfer}), `changed` ({transfer}), `flood` ({over}) as of `Chat`. `room(size)` answers whether a file
 * of the peer's may be offered: "" or the reason why not.
 */
export class Transfers extends EventTarget {
  label = "files";
  id = 1;
  #channel = null;
  #room;
  #nextId = 1;
  #outgoing = new Map();
  #incoming = new Map();
  #wake = new Set();
  #offers = new Bucket(2 * MAX_AT_ONCE, 0.5);
  #controls = new Bucket(200, 20);
  #patience = new Bucket(500, 5);
  /** Bytes that were on their way when a file was broken off, by its id … */
  #late = new Map();
  /** … and bytes that belong to nothing. */
  #stray = new Bucket(1024 * 1024, 16 * 1024);

  constructor({ room }) {
    super();
    this.#room = room;
  }

  attach(channel) {
    this.detach();
    this.#channel = channel;
    channel.binaryType = "arraybuffer";
    channel.bufferedAmountLowThreshold = LOW_WATER;
    const current = (handler) => (event) => channel === this.#channel && handler(event);
    channel.addEventListener("bufferedamountlow", current(() => this.#awake()));
    channel.addEventListener("close", current(() => this.detach()));
    channel.addEventListener("message", current(({ data }) => (typeof data === "string" ? this.#control(data) : this.#data(data))));
  }

  /** The connection is over, and with it all that was under way. */
  detach() {
    this.#channel = null;
    this.#late.clear();
    for (const transfer of [...this.#outgoing.values(), ...this.#incoming.values()]) this.#end(transfer, "lost");
  }

  /** Offers a File; null if the channel takes no more. */
  offer(file) {
    if (this.#channel?.readyState !== "open" || this.#outgoing.size >= MAX_AT_ONCE) return null;
    const transfer = new Transfer(this, { id: this.#nextId++, own: true, name: file.name, size: file.size });
    transfer.file = file;
    transfer.sent = 0;
    this.#outgoing.set(transfer.id, transfer);
    // Its name is cut by whoever receives it; here only so that the message is not too long for them.
    this.#send({ kind: "offer", id: transfer.id, name: file.name.slice(-255), size: file.size });
    return transfer;
  }

  accept(transfer) {
    if (transfer.own || transfer.state !== "offered") return;
    Object.assign(transfer, { hash: new Sha256(), parts: [], part: new Uint8Array(Math.min(PART, transfer.size)), filled: 0, told: 0 });
    this.#set(transfer, "moving");
    this.#send({ kind: "accept", id: transfer.id });
  }

  cancel(transfer) {
    if (transfer.over) return;
    this.#send(transfer.own ? { kind: "stop", id: transfer.id } : { kind: "refuse", id: transfer.id, reason: "refused" });
    this.#end(transfer, transfer.state === "offered" && !transfer.own ? "refused-here" : "cancelled-here");
  }

  // --- sending -------------------------------------------------------------------------------------------

  async #pump(transfer) {
    const hash = new Sha256();
    try {
      for (let offset = 0; offset < transfer.size; offset += BLOCK) {
        const block = new Uint8Array(await transfer.file.slice(offset, offset + BLOCK).arrayBuffer());
        hash.update(block);
        for (let at = 0; at < block.length; at += CHUNK) {
          while (transfer.state === "moving" && !this.#mayGo(transfer)) await new Promise((wake) => this.#wake.add(wake));
          if (transfer.state !== "moving") return;
          const data = block.subarray(at, at + CHUNK);
          const frame = new Uint8Array(HEADER + data.length);
          new DataView(frame.buffer).setUint32(0, transfer.id);
          frame.set(data, HEADER);
          this.#channel.send(frame);
          transfer.sent += data.length;
        }
      }
      if (transfer.state !== "moving") return;
      transfer.sha256 = hash.hex();
      this.#set(transfer, "checking");
      this.#send({ kind: "done", id: transfer.id, sha256: transfer.sha256 });
    } catch (error) {
      // It was changed or taken away since it was chosen.
      console.warn("file", error.message);
      this.#send({ kind: "stop", id: transfer.id });
      this.#end(transfer, "unreadable");
    }
  }

  #mayGo(transfer) {
    return this.#channel.bufferedAmount < HIGH_WATER && transfer.sent - transfer.bytes < WINDOW;
  }

  #awake() {
    const waiting = [...this.#wake];
    this.#wake.clear();
    for (const wake of waiting) wake();
  }

  // --- receiving -----------------------------------------------------------------------------------------

  #data(data) {
    const size = data.byteLength - HEADER;
    const transfer = size >= 0 ? this.#incoming.get(new DataView(data).getUint32(0)) : undefined;
    if (transfer?.state !== "moving") return this.#astray(data, size);
    // Thimbles cost the page as much as buckets do.
    const last = size > 0 && transfer.bytes + size === transfer.size;
    if (size < 1024 && !last && !this.#stray.take(1024)) return this.#say("flood", { over: true });
    if (size > CHUNK || transfer.bytes + size > transfer.size) return this.#broken(transfer, "too-long");
    const bytes = new Uint8Array(data, HEADER);
    transfer.hash.update(bytes);
    for (let at = 0; at < size; ) {
      const piece = bytes.subarray(at, at + transfer.part.length - transfer.filled);
      transfer.part.set(piece, transfer.filled);
      transfer.filled += piece.length;
      at += piece.length;
      if (transfer.filled === transfer.part.length) this.#pack(transfer);
    }
    transfer.bytes += size;
    if (transfer.bytes - transfer.told >= GOT_EVERY) {
      transfer.told = transfer.bytes;
      this.#send({ kind: "got", id: transfer.id, bytes: transfer.bytes });
    }
    this.#say("changed", { transfer });
  }

  #astray(data, size) {
    const id = size > 0 ? new DataView(data).getUint32(0) : -1;
    const left = (this.#late.get(id) ?? 0) - size;
    if (left >= 0) this.#late.set(id, left);
    else if (!this.#stray.take(Math.max(size, 1024))) this.#say("flood", { over: true });
  }

  #pack(transfer) {
    if (transfer.filled) transfer.parts.push(new Blob([transfer.part.subarray(0, transfer.filled)]));
    transfer.filled = 0;
  }

  #complete(transfer, sha256) {
    if (transfer.bytes !== transfer.size) return this.#broken(transfer, "too-short");
    transfer.sha256 = transfer.hash.hex();
    if (transfer.sha256 !== sha256) return this.#broken(transfer, "damaged");
    this.#pack(transfer);
    // Whatever it is, it is for saving: a type from outside could make a page of it that runs as this one.
    transfer.blob = new Blob(transfer.parts, { type: "application/octet-stream" });
    this.#send({ kind: "received", id: transfer.id });
    this.#forget(transfer);
    this.#set(transfer, "done");
  }

  /** What came is not what was announced. */
  #broken(transfer, reason) {
    this.#send({ kind: "refuse", id: transfer.id, reason: "damaged" });
    this.#end(transfer, reason);
  }

  #offered({ id, name, size }) {
    const bad = !Number.isInteger(id) || id < 0 || id > 0xffffffff || this.#incoming.has(id) || typeof name !== "string" || !Number.isSafeInteger(size) || size < 0;
    if (bad) return;
    const refusal = this.#incoming.size >= MAX_AT_ONCE || !this.#offers.take() ? "busy" : this.#room(size);
    if (refusal) return this.#send({ kind: "refuse", id, reason: refusal });
    const transfer = new Transfer(this, { id, own: false, name: cleanFileName(name), size });
    this.#incoming.set(id, transfer);
    this.#say("offer", { transfer });
  }

  // --- both ----------------------------------------------------------------------------------------------

  #control(data) {
    const message = parse(data, MAX_CONTROL) ?? {};
    const { kind, id } = message;
    const [own, theirs] = [this.#outgoing.get(id), this.#incoming.get(id)];
    // What moves a file on is bounded by the file; everything else is counted.
    if (kind === "got" && own?.sent && Number.isSafeInteger(message.bytes) && message.bytes - own.bytes >= GOT_EVERY && message.bytes <= own.sent) {
      own.bytes = message.bytes;
      this.#awake();
      return this.#say("changed", { transfer: own });
    }
    if (!this.#controls.take()) return this.#say("flood", { over: !this.#patience.take() });
    if (kind === "offer") this.#offered(message);
    else if (kind === "accept" && own?.state === "offered") {
      this.#set(own, "moving");
      this.#pump(own);
    } else if (kind === "refuse" && own) this.#end(own, REFUSALS.includes(message.reason) ? message.reason : "refused", true);
    else if (kind === "received" && own?.state === "checking") {
      own.bytes = own.size;
      this.#forget(own);
      this.#set(own, "done");
    } else if (kind === "done" && theirs?.state === "moving") this.#complete(theirs, message.sha256);
    else if (kind === "stop" && theirs) this.#end(theirs, theirs.state === "offered" ? "taken-back" : "cancelled-there");
  }

  #send(message) {
    if (this.#channel?.readyState === "open" && this.#channel.bufferedAmount < 4 * HIGH_WATER) this.#channel.send(JSON.stringify(message));
  }

  #set(transfer, state) {
    transfer.state = state;
    this.#say("changed", { transfer });
  }

  #end(transfer, reason, byPeer = false) {
    if (transfer.over) return;
    transfer.reason = byPeer && reason === "refused" && transfer.state !== "offered" ? "cancelled-there" : reason;
    this.#forget(transfer);
    this.#set(transfer, "ended");
    this.#awake();
  }

  /** Lets go of what was only needed on the way. */
  #forget(transfer) {
    (transfer.own ? this.#outgoing : this.#incoming).delete(transfer.id);
    if (transfer.state !== "moving" || transfer.own) return;
    this.#late.set(transfer.id, Math.min(transfer.size - transfer.bytes, WINDOW + GOT_EVERY));
    if (this.#late.size > 4 * MAX_AT_ONCE) this.#late.delete(this.#late.keys().next().value);
    queueMicrotask(() => Object.assign(transfer, { parts: null, part: null, hash: null }));
  }

  #say(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** What a peer may give as its reason. */
const REFUSALS = ["refused", "busy", "too-large", "full", "damaged"];

/**
 * A name to save a file by: no folders, nothing invisible or that turns the text around, no leading dots, at most 100
 * characters of which the end, with its extension, is kept.
 */
export function cleanFileName(text) {
  const last = text.split(/[/\\]/).at(-1);
  const plain = last.normalize("NFC").replace(/[\p{C}\p{Zl}\p{Zp}\u061C\u200B-\u200F\u202A-\u202E\u2060-\u206F]/gu, "").replace(/[<>:"|?*]/g, "_");
  const trimmed = plain.replace(/^[.\s]+|[.\s]+$/g, "");
  const shown = [...trimmed];
  return (shown.length > 100 ? shown.slice(-100).join("") : trimmed) || "file";
}
