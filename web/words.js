// Every state and failure in words.

/** What the people list and the conversation's head say of a link. `informed`: whether it is known who is here. */
export function linkWords(peer, informed = true) {
  if (peer.blocked) return { tone: "idle", short: "Blocked", long: "Blocked" };
  switch (peer.state) {
    case "connecting":
      return { tone: "wait", short: "Connecting…", long: "Connecting…" };
    case "open":
      return { tone: "good", short: "Connected", long: ["Connected", pathWords(peer.path), rttWords(peer.rtt)].filter(Boolean).join(" · ") };
    case "interrupted":
      return { tone: "wait", short: "Interrupted, reconnecting…", long: "Interrupted, reconnecting…" };
    case "failed": {
      const words = { gone: "Not here", away: "Away", signaling: "Waiting for the server", flood: "Disconnected" }[peer.reason] ?? "Could not connect";
      const tone = peer.reason === "gone" ? "idle" : failureTone(peer.reason);
      return { tone, short: words, long: words };
    }
    default:
      return peer.present
        ? { tone: "idle", short: informed ? "Here now" : "Was here", long: "Not connected" }
        : { tone: "idle", short: "Left", long: "Left" };
  }
}

/** The way that data takes. */
export const pathWords = (path) => ({ direct: "direct", stun: "direct, through STUN", turn: "relayed by TURN" })[path] ?? "";

export function rttWords(rtt) {
  if (rtt === undefined) return "";
  const ms = rtt * 1000;
  return ms < 1 ? "< 1 ms" : `${Math.round(ms)} ms`;
}

/** A state of a link by itself. */
export const stateWords = (state) =>
  ({ connecting: "Connecting", open: "Connected", interrupted: "Interrupted" })[state] ?? "Not connected";

/** One end of a connection. */
export function candidateWords(candidate) {
  if (!candidate?.type) return "–";
  const kind = {
    host: "Local address",
    srflx: "Address seen by STUN",
    prflx: "Address seen by the other side",
    relay: "Address at the TURN server",
  }[candidate.type] ?? candidate.type;
  return [`${kind} (${candidate.type})`, candidate.protocol.toUpperCase(), candidate.address].filter(Boolean).join(" · ");
}

