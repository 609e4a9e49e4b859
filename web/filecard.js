// A file in the conversation: its name, how far it is, and what can be done about it. Decides nothing.

import { make, setText } from "./dom.js";
import { fileTone, fileWords, timeWords } from "./words.js";

const ICON = "M7 3h7l5 5v13H7zM14 3v5h5";

/** The element of a file's entry. `actions` are `accept`, `cancel`, `remove`, `again`, and `mayRepeat`. */
export function makeCard(entry, actions) {
  const { transfer } = entry;
  const element = make("div", transfer.own ? "msg own" : "msg");
  const card = make("div", "bubble file", "", { role: "group", tabindex: "-1", "aria-label": `File ${transfer.name}` });
  const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  icon.setAttribute("viewBox", "0 0 24 24");
  icon.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICON);
  icon.append(path);
  const about = make("div", "file-about");
  about.append(make("span", "sr", transfer.own ? "You: " : `${entry.name}: `), make("p", "file-name", transfer.name));
  // Figures that run are for the eye; what they come to is announced.
  const state = make("p", "file-state", "", { "aria-live": "off" });
  const progress = make("progress", "file-progress", "", { "aria-label": `Progress of ${transfer.name}`, max: String(transfer.size || 1) });
  const buttons = make("div", "file-actions");
  about.append(state, progress, buttons);
  card.append(icon, about);
  const meta = make("p", "meta", timeWords(entry.at));
  element.append(card, meta);
  entry.parts = { card, state, progress, buttons, actions };
  entry.element = element;
  entry.paintedState = "";
  paintCard(entry);
  return element;
}

/** Brings the card up to date, if it is on the screen. */
export function paintCard(entry) {
  const { transfer, parts } = entry;
  if (!parts) return;
  const { state, progress } = parts;
  setText(state, fileWords(transfer, entry.name, entry.problem));
  state.dataset.tone = fileTone(transfer, entry.problem);
  progress.hidden = !["moving", "checking"].includes(transfer.state);
  progress.value = transfer.size ? transfer.bytes : 1;
  const stage = `${transfer.state} ${entry.url}`;
  if (entry.paintedStage === stage && entry.paintedState === transfer.state) return;
  entry.paintedStage = stage;
  entry.paintedState = transfer.state;
  paintActions(entry);
}

function paintActions({ transfer, url, parts: { card, buttons, actions } }) {
  const focused = card.contains(document.activeElement);
  const button = (text, run, kind = "") => {
    const element = make("button", `button small ${kind}`.trim(), text, { type: "button", "aria-label": `${text} ${transfer.name}` });
    element.addEventListener("click", run);
    return element;
  };
  const shown = [];
  if (transfer.state === "offered" && !transfer.own) {
    shown.push(button("Accept", actions.accept, "primary"), button("Refuse", actions.cancel));
  } else if (!transfer.over) {
    shown.push(button("Cancel", actions.cancel));
  } else if (transfer.state === "done" && url) {
    const save = make("a", "button small primary", "Save", { href: url, download: transfer.name, "aria-label": `Save ${transfer.name}` });
    shown.push(save, button("Remove", actions.remove));
  } else if (transfer.state === "ended" && transfer.own && actions.mayRepeat()) {
    shown.push(button("Offer again", actions.again));
  }
  buttons.replaceChildren(...shown);
  buttons.hidden = shown.length === 0;
  // The button that had the focus is gone.
  if (focused && !card.contains(document.activeElement)) (shown[0] ?? card).focus();
}
