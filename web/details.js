// How a connection is made: its candidates, times and amounts, with a graph, below the conversation's head.

import { byId, setText } from "./dom.js";
import { drawGraph } from "./graph.js";
import { ROOM } from "./store.js";
import { candidateWords, pathWords, rateWords, rttWords, sizeWords, stateWords } from "./words.js";

/** Open at first where there is room for it. */
let open = matchMedia("(min-width: 900px) and (min-height: 700px)").matches;

export function toggleDetails() {
  open = !open;
}

/** Shows the connection of `peer`; nothing for the room, or where there is none. */
export function paintDetails(peer) {
  const meter = peer?.link?.meter;
  const some = Boolean(meter) && peer.id !== ROOM;
  byId("details-toggle").hidden = !some;
  byId("details-toggle").setAttribute("aria-expanded", String(open && some));
  byId("details").hidden = !some || !open;
  if (!some || !open) return;
  const known = Boolean(meter.path);
  setText(byId("detail-state"), stateWords(peer.state));
  setText(byId("detail-path"), known ? pathWords(meter.path) : "–");
  setText(byId("detail-local"), candidateWords(meter.local));
  setText(byId("detail-remote"), candidateWords(meter.remote));
  setText(byId("detail-rtt"), rttWords(meter.rtt) || "–");
  setText(byId("detail-sent"), sizeWords(meter.bytesSent));
  setText(byId("detail-received"), sizeWords(meter.bytesReceived));
  const top = drawGraph(byId("graph"), meter.samples);
  setText(byId("graph-top"), rateWords(top));
  setText(byId("graph-sending"), rateWords(meter.sending));
  setText(byId("graph-receiving"), rateWords(meter.receiving));
  byId("graph").setAttribute("aria-label", `Bandwidth of the last minute: sending ${rateWords(meter.sending)}, receiving ${rateWords(meter.receiving)}`);
}