/** An amount of bytes, as file managers write it. */
export function sizeWords(bytes) {
  if (bytes < 1000) return `${Math.round(bytes)} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = -1;
  do {
    value /= 1000;
    unit += 1;
  } while (value >= 999.5 && unit < units.length - 1);
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export const rateWords = (perSecond) => `${sizeWords(perSecond)}/s`;

export const timeWords = (at) => new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

/** What stands in the talk when a connection ends, by the link's reason, and in between. */
export const noteWords = {
  here: () => "You disconnected",
  there: (name) => `${name} disconnected`,
  flood: (name) => `${name} sent more than this page takes, and was disconnected`,
  lost: () => "The connection was lost",
  blocked: (name) => `You blocked ${name}`,
  unblocked: (name) => `You unblocked ${name}`,
  flooding: (name) => `${name} sends faster than this page takes; some of it is left out`,
};

/** How a file is doing. `problem`: why it cannot be accepted, or offered again. */
export function fileWords({ own, state, reason, size, bytes, blob }, name, problem = "") {
  const whole = sizeWords(size);
  if (problem) return { "too-large": "It is too large for this page.", full: "No room: remove received files first." }[problem] ?? problem;
  switch (state) {
    case "offered":
      return own ? `${whole} · waiting for ${name} to accept` : `${whole} · offered to you`;
    case "moving":
      return `${sizeWords(bytes)} of ${whole}`;
    case "checking":
      return `${whole} · being checked`;
    case "done":
      return own ? `${whole} · delivered and checked` : blob ? `${whole} · received and checked` : `${whole} · removed`;
    default:
      return `${whole} · ${endWords(reason, name)}`;
  }
}

function endWords(reason, name) {
  return {
    "refused-here": "you refused it",
    "cancelled-here": "cancelled",
    "cancelled-there": `cancelled by ${name}`,
    "taken-back": `${name} took the offer back`,
    refused: `${name} refused it`,
    busy: `${name} has too many files waiting`,
    "too-large": `${name} does not take files so large`,
    full: `${name} has no room for it`,
    "too-long": "broken off: more came than was announced",
    "too-short": "broken off: less came than was announced",
    damaged: "broken off: it was damaged on the way",
    unreadable: "broken off: the file can no longer be read",
    lost: "the connection ended",
  }[reason] ?? "not delivered";
}

/** Whether that is good news or bad; neither where it is as this side wanted it, or nothing is over yet. */
export function fileTone({ own, state, reason, blob }, problem = "") {
  if (problem) return "bad";
  if (state === "ended") return ["refused-here", "cancelled-here", "taken-back"].includes(reason) ? "" : "bad";
  return state === "done" && (own || blob) ? "good" : "";
}

/** What passes by itself, so that nobody has to do anything. */
export const failureTone = (reason) => (["gone", "away", "signaling", "blocked"].includes(reason) ? "wait" : "bad");

/** Why there is no connection and what to try. `known`: this one has been here before. */
export function failureWords(reason, name, known = false) {
  switch (reason) {
    case "gone":
      if (known) return { title: `${name} has left`, text: "As soon as they are back in the same window, the connection is made." };
      return {
        title: `${name} is not here`,
        text: "Nobody with this id is connected right now. Check the id, and that they have this page open. As soon as they appear, the connection is made.",
      };
    case "blocked":
      return {
        title: `You blocked ${name}`,
        text: "Their calls, messages and files do not reach you. They are not told, and may come back under another id.",
      };
    case "signaling":
      return {
        title: "The signaling server is out of reach",
        text: "It introduces two browsers to each other, so a new connection has to wait for it. It is made as soon as the server is back.",
      };
    case "away":
      return {
        title: `${name} is away for a moment`,
        text: "Their window has lost the signaling server, and may be back any second. Try again in a moment.",
      };
    case "too-many":
      return {
        title: "Too many chats at once",
        text: "This window holds as many connections as it may. Disconnect from somebody, then try again.",
      };
    case "busy":
      return { title: `${name} is not answering`, text: "Their window takes no more messages from the server. Ask them to reload the page, then try again." };
    case "flood":
      return {
        title: `${name} sent too much`,
        text: "More came than this page takes, so it ended the connection, and takes no calls from there for a minute. Try again only if you know who it is.",
      };
    case "turn-refused":
      return {
        title: "The relay refused this window",
        text: `No direct path to ${name} was found, and the TURN server that would pass everything on does not accept the credentials it was given. Try again: new ones are asked for. If that does not help, whoever runs this server has to look at the TURN secret and the clocks.`,
      };
    case "turn-full":
      return {
        title: "The relay has no room",
        text: `No direct path to ${name} was found, and the TURN server that would pass everything on is used to capacity. Try again in a while, or from another network.`,
      };
    case "turn-silent":
      return {
        title: `No way through to ${name}`,
        text: "No direct path was found, and the TURN server that would pass everything on does not answer this window: usually a firewall or VPN that blocks UDP. Try another network, or switch the VPN off.",
      };
    case "no-relay":
      return {
        title: `No way through to ${name}`,
        text: "Both browsers are here but found no path between them: usually a firewall or VPN that blocks UDP. Try another network, or switch the VPN off on one side. This server offers no relay.",
      };
    default:
      return {
        title: `No way through to ${name}`,
        text: `Both browsers are here but found no path between them, and none through the relay either. Try again; if that does not help, ask ${name} to try another network.`,
      };
  }
}

/** Why the signaling server does not take this window, and what to try. The codes are those of docs/signaling.md. */
function refusalWords({ code, message }) {
  if (code.includes("token")) {
    return {
      title: "You need an invitation",
      text: `It says: ${message}. Open the link with #token=… that whoever runs it gave you, or ask for a new one.`,
    };
  }
  switch (code) {
    case "id_taken":
      return { title: "Your invitation is in use", text: "It is for one id, which is here in another window. Close that one, or ask for an invitation of your own." };
    case "too_many_joins":
      return { title: "Many have just come from your address", text: "Everybody behind your router counts. The server lets you in in a moment." };
    case "room_full":
      return { title: "This room is full", text: `The server says: ${message}. You are let in when somebody has left.` };
    case "server full":
      return { title: "The signaling server is full", text: "It serves as many windows as it may. Try again when others have left, or ask whoever runs it to raise max_clients." };
    case "too many connections":
      return {
        title: "Too many windows from your address",
        text: "Everybody behind your router counts. Close windows that you do not need, or ask whoever runs the server to raise max_per_address.",
      };
    case "flood":
      return { title: "The server sent too much", text: "More came than this page takes, so it left the server. Open chats go on." };
    case "rate limit":
    case "rate_limited":
      return { title: "The server wants a pause", text: "This window sent too much in too short a time. It may connect again in a moment." };
    default:
      return {
        title: "The signaling server refuses this window",
        text: `It says: ${message}. Try another name, or reload the page: it may be older than the server.`,
      };
  }
}

