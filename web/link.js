// One WebRTC connection to one peer, and the data channels on it.
//
// Perfect negotiation (W3C WebRTC, section 10.7): either side may offer at any time; if both do at once, the
// polite one, whose id sorts first, takes its own offer back. The data channels are negotiated in advance, so
// both sides have them from the start and nobody has to announce them.

import { Bucket } from "./limits.js";
import { Meter } from "./stats.js";

const CONNECT_TIMEOUT_MS = 20_000;
/** A pause in the network mends itself within seconds, or needs a new path. */
const RESTART_AFTER_MS = 3_000;
/** A new path may not be there at once, so it is looked for again, each time after twice as long. */
const RESTART_AGAIN_MS = 4_000;
const RECOVER_TIMEOUT_MS = 30_000;
const STATS_INTERVAL_MS = 2_000;
/** While somebody looks at them. */
const WATCHED_INTERVAL_MS = 1_000;
/** Somebody who reloads or changes networks is away for a second or two; the server keeps their place for three. */
const RESEND_AFTER_MS = 700;
const MAX_RESENDS = 3;
/** Two offers that cross do so within a moment; one that comes later is of a peer that has not got ours. */
const CROSSING_MS = 1_500;
/** Candidates kept, of either side: those that arrive before their description, and those that may have to be sent again. */
const MAX_CANDIDATES = 64;
/** Errors of TURN servers (RFC 8656, section 16; RFC 8489, section 14.8) that mean: not with these credentials, or not now. */
const UNAUTHORIZED = [401, 403, 438, 441];
const OVER_QUOTA = [486, 508];

/**
 * Events: `state` (state and reason have changed), `stats` (`meter` has), `flood` (as of `Chat`). States: `connecting`, `open`, `interrupted`,
 * `failed` (with a reason), `closed`.
 */
export class Link extends EventTarget {
  #polite;
  #ice;
  #signal;
  #mayBegin;
  #services;
  #pc = null;
  #channel = null;
  #makingOffer = false;
  #offeredAt = 0;
  #answerPending = false;
  #ignoreOffer = false;
  #early = [];
  #candidates = [];
  /** Why something of this negotiation did not get to the peer; empty while nothing is known to be lost. */
  #lost = "";
  #work = Promise.resolve();
  #deadline = 0;
  #restart = 0;
  #restartDelay = 0;
  #resendTimer = 0;
  #crossingTimer = 0;
  #resends = 0;
  #statsTimer = 0;
  #watched = false;
  /** Channels that the peer opens without being asked are closed; whoever goes on has something in mind. */
  #uninvited = new Bucket(10, 0.1);
  /** Whether a relay has taken this side in, and why not. */
  #relayed = false;
  #relayError = "";

  /**
   * `signal(type, fields)` sends to the peer by way of the server; false if that is not possible. `mayBegin()`: whether the peer may have this side
   * begin anew. `services` are what
   * the link is for, each with the label and id of its data channel, which it is given by `attach` and loses at
   * `detach`. The link is open when the first one's channel is.
   */
  constructor({ selfId, peerId, ice, signal, mayBegin, services }) {
    super();
    this.#polite = selfId < peerId;
    this.#ice = ice;
    this.#signal = signal;
    this.#mayBegin = mayBegin;
    this.#services = services;
    this.state = "connecting";
    this.reason = "";
    this.meter = new Meter();
  }

