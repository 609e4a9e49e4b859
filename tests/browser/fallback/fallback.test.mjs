// Two browsers, each behind a router that lets nothing in and gives every connection another port: no direct path exists, and they
// meet through the relay without anybody having told them to.
import assert from "node:assert/strict";
import { test } from "node:test";
import { connected, hears, idOf, openWindow, picture, row, say, startBrowser, until } from "../support.mjs";

const figure = async (series) => {
  const page = await (await fetch(process.env.METRICS_URL)).text();
  const line = page.split("\n").find((one) => one.startsWith(series));
  return line === undefined ? undefined : Number(line.split(" ").at(-1));
};

/** A browser on the host of the lab that the program `chromium` starts it on. */
async function startOn(chromium) {
  process.env.CHROMIUM = chromium;
  return startBrowser({ microphone: false });
}

test("where direct paths are blocked the relay is used, and the page says so", { timeout: 120_000 }, async () => {
  const one = await startOn(process.env.CHROMIUM_A);
  const other = await startOn(process.env.CHROMIUM_B);
  try {
    const a = await openWindow(one.context, { name: "Ada" });
    const b = await openWindow(other.context, { name: "Bela" });
    await row(a, await idOf(b)).click();
    await connected(a);
    await row(b, await idOf(a)).click();
    await connected(b);
    for (const page of [a, b]) await page.locator("#detail-path", { hasText: "relayed by TURN" }).waitFor();
    await say(a, "through two routers");
    await hears(b, "through two routers");
    await say(b, "and back");
    await hears(a, "and back");
    await picture(a, "fallback");
    await until("the relay counts", async () => (await figure("turn_bytes_sent_total{")) > 0);
    await until("the server is told", async () => (await figure('webrtc_connections{process="signaling",role="signaling",type="turn"}')) === 1);
    for (const page of [a, b]) assert.deepEqual(page.problems, []);
  } finally {
    await one.close();
    await other.close();
  }
});
