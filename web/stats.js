// What a connection's statistics say, read for people: the way it takes, how fast it is, and how much went through.

/** Samples kept for the graph: a minute of them. */
export const WINDOW_MS = 60_000;
const SHORTEST_MS = 200;

/** Reads the statistics of one connection after the other on the same link, and adds up what they carried. */
export class Meter {
  #last = { sent: 0, received: 0 };
  /** `{at, sent, received}`: bytes a second in the time before. */
  samples = [];
  #at = 0;

  constructor() {
    this.path = "";
    this.rtt = undefined;
    /** The selected candidates of this side and the other: `{type, protocol, address}`. */
    this.local = null;
    this.remote = null;
    this.bytesSent = 0;
    this.bytesReceived = 0;
    this.sending = 0;
    this.receiving = 0;
  }

  /** A new connection begins to count at nothing, and what there was stays counted. */
  restart() {
    this.#last = { sent: 0, received: 0 };
    this.#at = 0;
    this.path = "";
    this.rtt = undefined;
    this.local = this.remote = null;
    this.sending = this.receiving = 0;
  }

  /** Takes an RTCStatsReport; false if no candidates are selected yet. */
  read(stats, hasServers, now = performance.now()) {
    const all = [...stats.values()];
    const transport = all.find((entry) => entry.type === "transport");
    const pair = stats.get(transport?.selectedCandidatePairId) ?? all.find((entry) => entry.type === "candidate-pair" && entry.nominated);
    if (!pair) return false;
    this.local = candidate(stats.get(pair.localCandidateId));
    this.remote = candidate(stats.get(pair.remoteCandidateId));
    this.path = pathOf([this.local.type, this.remote.type], hasServers);
    this.rtt = pair.currentRoundTripTime;
    // Asked twice in one moment: a rate over so short a time would be noise.
    if (this.#at && now - this.#at < SHORTEST_MS) return true;
    // The transport's figures go on where a restart selects other candidates.
    const { bytesSent = 0, bytesReceived = 0 } = transport?.bytesSent === undefined ? pair : transport;
    const sent = grown(this.#last.sent, bytesSent);
    const received = grown(this.#last.received, bytesReceived);
    this.#last = { sent: bytesSent, received: bytesReceived };
    this.bytesSent += sent;
    this.bytesReceived += received;
    const seconds = (now - this.#at) / 1000;
    if (this.#at) {
      this.sending = sent / seconds;
      this.receiving = received / seconds;
      this.samples.push({ at: now, sent: this.sending, received: this.receiving });
      while (this.samples.length && this.samples[0].at < now - WINDOW_MS) this.samples.shift();
    }
    this.#at = now;
    return true;
  }
}

/** How much more `now` is; a figure that began anew counts in full. */
const grown = (before, now) => (now >= before ? now - before : now);

function candidate(entry) {
  const { candidateType = "", protocol = "", relayProtocol = "", address = "", ip = "", port = 0 } = entry ?? {};
  const host = address || ip;
  const shown = host.includes(":") ? `[${host}]` : host;
  return { type: candidateType, protocol: relayProtocol || protocol, address: host && port ? `${shown}:${port}` : shown };
}

function pathOf(kinds, hasServers) {
  if (kinds.includes("relay")) return "turn";
  // A peer-reflexive address is one seen on arrival: behind a NAT with STUN, or a host that hid its address.
  const translated = kinds.includes("srflx") || (kinds.includes("prflx") && hasServers);
  return translated ? "stun" : "direct";
}