  /** Makes the connection from this side. */
  async start() {
    this.#expect(CONNECT_TIMEOUT_MS);
    await this.#ice.fresh();
    if (!this.#pc && this.state === "connecting") this.#fresh();
  }

  /** Whether somebody looks at the figures: they are read more often then. */
  watch(watched) {
    if (watched === this.#watched) return;
    this.#watched = watched;
    if (watched && this.state === "open") this.#measure(this.#pc);
  }

  /** The network is another one: the path is looked for again, and the connection goes on meanwhile. */
  moved() {
    if (this.state === "open" || this.state === "interrupted") this.#restartIce(this.#pc);
  }

  /** There are new credentials: what a relay carries gets a place there with them, before the old ones end. */
  renew() {
    if (this.state !== "open" && this.state !== "interrupted") return;
    if (this.meter.path === "turn") this.#restartIce(this.#pc);
    else this.#pc.setConfiguration({ ...this.#pc.getConfiguration(), iceServers: this.#ice.servers });
  }

  /** An offer or answer of the peer. */
  onDescription(type, sdp) {
    // Data and nothing else: no microphone, camera or picture is ever part of it.
    if (sections(sdp).join() === "application") this.#queue(() => this.#describe({ type, sdp }));
  }

  /** A candidate of the peer. */
  onCandidate(text) {
    this.#queue(() => this.#candidate(JSON.parse(text)));
  }

  /** The server could not hand over what was sent, because the peer is `away`, `gone` or `busy`. */
  onUndelivered(reason) {
    if (!this.#pc) return;
    if (this.state === "connecting" && reason === "gone") return this.#end("failed", reason);
    this.#lost = reason;
    if (this.#resendTimer) return;
    if (this.#resends < MAX_RESENDS) {
      this.#resends += 1;
      this.#resendTimer = setTimeout(() => this.#resend(), RESEND_AFTER_MS * this.#resends);
    } else if (this.state === "connecting") {
      this.#end("failed", reason);
    }
    // An open or interrupted link waits for `resume`: it may mend without, and has a deadline otherwise.
  }

  /** There is a way to the peer again: what may be lost, also without anybody having said so, is sent once more. */
  resume() {
    const waiting = this.state === "connecting" || this.#pc?.signalingState === "have-local-offer";
    if (!waiting && !this.#lost) return;
    if (this.state === "interrupted") this.#expect(RECOVER_TIMEOUT_MS);
    this.#resends = 0;
    this.#resend();
  }

  close(reason = "here") {
    this.#end("closed", reason);
  }

  // --- the connection ------------------------------------------------------------------------------------

  /** Begins anew, with nothing of what was before. */
  #fresh() {
    this.#drop();
    const pc = new RTCPeerConnection({ iceServers: this.#ice.servers });
    this.#pc = pc;
    const channels = this.#services.map((service) => {
      const channel = pc.createDataChannel(service.label, { negotiated: true, id: service.id });
      service.attach(channel);
      return channel;
    });
    const channel = channels[0];
    this.#channel = channel;
    const current = (handler) => (event) => pc === this.#pc && handler(event);
    pc.addEventListener("negotiationneeded", current(() => this.#offer(pc)));
    pc.addEventListener("icecandidate", current(({ candidate }) => {
      if (!candidate) return;
      if (candidate.type === "relay") this.#relayed = true;
      const text = JSON.stringify(candidate);
      if (this.#candidates.length < MAX_CANDIDATES) this.#candidates.push(text);
      this.#tell("IceCandidate", { candidate: text });
    }));
    pc.addEventListener("icecandidateerror", current(({ url, errorCode }) => {
      if (!/^turns?:/i.test(url)) return;
      const error = UNAUTHORIZED.includes(errorCode) ? "turn-refused" : OVER_QUOTA.includes(errorCode) ? "turn-full" : "turn-silent";
      // A server that answers says more than one that is out of reach by one of several ways.
      if (!this.#relayError || error !== "turn-silent") this.#relayError = error;
    }));
    pc.addEventListener("datachannel", current(({ channel: uninvited }) => {
      uninvited.close();
      if (!this.#uninvited.take()) this.dispatchEvent(new CustomEvent("flood", { detail: { over: true } }));
    }));
    pc.addEventListener("connectionstatechange", current(() => this.#connectionChanged(pc)));
    channel.addEventListener("open", current(() => this.#opened()));
    channel.addEventListener("close", current(() => this.#end("closed", "there")));
    this.#set("connecting");
    this.#expect(CONNECT_TIMEOUT_MS);
  }

  async #offer(pc) {
    try {
      this.#makingOffer = true;
      await pc.setLocalDescription();
      if (pc !== this.#pc || pc.localDescription?.type !== "offer") return;
      this.#candidates = [];
      this.#offeredAt = performance.now();
      const sent = this.#tell("Offer", { sdp: pc.localDescription.sdp });
      if (!sent && this.state === "connecting") this.#end("failed", "signaling");
    } catch (error) {
      console.warn("offer", error);
    } finally {
      if (pc === this.#pc) this.#makingOffer = false;
    }
  }

  /** Sends to the peer; false if that is not possible now, which is remembered. */
  #tell(type, fields) {
    const sent = this.#signal(type, fields);
    if (!sent) this.#lost = "signaling";
    // A description stands for everything before it.
    else if (type !== "IceCandidate") this.#lost = "";
    return sent;
  }

  /** Sends again what this side said last: an offer that has no answer, the answer, or the candidates. */
  #resend() {
    clearTimeout(this.#resendTimer);
    this.#resendTimer = 0;
    this.#lost = "";
    const local = this.#pc?.localDescription;
    if (!local) return;
    if (this.#pc.signalingState === "have-local-offer") {
      // With all candidates that were found so far.
      this.#tell("Offer", { sdp: local.sdp });
    } else if (local.type === "offer") {
      for (const candidate of this.#candidates) this.#tell("IceCandidate", { candidate });
    } else if (this.state === "connecting") {
      // The peer may have begun anew meanwhile, and an answer to what it has forgotten would confuse it.
      this.#fresh();
    } else {
      this.#tell("Answer", { sdp: local.sdp });
    }
  }

  async #describe(description) {
    const before = this.#pc?.remoteDescription?.sdp;
    const reborn = description.type === "offer" && before && fingerprint(before) !== fingerprint(description.sdp);
    // A peer that reloaded has another certificate: what we had with it is over, whatever its state says.
    if (!this.#pc || reborn) {
      if (description.type !== "offer" || (reborn && !this.#mayBegin())) return;
      this.#fresh();
    }
    const ready = !this.#makingOffer && (this.#pc.signalingState === "stable" || this.#answerPending);
    const collision = description.type === "offer" && !ready;
    this.#ignoreOffer = collision && !this.#polite;
    if (this.#ignoreOffer) {
      // The peer waits for an offer of this side that it has perhaps never seen; it is there to take it now.
      const since = performance.now() - this.#offeredAt;
      if (this.#lost || since > CROSSING_MS) {
        this.#offeredAt = performance.now();
        this.#resend();
      } else {
        // Most likely the two have crossed, and the answer is on its way. Otherwise it will never come by itself.
        clearTimeout(this.#crossingTimer);
        this.#crossingTimer = setTimeout(() => this.#pc?.signalingState === "have-local-offer" && this.#resend(), CROSSING_MS - since);
      }
      return;
    }
    // Taking back the very first offer would take the data channel's transport with it, and Chromium does not
    // give the channel another. Nothing is lost with a connection that has not begun.
    if (collision && !before) this.#fresh();
    const pc = this.#pc;
    if (description.type === "answer" && pc.signalingState !== "have-local-offer") return;
    this.#answerPending = description.type === "answer";
    if (this.#answerPending) this.#lost = "";
    try {
      await pc.setRemoteDescription(description);
    } finally {
      this.#answerPending = false;
    }
    for (const candidate of this.#early.splice(0)) await this.#add(pc, candidate);
    if (description.type === "offer") {
      await pc.setLocalDescription();
      if (pc !== this.#pc) return;
      this.#candidates = [];
      this.#tell("Answer", { sdp: pc.localDescription.sdp });
    }
  }

  async #candidate(candidate) {
    if (!this.#pc?.remoteDescription) {
      if (!this.#ignoreOffer && this.#early.length < MAX_CANDIDATES) this.#early.push(candidate);
      return;
    }
    await this.#add(this.#pc, candidate);
  }

  async #add(pc, candidate) {
    try {
      await pc.addIceCandidate(candidate);
    } catch (error) {
      // Candidates of an offer that was not taken find no place, and need none.
      if (!this.#ignoreOffer) console.debug("candidate", error.message);
    }
  }

  #connectionChanged(pc) {
    switch (pc.connectionState) {
      case "connected":
        clearTimeout(this.#restart);
        if (this.state === "interrupted") this.#opened();
        break;
      case "disconnected":
        // A relay that is silent for so long has most likely forgotten this side, and does not remember it by itself.
        this.#interrupted(this.meter.path === "turn" ? 0 : RESTART_AFTER_MS);
        break;
      case "failed":
        this.#interrupted(0);
        break;
    }
  }

  #interrupted(restartAfter) {
    if (this.state === "open") {
      this.#set("interrupted");
      this.#expect(RECOVER_TIMEOUT_MS);
    }
    this.#restartDelay = RESTART_AGAIN_MS;
    this.#planRestart(restartAfter);
  }

  #planRestart(delay) {
    const pc = this.#pc;
    clearTimeout(this.#restart);
    this.#restart = setTimeout(() => this.#restartIce(pc), delay);
  }

  /** Looks for another path, with credentials that are still good. */
  async #restartIce(pc) {
    await this.#ice.fresh();
    if (!pc || pc !== this.#pc) return;
    if (this.state === "interrupted") {
      this.#planRestart(this.#restartDelay);
      this.#restartDelay *= 2;
    }
    pc.setConfiguration({ ...pc.getConfiguration(), iceServers: this.#ice.servers });
    pc.restartIce();
  }

  #opened() {
    if (this.#channel?.readyState !== "open") return;
    clearTimeout(this.#deadline);
    this.#resends = 0;
    this.#set("open");
    this.#measure(this.#pc);
  }

  #expect(ms) {
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.#end("failed", this.#lost || this.#obstacle()), ms);
  }

  /** Why no path was found, as far as this side knows. */
  #obstacle() {
    if (!this.#ice.relay) return "no-relay";
    if (!this.#relayed && this.#relayError === "turn-refused") this.#ice.refused();
    return this.#relayed ? "no-route" : this.#relayError || "turn-silent";
  }

  #end(state, reason) {
    if (this.state === "failed" || this.state === "closed") return;
    this.#drop();
    this.#set(state, reason);
  }

  #drop() {
    for (const timer of [this.#deadline, this.#restart, this.#resendTimer, this.#crossingTimer, this.#statsTimer]) clearTimeout(timer);
    this.#resendTimer = 0;
    this.#early = [];
    this.#candidates = [];
    this.#lost = "";
    this.#makingOffer = this.#answerPending = this.#ignoreOffer = false;
    this.#relayed = false;
    this.#relayError = "";
    const pc = this.#pc;
    this.#pc = this.#channel = null;
    this.meter.restart();
    for (const service of this.#services) service.detach();
    pc?.close();
  }

  #set(state, reason = "") {
    const changed = state !== this.state || reason !== this.reason;
    this.state = state;
    this.reason = reason;
    if (changed) this.dispatchEvent(new CustomEvent("state"));
  }

  /** One thing after the other, in the order of arrival. What fails is said and the next one gets its turn. */
  #queue(step) {
    this.#work = this.#work.then(step).catch((error) => console.warn("signal", error));
  }

  // --- how it is connected -------------------------------------------------------------------------------

  async #measure(pc) {
    clearTimeout(this.#statsTimer);
    let stats;
    try {
      stats = await pc.getStats();
    } catch {
      return;
    }
    if (pc !== this.#pc) return;
    clearTimeout(this.#statsTimer);
    if (this.meter.read(stats, this.#ice.servers.length > 0)) this.dispatchEvent(new CustomEvent("stats"));
    this.#statsTimer = setTimeout(() => this.#measure(pc), this.#watched ? WATCHED_INTERVAL_MS : STATS_INTERVAL_MS);
  }
}

/** What a session description is about, by its media lines. */
const sections = (sdp) => [...String(sdp).matchAll(/^m=(\w+)/gm)].map(([, kind]) => kind);

/** The certificate in a session description, which is another after a reload. */
const fingerprint = (sdp) => /^a=fingerprint:(.*)$/m.exec(sdp)?.[1].trim() ?? "";
