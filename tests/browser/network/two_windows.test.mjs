// Two windows of the client on a network that `hippius up` runs: its processes are killed under them, and the chat goes on.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { connected, hears, idOf, online, openWindow, picture, row, say, startBrowser, until } from "../support.mjs";

const { HIPPIUS, METRICS_URL } = process.env;

const processOf = (name) =>
  JSON.parse(execFileSync(HIPPIUS, ["status", "--json"])).processes.find((one) => one.name === name);

/** Kills a process and waits for its replacement. */
async function kill(name) {
  const { pid, generation } = processOf(name);
  process.kill(pid, "SIGKILL");
  await until(`${name} is back`, () => {
    const now = processOf(name);
    return now.generation > generation && now.state === "ready";
  });
}

/** The code with which the page's next signaling connection is closed. */
async function closeCode(page) {
  await page.evaluate(() => {
    window.ended = new Promise((seen) => window.sockets.at(-1).addEventListener("close", ({ code }) => seen(code)));
  });
  return { seen: page.evaluate(() => window.ended) };
}

/** Keeps the page's WebSockets within reach. */
const watchSockets = (page) => page.addInitScript(() => {
  window.sockets = [];
  window.WebSocket = class extends WebSocket {
    constructor(...options) {
      super(...options);
      window.sockets.push(this);
    }
  };
});

const figure = async (series) => {
  const page = await (await fetch(METRICS_URL)).text();
  const line = page.split("\n").find((one) => one.startsWith(series));
  return line === undefined ? undefined : Number(line.split(" ").at(-1));
};

test("two windows chat while signaling and web server are killed and come back", { timeout: 90_000 }, async () => {
  const browser = await startBrowser();
  try {
    const a = await openWindow(browser.context, { name: "Ada", prepare: watchSockets });
    const b = await openWindow(browser.context, { name: "Bela", prepare: watchSockets });
    const [idA, idB] = [await idOf(a), await idOf(b)];
    await row(a, idB).click();
    await connected(a);
    await row(b, idA).click();
    await connected(b);
    await say(a, "hello Bela");
    await hears(b, "hello Bela");
    await say(b, "hello Ada");
    await hears(a, "hello Ada");

    await until("the connection is counted", async () =>
      (await figure('webrtc_connections{process="signaling",role="signaling",type="direct"}')) === 1);
    await until("both sockets are counted", async () =>
      (await figure('ws_active_connections{process="signaling",role="signaling"}')) === 2);

    await kill("signaling");
    await say(a, "no server needed");
    await hears(b, "no server needed");
    await Promise.all([online(a), online(b)]);
    assert.deepEqual([await idOf(a), await idOf(b)], [idA, idB], "the ids outlive the server");

    // A restart drains it: windows are told to come back, and those who look on hear nothing of it.
    const { generation } = processOf("signaling");
    const codes = await Promise.all([a, b].map(closeCode));
    execFileSync(HIPPIUS, ["restart", "signaling"]);
    assert.deepEqual(await Promise.all(codes.map(({ seen }) => seen)), [1012, 1012]);
    assert.ok(processOf("signaling").generation > generation);
    await Promise.all([online(a), online(b)]);
    assert.deepEqual([await idOf(a), await idOf(b)], [idA, idB], "and the ids outlive a drain");
    await say(b, "drained and back");
    await hears(a, "drained and back");
    assert.equal(await a.locator(".note", { hasText: "Connected to" }).count(), 1, "the same chat all the time");

    await kill("web");
    const c = await openWindow(browser.context, { name: "Cleo" });
    await row(c, idA).click();
    await connected(c);
    await say(c, "I came later");
    await row(a, await idOf(c)).click();
    await hears(a, "I came later");
    await picture(a, "network");
    for (const page of [a, b, c]) assert.deepEqual(page.problems, []);
  } finally {
    await browser.close();
  }
});
