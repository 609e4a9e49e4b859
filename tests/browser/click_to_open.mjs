// Measures the time from the click on somebody's name to the open data channel, between two tabs over loopback.
//
//   RUN=click_to_open.mjs tests/browser/run.sh http://127.0.0.1:3000 hippius up topology/local.toml
//
// ROUNDS (default 30) pairs of fresh tabs, one pair after the other; the first round warms up and does not count.
import { connected, idOf, openWindow, row, startBrowser } from "./support.mjs";

const rounds = Number(process.env.ROUNDS ?? 30);

/** Notes when the page was clicked, and when the first data channel opened. */
const stopwatch = (page) => page.addInitScript(() => {
  addEventListener("click", () => { window.clickedAt ??= performance.now(); }, true);
  const create = RTCPeerConnection.prototype.createDataChannel;
  RTCPeerConnection.prototype.createDataChannel = function (...options) {
    const channel = create.apply(this, options);
    channel.addEventListener("open", () => { window.openAt ??= performance.now(); });
    return channel;
  };
});

async function round(context) {
  const a = await openWindow(context, { prepare: stopwatch });
  const b = await openWindow(context);
  const button = row(a, await idOf(b));
  await button.waitFor();
  await a.bringToFront();
  await button.click();
  await connected(a);
  const took = await a.evaluate(() => window.openAt - window.clickedAt);
  await a.close();
  await b.close();
  return took;
}

const browser = await startBrowser();
try {
  const times = [];
  for (let index = 0; index <= rounds; index += 1) {
    const took = await round(browser.context);
    if (index > 0) times.push(took);
  }
  times.sort((one, other) => one - other);
  const at = (share) => `${times[Math.min(times.length - 1, Math.floor(times.length * share))].toFixed(0)} ms`;
  console.log(`click to open data channel: median ${at(0.5)}, p90 ${at(0.9)}, max ${at(1)} (n=${times.length})`);
} finally {
  await browser.close();
}
