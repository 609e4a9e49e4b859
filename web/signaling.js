// The connection to the signaling server: registers, reconnects, and says what arrives.

const FIRST_DELAY_MS = 250;
const LONGEST_DELAY_MS = 10_000;
/** The server pings every 20 s, which a page cannot see; an open that hangs it can. */
const OPEN_TIMEOUT_MS = 8_000;
/** Another window resumed this id; see docs/signaling.md. */
const CLOSE_REPLACED = 4001;

/**
 * Events, each a CustomEvent: `state` ({state, retryAt}), and every message of the server by its type, with the
 * payload as detail. States: `connecting`, `online`, `waiting` (until retryAt), `replaced`.
 */
export class Signaling extends EventTarget {
  #url;
  #identity;
  #socket = null;
  #timer = 0;
  #delay = FIRST_DELAY_MS;

  constructor(url, identity) {
    super();
    this.#url = url;
    this.#identity = identity;
    this.state = "connecting";
    this.retryAt = 0;
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.#hurry());
  }

  /** Connects now, whatever was planned. Also makes a new name or id known. */
  connect() {
    clearTimeout(this.#timer);
    const old = this.#socket;
    this.#socket = null;
    old?.close(3000, "again");
    this.#set("connecting");
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    const current = () => socket === this.#socket;
    this.#timer = setTimeout(() => current() && socket.readyState === WebSocket.CONNECTING && socket.close(), OPEN_TIMEOUT_MS);
    socket.addEventListener("open", () => current() && this.#register());
    socket.addEventListener("message", (event) => current() && this.#receive(event.data));
    socket.addEventListener("close", (event) => current() && this.#closed(event.code));
  }

  /** Sends a message; false if there is no connection, and then nothing is kept for later. */
  send(type, payload) {
    if (this.state !== "online" || this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify({ type, payload }));
    return true;
  }

  #register() {
    const { id, name, resume } = this.#identity;
    const payload = { peer_id: id, name };
    if (resume) payload.resume = resume;
    this.#socket.send(JSON.stringify({ type: "Register", payload }));
  }

  #receive(text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return;
    }
    const { type, payload } = message ?? {};
    if (typeof type !== "string" || typeof payload !== "object" || payload === null) return;
    if (type === "Registered") {
      this.#identity.update({ resume: payload.resume });
      this.#delay = FIRST_DELAY_MS;
      this.#set("online");
    } else if (type === "Error" && this.state !== "online" && payload.code === "id_taken") {
      this.#identity.renew();
      this.dispatchEvent(new CustomEvent("renamed"));
      this.#register();
      return;
    }
    this.dispatchEvent(new CustomEvent(type, { detail: payload }));
  }

  #closed(code) {
    clearTimeout(this.#timer);
    this.#socket = null;
    if (code === CLOSE_REPLACED) return this.#set("replaced");
    // Half of the delay is chance, so that a room does not come back all in one moment.
    const delay = this.#delay * (0.5 + Math.random() / 2);
    this.#delay = Math.min(this.#delay * 2, LONGEST_DELAY_MS);
    this.#timer = setTimeout(() => this.connect(), delay);
    this.#set("waiting", Date.now() + delay);
  }

  /** The network or the user is back: no reason to wait any longer. */
  #hurry() {
    if (this.state === "waiting") this.connect();
  }

  #set(state, retryAt = 0) {
    this.state = state;
    this.retryAt = retryAt;
    this.dispatchEvent(new CustomEvent("state"));
  }
}