/** What the pill beside the name of the page says, and the help below it when something is wrong. `open`: how many chats are. */
export function signalingWords({ state, retryAt, refusal, leftOut = 0 }, url, failures, open = 0) {
  const pill = {
    connecting: { tone: "wait", text: "Connecting" },
    online: { tone: "good", text: "Online" },
    waiting: { tone: "bad", text: "Offline" },
    refused: { tone: "bad", text: "Refused" },
    replaced: { tone: "bad", text: "Moved" },
    off: { tone: "bad", text: "No signaling" },
    unserved: { tone: "bad", text: "Offline" },
  }[state];
  if (state === "replaced") {
    return { pill, help: { title: "You are in another window", text: "The same id was opened elsewhere, and this window let go of it.", action: "Join with a new id" } };
  }
  if (state === "off") {
    return { pill, help: { title: "No signaling server", text: "This network runs without one, so browsers cannot find each other. Add [signaling] to its topology file." } };
  }
  if (state === "unserved") {
    return { pill, help: { title: "The web server does not answer", text: "This page came from it, and asks it where the signaling server is. Trying again." } };
  }
  const wait = Math.max(1, Math.ceil((retryAt - Date.now()) / 1000));
  const retry = { next: retryAt ? `Next try in ${wait} s.` : "Trying now.", action: "Try now" };
  if (refusal) return { pill, help: { ...refusalWords(refusal), ...retry } };
  if (state === "online" && leftOut) {
    const text = `Messages left out: ${leftOut.toLocaleString("en")}. Who is here may no longer be what the list says.`;
    return { pill, help: { title: "The server sends more than this page takes", text, action: "Ask again" } };
  }
  // One broken connection mends itself before anybody could read about it.
  if (state !== "online" && failures > 1) {
    const text = `Is it running, and is ${url} reachable from here?${open ? " Open chats go on." : ""}`;
    return { pill, help: { title: "The signaling server does not answer", text, ...retry } };
  }
  return { pill, help: null };
}

/** What the field for a message says. */
export function composerWords(peer, name) {
  if (peer.blocked) return `You blocked ${name}`;
  if (peer.state === "open") return `Message to ${name}`;
  if (peer.state === "interrupted") return "One moment, the connection is being mended";
  return peer.present || peer.state !== "closed" ? "Write once connected" : `${name} has left`;
}

/** The conversation with the whole room: `here` others, with `open` of them a connection, and one being made with `connecting`. */
export function roomWords({ here, open, connecting = 0 }) {
  if (open === 0 && connecting) return { tone: "wait", state: `Connecting to ${connecting}…`, composer: "Write once somebody is connected" };
  if (open === 0) return { tone: "idle", state: "Nobody connected", composer: "Write once somebody is connected" };
  const all = Math.max(here, open);
  return { tone: "good", state: `Connected to ${open} of ${all}`, composer: "Message to everyone" };
}

/** What is seen where no conversation is. `here`: how many others there are; `open`: how many of them are connected. */
export function welcomeWords(state, informed, { here, open }) {
  const how = "What you write goes straight from one browser to the other.";
  if (state === "off") return { title: "Nobody can meet here", text: "Browsers find each other through a signaling server, and this network has none." };
  if (state === "replaced") return { title: "This window has left the room", text: "What comes for you is seen in the other one." };
  if (!informed) return { title: "You cannot be found right now", text: `New chats begin once the signaling server has you on its list.${open ? " Open ones go on." : ""}` };
  if (state !== "online" && !here) return { title: "One moment", text: "Asking the signaling server who is here." };
  return here
    ? { title: "Choose someone to talk to", text: `Or send somebody your link. ${how}`, share: true }
    : { title: "Just you so far", text: `Open this page in a second window, or send someone your link. ${how}`, share: true };
}

/** What stands under a message of one's own: to one, or to several. `ways` by peer id: `{name, delivery}`. */
export function deliveryWords(entry) {
  const ways = [...entry.ways.values()];
  const lost = ways.filter(({ delivery }) => delivery === "lost");
  const delivered = ways.filter(({ delivery }) => delivery === "delivered").length;
  if (!entry.all) return { text: lost.length ? "Not delivered" : delivered ? "Delivered" : "Sent", bad: lost.length > 0 };
  const missed = lost.slice(0, 3).map(({ name }) => name).join(", ") + (lost.length > 3 ? " and others" : "");
  const text = delivered || lost.length ? `Delivered to ${delivered} of ${ways.length}` : `Sent to ${ways.length}`;
  return { text: missed ? `${text} · not to ${missed}` : text, bad: lost.length > 0 };
}
