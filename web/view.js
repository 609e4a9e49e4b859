// What is seen: paints people, conversation and states. Decides nothing.

import { byId, make, paintAvatar, setText } from "./dom.js";
import { ROOM } from "./store.js";
import { composerWords, deliveryWords, failureTone, failureWords, linkWords, roomWords, signalingWords, timeWords, welcomeWords } from "./words.js";

const rows = new Map();
const alphabet = new Intl.Collator(undefined, { numeric: true });
let shown = null;
/** Whether the end of the log is seen. It stays so when the log grows, and when it has less room than before. */
let atEnd = true;

/** The size that the log had when the observer was told last. */
let size = "";
const sizeOf = (log) => `${log.clientWidth} ${log.clientHeight}`;

byId("log").addEventListener("scroll", ({ target: log }) => {
  // Where the size is new, it is not the reader who left the end: the observer is told next.
  if (sizeOf(log) === size) atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
});
new ResizeObserver(([{ target: log }]) => {
  size = sizeOf(log);
  if (atEnd) log.scrollTop = log.scrollHeight;
}).observe(byId("log"));

/** Gives a peer a name to be called by. */
export const nameOf = (peer) => peer.name || peer.id;

/** Tells screen readers what others see. */
export function announce(text) {
  byId("announce").textContent = text;
}

export function paintSelf(identity) {
  paintAvatar(byId("me-avatar"), identity.id, identity.name);
  setText(byId("me-id"), identity.id);
  byId("me-id").title = identity.id;
  if (document.activeElement !== byId("name")) byId("name").value = identity.name;
  byId("share-link").value = linkTo(identity.id);
}

/** The link that connects whoever opens it. */
export const linkTo = (id) => `${location.origin}/#peer=${id}`;

export function paintSignaling(status, url, failures, open = 0) {
  const { pill, help } = signalingWords(status, url, failures, open);
  const news = help && (byId("signaling-help").hidden || byId("signaling-help-title").textContent !== help.title);
  byId("signaling").dataset.tone = pill.tone;
  setText(byId("signaling-text"), pill.text);
  byId("signaling-help").hidden = !help;
  if (help) {
    setText(byId("signaling-help-title"), help.title);
    setText(byId("signaling-help-text"), help.text);
    setText(byId("signaling-help-next"), help.next ?? "");
    // Said once; the seconds that count down are for the eye.
    if (news) announce(`${help.title}. ${help.text}`);
    byId("signaling-help-action").hidden = !help.action;
    setText(byId("signaling-help-action"), help.action ?? "");
  }
}

/**
 * Paints the people pane. `state` is the signaling's; `informed`: the server says who is here, else it is who was here
 * last. `unlisted`: how many others are here.
 */
export function paintPeople(peers, room, selected, state, informed, unlisted) {
  const order = [...peers].sort((a, b) => rank(a) - rank(b) || alphabet.compare(nameOf(a), nameOf(b)) || (a.id < b.id ? -1 : 1));
  const ids = new Set(peers.map((peer) => peer.id));
  for (const [id, row] of rows) {
    if (!ids.has(id)) {
      row.item.remove();
      rows.delete(id);
    }
  }
  const list = byId("peer-list");
  order.forEach((peer, index) => {
    const row = rows.get(peer.id) ?? makeRow(peer.id);
    paintRow(row, peer, peer.id === selected, informed);
    // Moved only where it must: a moved element loses the focus.
    if (list.children[index] !== row.item) list.insertBefore(row.item, list.children[index] ?? null);
  });
  const here = peers.filter((peer) => peer.present).length + unlisted;
  const reachable = here - peers.filter((peer) => peer.present && peer.blocked).length;
  const [open, connecting] = ["open", "connecting"].map((state) => peers.filter((peer) => peer.state === state).length);
  byId("room-head").hidden = !informed && peers.length === 0;
  setText(byId("room-title"), informed ? "People here" : "People seen last");
  setText(byId("room-count"), here.toLocaleString("en"));
  byId("room-more").hidden = unlisted === 0;
  setText(byId("room-more"), `and ${unlisted.toLocaleString("en")} more, who are reached by id`);
  byId("room-empty").hidden = peers.length > 0 || state !== "online";
  byId("by-id").hidden = state === "off";
  const welcome = welcomeWords(state, informed, { here, open });
  setText(byId("welcome-title"), welcome.title);
  setText(byId("welcome-text"), welcome.text);
  byId("share").hidden = !welcome.share;
  const roomRow = byId("room-row");
  roomRow.hidden = peers.length === 0 && room.entries.length === 0 && selected !== ROOM;
  roomRow.setAttribute("aria-current", String(selected === ROOM));
  setText(byId("room-state"), roomWords({ here: reachable, open, connecting }).state);
  paintUnread(byId("room-unread"), room.unread);
  const unread = peers.reduce((sum, peer) => sum + peer.unread, room.unread);
  document.title = unread ? `(${unread}) Hippius` : "Hippius";
}

