// What the user does: clicks, keys, links, and files that are dropped.

import { byId, copy } from "./dom.js";
import { toggleDetails } from "./details.js";
import { offer } from "./files.js";
import { cleanName, isId } from "./identity.js";
import { block, connect, connectToAll, report, say, unblock, unconnected } from "./links.js";
import { ROOM, current, peerOf, store, tidy } from "./store.js";
import { paint, seen } from "./talk.js";
import * as view from "./view.js";

const REPORT_INTERVAL_MS = 10_000;

/** A click on somebody: shows the conversation, and connects if there is no connection. */
export function select(id) {
  const before = store.peers.get(store.selected);
  store.selected = id;
  if (before && before.id !== id) tidy(before);
  const peer = id === ROOM ? null : peerOf(id);
  seen();
  if (peer && unconnected(peer)) connect(peer);
  paint();
  view.showPane("talk");
  byId(byId("message").disabled ? "conversation" : "message").focus();
}

/** Connects to the peer whose id or link is in `text`; what is wrong with it, or nothing. */
function connectById(text) {
  const id = text.trim().replace(/^.*#peer=/, "");
  if (!isId(id)) return "An id is made of letters, digits, dots, - and _.";
  if (id === store.identity.id) return "That is your own id.";
  select(id);
  return "";
}

/** Keeps the permission to register that the page's address may bring, which is nobody else's business. */
export function takeToken() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const token = parts.get("token");
  if (!token) return;
  store.identity.permit(token);
  parts.delete("token");
  history.replaceState(null, "", parts.size ? `#${parts}` : location.pathname);
  store.ice.permitted();
  if (store.signaling?.refusal) store.signaling.connect();
}

/** Opens the conversation that the page's address names. */
export function followHash() {
  takeToken();
  const id = new URLSearchParams(location.hash.slice(1)).get("peer");
  if (!id) return;
  history.replaceState(null, "", location.pathname);
  byId("by-id-error").textContent = connectById(id);
}

function wireTalk() {
  const message = byId("message");
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = message.value.trim();
    if (!text) return;
    const problem = say(text);
    byId("composer-error").textContent = problem;
    if (!problem) message.value = "";
    message.focus();
  });
  message.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    byId("composer").requestSubmit();
  });
  byId("chat-action").addEventListener("click", () => {
    const talk = current();
    if (talk === store.room) return connectToAll();
    if (talk.link) talk.link.close();
    else connect(talk);
    paint();
  });
  byId("block").addEventListener("click", () => {
    byId("composer-error").textContent = block(current());
    byId("conversation").focus();
  });
  byId("blocked-list").addEventListener("click", ({ target }) => {
    const button = target.closest("[data-unblock]");
    if (!button) return;
    unblock(button.dataset.unblock);
    // The button is gone.
    (document.querySelector("[data-unblock]") ?? byId("peer-id")).focus();
  });
  byId("chat-help-action").addEventListener("click", () => {
    if (current().blocked) unblock(current().id);
    else connect(current());
    paint();
    byId("conversation").focus();
  });
  byId("details-toggle").addEventListener("click", () => {
    toggleDetails();
    paint();
  });
  byId("back").addEventListener("click", () => {
    const id = store.selected;
    store.selected = null;
    if (store.peers.has(id)) tidy(store.peers.get(id));
    paint();
    view.showPane("people");
    document.querySelector(`[data-peer="${CSS.escape(id)}"]`)?.focus();
  });
}

function wireFiles() {
  const send = (files) => {
    const peer = current();
    if (!peer || peer === store.room || files.length === 0) return;
    byId("composer-error").textContent = offer(peer, files);
  };
  byId("attach").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", () => {
    send([...byId("file").files]);
    byId("file").value = "";
  });
  byId("message").addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length === 0) return;
    event.preventDefault();
    send(files);
  });
  const chat = byId("chat");
  // Anywhere on the page: a file that misses would replace the page otherwise.
  addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    chat.classList.toggle("dropping", !byId("attach").disabled && !byId("attach").hidden);
  });
  addEventListener("dragleave", (event) => event.relatedTarget ?? chat.classList.remove("dropping"));
  addEventListener("drop", (event) => {
    chat.classList.remove("dropping");
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    send([...event.dataTransfer.files]);
  });
}

function wireSelf() {
  const { identity } = store;
  byId("by-id").addEventListener("submit", (event) => {
    event.preventDefault();
    const problem = connectById(byId("peer-id").value);
    byId("by-id-error").textContent = problem;
    if (!problem) byId("peer-id").value = "";
  });
  byId("name").addEventListener("change", () => {
    identity.update({ name: cleanName(byId("name").value) });
    byId("name").value = identity.name;
    view.paintSelf(identity);
    // Names are told by registering; the resume token keeps the place.
    if (store.signaling?.state === "online" || store.signaling?.refusal) store.signaling.connect();
  });
  byId("name").addEventListener("keydown", (event) => event.key === "Enter" && byId("name").blur());
  byId("signaling-help-action").addEventListener("click", () => {
    if (store.signaling.state === "replaced") {
      identity.renew();
      view.paintSelf(identity);
    }
    store.signaling.connect();
  });
  for (const id of ["copy-link", "share-copy"]) {
    byId(id).addEventListener("click", async () => {
      const copied = await copy(view.linkTo(identity.id));
      view.announce(copied ? "Link copied" : "The link could not be copied");
      if (!copied) return;
      byId(id).classList.add("done");
      if (id === "share-copy") byId(id).textContent = "Copied";
      setTimeout(() => {
        byId(id).classList.remove("done");
        if (id === "share-copy") byId(id).textContent = "Copy link";
      }, 2_000);
    });
  }
}

function wirePage() {
  document.querySelector(".room").addEventListener("click", ({ target }) => {
    const row = target.closest("[data-peer]");
    if (row) select(row.dataset.peer);
  });
  addEventListener("hashchange", followHash);
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") seen();
    paint();
  });
  // Another network: what was found on the old one may lead nowhere now.
  const moved = () => {
    for (const peer of store.peers.values()) peer.link?.moved();
  };
  addEventListener("online", moved);
  let kind = navigator.connection?.type;
  // It tells of every estimate of speed as well.
  navigator.connection?.addEventListener("change", () => {
    const before = kind;
    kind = navigator.connection.type;
    if (kind !== before && kind !== "none") moved();
  });
  addEventListener("pagehide", () => {
    const open = [...store.peers.values()].filter((peer) => peer.state === "open");
    store.identity.leave(open.map((peer) => peer.id));
    for (const peer of store.peers.values()) peer.link?.close();
  });
  // Back from the browser's cache of pages: everything was closed when it went in.
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  setInterval(() => {
    for (const peer of store.peers.values()) if (peer.state === "open") report(peer);
  }, REPORT_INTERVAL_MS);
}

export function wire() {
  wireTalk();
  wireFiles();
  wireSelf();
  wirePage();
}
