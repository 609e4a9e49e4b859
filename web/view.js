// What is seen: paints people, conversation and states. Decides nothing.

import { byId, make, paintAvatar, setText } from "./dom.js";
import { composerWords, deliveryWords, failureWords, linkWords, signalingWords, welcomeWords } from "./words.js";

const rows = new Map();
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

export function paintSignaling(status, url, failures) {
  const { pill, help } = signalingWords(status, url, failures);
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
 * last.
 */
export function paintPeople(peers, selected, onSelect, state, informed) {
  const order = [...peers].sort((a, b) => rank(a) - rank(b) || nameOf(a).localeCompare(nameOf(b)) || (a.id < b.id ? -1 : 1));
  for (const [id, row] of rows) {
    if (!peers.some((peer) => peer.id === id)) {
      row.item.remove();
      rows.delete(id);
    }
  }
  const list = byId("peer-list");
  order.forEach((peer, index) => {
    const row = rows.get(peer.id) ?? makeRow(peer.id, onSelect);
    paintRow(row, peer, peer.id === selected, informed);
    // Moved only where it must: a moved element loses the focus.
    if (list.children[index] !== row.item) list.insertBefore(row.item, list.children[index] ?? null);
  });
  const here = peers.filter((peer) => peer.present).length;
  byId("room-head").hidden = !informed && peers.length === 0;
  setText(byId("room-title"), informed ? "People here" : "People seen last");
  setText(byId("room-count"), String(here));
  byId("room-empty").hidden = peers.length > 0 || state !== "online";
  byId("by-id").hidden = state === "off";
  const welcome = welcomeWords(state, informed, here);
  setText(byId("welcome-title"), welcome.title);
  setText(byId("welcome-text"), welcome.text);
  byId("share").hidden = !welcome.share;
  const unread = peers.reduce((sum, peer) => sum + peer.unread, 0);
  document.title = unread ? `(${unread}) Hippius` : "Hippius";
}

const rank = (peer) => (peer.state === "open" || peer.state === "interrupted" ? 0 : peer.present ? 1 : 2);

function makeRow(id, onSelect) {
  const item = make("li");
  const button = make("button", "peer", "", { type: "button" });
  button.dataset.peer = id;
  const avatar = make("span", "avatar", "", { "aria-hidden": "true" });
  const text = make("span", "peer-text");
  const name = make("span", "peer-name");
  const state = make("span", "peer-state");
  const unread = make("span", "unread");
  text.append(name, state);
  button.append(avatar, text, unread);
  item.append(button);
  button.addEventListener("click", () => onSelect(id));
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
  row.unread.hidden = peer.unread === 0;
  setText(row.unread, peer.unread > 99 ? "99+" : String(peer.unread));
  row.unread.setAttribute("aria-label", `${peer.unread} unread`);
}

/** Shows the conversation with `peer`, or the welcome without one. */
export function paintConversation(peer) {
  byId("welcome").hidden = Boolean(peer);
  byId("chat").hidden = !peer;
  if (!peer) {
    shown = null;
    return;
  }
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
  action.hidden = peer.state === "failed" || (!peer.link && !peer.present);
  const help = byId("chat-help");
  help.hidden = peer.state !== "failed";
  if (!help.hidden) {
    const failure = failureWords(peer.reason, nameOf(peer), Boolean(peer.name));
    setText(byId("chat-help-title"), failure.title);
    setText(byId("chat-help-text"), failure.text);
  }
  const open = peer.state === "open";
  byId("message").disabled = !open;
  byId("send").disabled = !open;
  byId("message").placeholder = composerWords(peer, nameOf(peer));
  if (shown !== peer.id) {
    shown = peer.id;
    atEnd = true;
    byId("log").replaceChildren();
    peer.entries.forEach((entry) => append(peer, entry));
  }
}

/** Adds an entry to the log if its conversation is on the screen. */
export function append(peer, entry) {
  if (shown !== peer.id) return;
  const log = byId("log");
  const follow = atEnd;
  log.append(entry.kind === "note" ? make("p", "note", entry.text) : makeMessage(peer, entry));
  while (log.childElementCount > peer.entries.length) log.firstElementChild.remove();
  if (follow || entry.kind === "own") log.scrollTop = log.scrollHeight;
}

function makeMessage(peer, entry) {
  const message = make("div", entry.kind === "own" ? "msg own" : "msg");
  const who = make("span", "sr", entry.kind === "own" ? "You: " : `${nameOf(peer)}: `);
  const bubble = make("p", "bubble", entry.text);
  bubble.prepend(who);
  const meta = make("p", "meta");
  message.append(bubble, meta);
  entry.meta = meta;
  paintDelivery(entry);
  return message;
}

/** Brings the line under a message up to date. */
export function paintDelivery(entry) {
  if (!entry.meta) return;
  const time = new Date(entry.at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  setText(entry.meta, entry.kind === "own" ? `${time} · ${deliveryWords[entry.delivery]}` : time);
  entry.meta.dataset.tone = entry.delivery === "lost" ? "bad" : "";
}

/** On narrow screens: which pane is seen. */
export function showPane(pane) {
  document.body.dataset.pane = pane;
}
