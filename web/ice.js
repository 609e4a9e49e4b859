// The ICE servers: asked for at the web server, again before their credentials end, and checked before they are used.

/** Asked again so long before the end, or a quarter of the time where that is less. */
const MARGIN_MS = 60_000;
const ASK_TIMEOUT_MS = 3_000;
/** Between two questions, whatever the clocks of server and browser make of the end. */
const PAUSE_MS = 10_000;
/** The longest wait that a timer takes. */
const LONGEST_MS = 24 * 3_600_000;
const MAX_SERVERS = 16;

/** Events: `renewed`, once there are other servers or credentials than those that were given before. */
export class IceServers extends EventTarget {
  #given = [];
  #fallback = [];
  /** Before anything was heard, and where nobody answers: always. */
  #staleAt = -Infinity;
  #askedAt = -Infinity;
  #asking = null;
  #timer = 0;
  #token;

  /** `token()` is the permission to be here, if there is one. */
  constructor(token = () => null) {
    super();
    this.#token = token;
  }

  /** What a connection is made with now: what the web server said, or else the signaling server. */
  get servers() {
    return this.#given.length ? this.#given : this.#fallback;
  }

  /** Whether there is a relay among them. */
  get relay() {
    return this.servers.some(({ urls }) => urls.some((url) => /^turns?:/i.test(url)));
  }

  /** What the signaling server gave. */
  fallBackOn(servers) {
    this.#fallback = checked(servers);
  }

  /** Resolves once the servers are good to use, at once where they are; never fails. */
  async fresh() {
    const due = Date.now() >= this.#staleAt && performance.now() - this.#askedAt >= PAUSE_MS;
    if (due || this.#asking) await this.ask();
  }

  /** Their credentials were not accepted: there may be better ones by the next time. */
  refused() {
    this.#staleAt = -Infinity;
  }

  /** There is another permission: asks with that one. */
  async permitted() {
    await this.#asking;
    await this.ask();
  }

  /** Asks the web server; never fails. */
  ask() {
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = null;
    });
    return this.#asking;
  }

  async #ask() {
    clearTimeout(this.#timer);
    this.#askedAt = performance.now();
    let wait = 3 * PAUSE_MS;
    try {
      const token = this.#token();
      const headers = token ? { authorization: `Bearer ${token}` } : {};
      const answer = await fetch("/ice", { cache: "no-store", headers, signal: AbortSignal.timeout(ASK_TIMEOUT_MS) });
      // It asks for another permission. What there was holds to its end; asked again once there is one, or for the next connection.
      if (answer.status === 401) return;
      if (answer.status === 404) {
        this.#given = [];
        this.#staleAt = Infinity;
        return;
      }
      if (!answer.ok) throw new Error(`/ice answers ${answer.status}`);
      const { iceServers, expires_at: end } = await answer.json();
      const before = JSON.stringify(this.#given);
      const known = this.#given.length > 0;
      this.#given = checked(iceServers);
      if (known && JSON.stringify(this.#given) !== before) this.dispatchEvent(new Event("renewed"));
      if (!Number.isFinite(end)) {
        this.#staleAt = Infinity;
        return;
      }
      const left = end * 1000 - Date.now();
      this.#staleAt = end * 1000 - Math.min(MARGIN_MS, left / 4);
      wait = Math.max(PAUSE_MS, this.#staleAt - Date.now());
    } catch (error) {
      // What there was may still do; the next try comes by itself.
      console.warn("ice", error.message);
    }
    this.#timer = setTimeout(() => this.ask(), Math.min(wait, LONGEST_MS));
  }
}

/** Those of `servers` that a browser takes: one that it does not would keep every connection from being made. */
function checked(servers) {
  if (!Array.isArray(servers)) return [];
  const good = [];
  for (const { urls, username, credential } of servers.slice(0, MAX_SERVERS).filter(Boolean)) {
    const server = { urls: [urls].flat().slice(0, MAX_SERVERS).map(String) };
    if (username !== undefined) Object.assign(server, { username: String(username), credential: String(credential ?? "") });
    try {
      new RTCPeerConnection({ iceServers: [server] }).close();
      good.push(server);
    } catch (error) {
      console.warn("ice", server.urls, error.message);
    }
  }
  return good;
}
