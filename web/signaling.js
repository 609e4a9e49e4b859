// The connection to the signaling server: registers, reconnects, and says what arrives.

import { claimsOf } from "./identity.js";
import { Bucket } from "./limits.js";

const FIRST_DELAY_MS = 250;
const LONGEST_DELAY_MS = 10_000;
/** Refused: somebody has to leave, or something to change, before another try makes sense. */
const REFUSED_DELAY_MS = 20_000;
/** From the first packet to being registered. */
const OPEN_TIMEOUT_MS = 8_000;
/** The server's pings do not reach scripts. After so long without a message the page asks whether anybody is there … */
const QUIET_MS = 30_000;
/** … and takes the connection for dead without an answer. */
const ANSWER_TIMEOUT_MS = 5_000;
const LOOK_INTERVAL_MS = 5_000;
/** Close codes of docs/signaling.md: another window resumed this id; the client did something wrong, or there is no place. */
const CLOSE_REPLACED = 4001;
const CLOSE_REFUSALS = [1002, 1003, 1007, 1008, 1009, 1013];
/** What a server says, of docs/signaling.md; types that are not known are ignored. */
const MESSAGES = ["Registered", "PeerJoined", "PeerLeft", "Offer", "Answer", "IceCandidate", "Pong", "Error"];
/** A room of 100,000, the largest there is, has shorter lists. */
const MAX_MESSAGE = 16 * 1024 * 1024;
/** Messages of the server: as many at once, as when the largest room comes back from a restart, and a second … */
const MESSAGES_AT_ONCE = 100_000;
const MESSAGES_PER_SECOND = 1_000;
/** … and letters in them: four of the longest messages at once. */
const LETTERS_AT_ONCE = 64 * 1024 * 1024;
const LETTERS_PER_SECOND = 1024 * 1024;
/** What is over is left out unread; after so many the connection is ended, and another one tried later. */
const SERVER_PATIENCE = 10_000;
/** Of what a server says for people. */
const MAX_WORDS = 300;
/** A page that slept before it could say who it is did nothing wrong. */
const REGISTER_TIMEOUT = "register timeout";

/**
 * Events, each a CustomEvent: `state`, and every message of the server by its type, with the payload as detail.
 * States: `connecting`, `online`, `waiting` (until retryAt), `refused` (until retryAt), `replaced`. `refusal` is why the
 * server did not take this client ({code, message}), from then on until it does or there is another reason. `leftOut` counts messages that were
 * over the limit since the last list of who is here.
 */
export class Signaling extends EventTarget {
  #url;
  #identity;
  #socket = null;
  #timer = 0;
  #delay = FIRST_DELAY_MS;
  #heardAt = 0;
  #answerTimer = 0;
  // Of the page, not of a connection: who begins a new one begins with what is left.
  #messages = new Bucket(MESSAGES_AT_ONCE, MESSAGES_PER_SECOND);
  #letters = new Bucket(LETTERS_AT_ONCE, LETTERS_PER_SECOND);
  #patience = new Bucket(SERVER_PATIENCE, MESSAGES_PER_SECOND / 10);

  constructor(url, identity) {
    super();
    this.#url = url;
    this.#identity = identity;
    this.state = "connecting";
    this.retryAt = 0;
    this.refusal = null;
    this.leftOut = 0;
    for (const event of ["online", "offline"]) addEventListener(event, () => this.check());
    navigator.connection?.addEventListener("change", () => this.check());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.check());
    // Timers rest while a machine sleeps: the first look after it finds a long silence.
    setInterval(() => this.state === "online" && Date.now() - this.#heardAt >= QUIET_MS && this.check(), LOOK_INTERVAL_MS);
  }

