// A small graph of the last minute's bandwidth: what was sent as an area, what was received as a line.

import { WINDOW_MS } from "./stats.js";

const WIDTH = 240;
const HEIGHT = 56;
/** The least that fills the height, so that the odd keep-alive does not look like a flood. */
const FLOOR = 1000;

/** Draws samples of `Meter` into an SVG element that has the paths `.graph-sent` and `.graph-received`. */
export function drawGraph(svg, samples, now = performance.now()) {
  const top = scale(samples);
  const x = ({ at }) => (WIDTH * (1 - (now - at) / WINDOW_MS)).toFixed(1);
  const y = (rate) => (HEIGHT - 2 - (HEIGHT - 6) * (rate / top)).toFixed(1);
  const line = (key) => samples.map((sample, index) => `${index ? "L" : "M"}${x(sample)} ${y(sample[key])}`).join("");
  const some = samples.length > 1;
  const sent = some ? `${line("sent")}L${x(samples.at(-1))} ${HEIGHT}L${x(samples[0])} ${HEIGHT}Z` : "";
  svg.querySelector(".graph-sent").setAttribute("d", sent);
  svg.querySelector(".graph-received").setAttribute("d", some ? line("received") : "");
  return top;
}

/** The rate that reaches the top: the next of 1, 2, 5, 10, … kB/s above the highest. */
function scale(samples) {
  const highest = samples.reduce((most, { sent, received }) => Math.max(most, sent, received), 0);
  let top = FLOOR;
  for (let step = 0; top < highest; step += 1) top *= step % 3 === 1 ? 2.5 : 2;
  return top;
}