/** Lists those who are blocked, as `{id, name}`, each with a button to unblock them. */
export function paintBlocked(blocked) {
  const list = byId("blocked-list");
  byId("blocked").hidden = blocked.length === 0;
  if (list.painted === blocked) return;
  list.painted = blocked;
  list.replaceChildren(...blocked.map((who) => {
    const item = make("li");
    const button = make("button", "button small", "Unblock", { type: "button", "aria-label": `Unblock ${nameOf(who)}` });
    button.dataset.unblock = who.id;
    item.append(make("span", "peer-name", nameOf(who), { title: who.id }), button);
    return item;
  }));
}

const rank = (peer) => (peer.state === "open" || peer.state === "interrupted" ? 0 : peer.present && !peer.blocked ? 1 : 2);

function makeRow(id) {
  const item = make("li");
  const button = make("button", "peer", "", { type: "button" });
  button.dataset.peer = id;
  const avatar = make("span", "avatar", "", { "aria-hidden": "true" });
  const text = make("span", "peer-text");
  const name = make("span", "peer-name");
  const state = make("span", "peer-state");
  const unread = make("span", "unread");
  unread.append(make("span"), make("span", "sr", " unread"));
  text.append(name, state);
  button.append(avatar, text, unread);
  item.append(button);
  const row = { item, button, avatar, name, state, unread };
  rows.set(id, row);
  return row;
}

function paintRow(row, peer, selected, informed) {
  const words = linkWords(peer, informed);
  paintAvatar(row.avatar, peer.id, peer.name);
  setText(row.name, nameOf(peer));
  setText(row.state, words.short);
  row.state.dataset.tone = words.tone;
  row.button.classList.toggle("gone", !(peer.present && informed) && peer.state !== "open");
  row.button.setAttribute("aria-current", String(selected));
  paintUnread(row.unread, peer.unread);
}

function paintUnread(element, count) {
  element.hidden = count === 0;
  setText(element.firstElementChild, count > 99 ? "99+" : String(count));
}

/** Shows the conversation `talk`, or the welcome without one. `counts`: how many are here, connected, and being connected. */
export function paintConversation(talk, counts) {
  byId("welcome").hidden = Boolean(talk);
  byId("chat").hidden = !talk;
  if (!talk) {
    shown = null;
    return;
  }
  const room = talk.id === ROOM;
  byId("chat-room-avatar").toggleAttribute("hidden", !room);
  byId("chat-avatar").hidden = room;
  byId("attach").hidden = room;
  byId("block").hidden = room || talk.blocked;
  if (room) paintRoom(counts);
  else paintPeer(talk);
  if (shown !== talk.id) {
    shown = talk.id;
    atEnd = true;
    byId("log").replaceChildren();
    byId("composer-error").textContent = "";
    talk.entries.forEach((entry) => append(talk, entry));
  }
}