  /** Connects now, whatever was planned. Also makes a new name or id known. */
  connect() {
    this.#letGo(3000, "again");
    this.#set("connecting");
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    const current = (handler) => (event) => socket === this.#socket && handler(event);
    this.#timer = setTimeout(current(() => this.#wait()), OPEN_TIMEOUT_MS);
    socket.addEventListener("open", current(() => this.#register()));
    socket.addEventListener("message", current(({ data }) => this.#receive(data)));
    socket.addEventListener("close", current(({ code, reason }) => this.#closed(code, reason)));
  }

  /**
   * The network or the user is back, or something else speaks for a look: no reason to wait any longer, and a connection
   * that died without a word is found out.
   */
  check() {
    if (this.state === "waiting" || this.state === "refused") return this.connect();
    if (this.#answerTimer || !this.send("Ping", {})) return;
    this.#answerTimer = setTimeout(() => this.connect(), ANSWER_TIMEOUT_MS);
  }

  /** Sends a message; false if there is no connection, and then nothing is kept for later. */
  send(type, payload) {
    if (this.state !== "online" || this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify({ type, payload }));
    return true;
  }

  #register() {
    const { id, name, resume, token } = this.#identity;
    const payload = { peer_id: id, name };
    const { room } = claimsOf(token);
    if (token) payload.token = token;
    if (room) payload.room = room;
    if (resume) payload.resume = resume;
    this.#socket.send(JSON.stringify({ type: "Register", payload }));
  }

  #receive(text) {
    this.#heardAt = Date.now();
    clearTimeout(this.#answerTimer);
    this.#answerTimer = 0;
    if (typeof text !== "string" || text.length > MAX_MESSAGE) return;
    if (!this.#messages.take() || !this.#letters.take(text.length)) return this.#overflow();
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return;
    }
    const { type, payload } = message ?? {};
    if (!MESSAGES.includes(type) || typeof payload !== "object" || payload === null) return;
    if (type === "Registered") {
      clearTimeout(this.#timer);
      this.#identity.update({ resume: typeof payload.resume === "string" ? payload.resume : null });
      this.#delay = FIRST_DELAY_MS;
      this.refusal = null;
      this.leftOut = 0;
      this.#set("online");
    } else if (type === "Error" && this.state === "connecting") {
      const bound = claimsOf(this.#identity.token).id;
      if (payload.code !== "id_taken" || bound) return this.#refused(String(payload.code), String(payload.message).slice(0, MAX_WORDS));
      this.#identity.renew();
      this.dispatchEvent(new CustomEvent("renamed"));
      return this.#register();
    }
    this.dispatchEvent(new CustomEvent(type, { detail: payload }));
  }

  /** A message is left out; who sends too many of those is no server to talk to. */
  #overflow() {
    this.leftOut += 1;
    if (!this.#patience.take()) return this.#refused("flood", "it sends too much");
    if (this.leftOut === 1) this.dispatchEvent(new CustomEvent("state"));
  }

  #closed(code, reason) {
    if (code === CLOSE_REPLACED) {
      this.#letGo();
      this.#set("replaced");
    } else if (CLOSE_REFUSALS.includes(code) && reason !== REGISTER_TIMEOUT) {
      this.#refused(reason, reason);
    } else {
      this.#wait();
    }
  }

  /** No connection: another try a little later. */
  #wait() {
    this.#letGo();
    this.refusal = null;
    this.#retry("waiting", this.#delay);
    this.#delay = Math.min(this.#delay * 2, LONGEST_DELAY_MS);
  }

  #refused(code, message) {
    this.#letGo(1000);
    this.refusal = { code, message };
    this.#retry("refused", REFUSED_DELAY_MS);
  }

  #retry(state, longest) {
    // Half of the delay is chance, so that a room does not come back all in one moment.
    const delay = longest * (0.5 + Math.random() / 2);
    this.#timer = setTimeout(() => this.connect(), delay);
    this.#set(state, Date.now() + delay);
  }

  /** Forgets the connection there is, if there is one; a dead one would take its time to close. */
  #letGo(...why) {
    clearTimeout(this.#timer);
    clearTimeout(this.#answerTimer);
    this.#answerTimer = 0;
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(...why);
  }

  #set(state, retryAt = 0) {
    this.state = state;
    this.retryAt = retryAt;
    this.dispatchEvent(new CustomEvent("state"));
  }
}