function paintRoom(counts) {
  const words = roomWords(counts);
  setText(byId("chat-name"), "Everyone");
  setText(byId("chat-id"), "");
  byId("chat-id-line").hidden = true;
  byId("chat-state").dataset.tone = words.tone;
  setText(byId("chat-state-text"), words.state);
  setText(byId("chat-action"), "Connect to everyone");
  byId("chat-action").hidden = counts.here <= counts.open + counts.connecting;
  byId("chat-help").hidden = true;
  paintComposer(counts.open > 0, words.composer);
}

function paintComposer(open, words) {
  byId("message").disabled = !open;
  byId("send").disabled = !open;
  byId("attach").disabled = !open;
  byId("message").placeholder = words;
}

function paintPeer(peer) {
  const words = linkWords(peer);
  paintAvatar(byId("chat-avatar"), peer.id, peer.name);
  setText(byId("chat-name"), nameOf(peer));
  setText(byId("chat-id"), peer.id);
  byId("chat-id-line").hidden = !peer.name;
  byId("chat-state").dataset.tone = words.tone;
  setText(byId("chat-state-text"), words.long);
  const action = byId("chat-action");
  const connected = peer.state === "open" || peer.state === "interrupted";
  setText(action, connected ? "Disconnect" : peer.state === "connecting" ? "Cancel" : "Connect");
  action.hidden = peer.blocked || peer.state === "failed" || (!peer.link && !peer.present);
  const help = byId("chat-help");
  help.hidden = peer.state !== "failed" && !peer.blocked;
  const label = `Block ${nameOf(peer)}`;
  if (byId("block").title !== label) {
    byId("block").title = label;
    byId("block").setAttribute("aria-label", label);
  }
  if (!help.hidden) {
    const reason = peer.blocked ? "blocked" : peer.reason;
    setText(byId("chat-help-action"), peer.blocked ? "Unblock" : "Try again");
    help.dataset.tone = failureTone(reason);
    const failure = failureWords(reason, nameOf(peer), Boolean(peer.name));
    setText(byId("chat-help-title"), failure.title);
    setText(byId("chat-help-text"), failure.text);
  }
  paintComposer(peer.state === "open", composerWords(peer, nameOf(peer)));
}

/** Adds an entry to the log if its conversation is on the screen. */
export function append(talk, entry) {
  if (shown !== talk.id) return;
  const follow = atEnd;
  byId("log").append(makeEntry(talk, entry));
  if (follow || entry.kind === "own") scrollToEnd();
}

/** Takes an entry off the log. */
export function drop(entry) {
  entry.element?.remove();
}

/** To be called when something in the log has grown. */
export function keepEnd() {
  if (atEnd) scrollToEnd();
}

function scrollToEnd() {
  byId("log").scrollTop = byId("log").scrollHeight;
}

function makeEntry(talk, entry) {
  if (entry.kind === "file") return entry.make();
  entry.element = entry.kind === "note" ? make("p", "note", entry.text) : makeMessage(talk, entry);
  return entry.element;
}

function makeMessage(talk, entry) {
  const own = entry.kind === "own";
  const message = make("div", own ? "msg own" : "msg");
  const who = own ? "You" : entry.from.name;
  const bubble = make("p", "bubble", entry.text);
  // Among many, everybody sees who speaks.
  if (talk.id === ROOM && !own) message.append(make("p", "speaker", who, { title: entry.from.id }));
  else bubble.prepend(make("span", "sr", `${who}: `));
  const meta = make("p", "meta");
  message.append(bubble, meta);
  entry.meta = meta;
  paintDelivery(entry);
  return message;
}

/** Brings the line under a message up to date. */
export function paintDelivery(entry) {
  if (!entry.meta) return;
  const { text, bad } = entry.ways ? deliveryWords(entry) : { text: "", bad: false };
  setText(entry.meta, [timeWords(entry.at), text].filter(Boolean).join(" · "));
  entry.meta.dataset.tone = bad ? "bad" : "";
}

/** On narrow screens: which pane is seen. */
export function showPane(pane) {
  document.body.dataset.pane = pane;
}
