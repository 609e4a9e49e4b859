// Two windows on a network that `hippius up` runs, which may use nothing but its relay: what they say and send goes through it, its log
// counts what the browser counts, and they find back to each other when it is killed.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { connected, hears, idOf, openWindow, picture, row, say, startBrowser, until, watchLinks } from "../support.mjs";

const { HIPPIUS, BANDWIDTH_LOG } = process.env;
/** What the file takes, both ways through the relay, on a machine that does other things as well. */
const PATIENCE_MS = 240_000;
const FILE_BYTES = 50 * 1024 * 1024;

const processOf = (name) =>
  JSON.parse(execFileSync(HIPPIUS, ["status", "--json"])).processes.find((one) => one.name === name);

/** Whether a URL leads to a relay by `transport`: `udp`, `tcp` or `tls`. */
const leads = (url, transport) =>
  transport === "tls" ? url.startsWith("turns:") : url.startsWith("turn:") && url.endsWith(`transport=${transport}`);

/** The page may use relays alone, reached by `transport`; their credentials are those of the real server. */
const relayOnly = (transport) => async (page) => {
  await page.addInitScript(() => {
    window.RTCPeerConnection = class extends RTCPeerConnection {
      constructor(configuration) {
        super({ ...configuration, iceTransportPolicy: "relay" });
      }
    };
  });
  await watchLinks(page);
  await page.route("**/ice", async (route) => {
    const answer = await (await route.fetch()).json();
    const only = ({ urls, ...rest }) => ({ ...rest, urls: urls.filter((url) => leads(url, transport)) });
    const iceServers = answer.iceServers.map(only).filter(({ urls }) => urls.length > 0);
    await route.fulfill({ json: { ...answer, iceServers } });
  });
};

/** What the browser has counted on the path that it uses, and where that path begins. */
const counted = (page) => page.evaluate(async () => {
  // The page tries servers with connections of their own, which are closed at once.
  const stats = await window.links.findLast(({ connectionState }) => connectionState !== "closed").getStats();
  const transport = [...stats.values()].find(({ type }) => type === "transport");
  const way = stats.get(transport.selectedCandidatePairId);
  const { candidateType, port, relayProtocol } = stats.get(way.localCandidateId);
  return { sent: way.bytesSent, received: way.bytesReceived, candidateType, port, relayProtocol };
});

/** Watches for the page to say that its chat is interrupted, which may be over sooner than somebody who looks now and then would see it. */
async function interruption(page) {
  await page.evaluate(() => {
    const state = document.getElementById("chat-state-text");
    window.interrupted = new Promise((seen) => {
      const look = () => state.textContent.startsWith("Interrupted") && seen();
      new MutationObserver(look).observe(state, { characterData: true, childList: true, subtree: true });
    });
  });
  return { seen: page.waitForFunction(() => window.interrupted.then(() => true)) };
}

/** The newest line of the bandwidth log about the allocation with the relay port `port`. */
async function logged(port) {
  const lines = (await readFile(BANDWIDTH_LOG, "utf8")).trimEnd().split("\n").map((line) => JSON.parse(line));
  return lines.findLast(({ type, relay }) => type === "allocation" && relay.endsWith(`:${port}`));
}

/** Whether the log's figure is the browser's, within a hundredth. What the system lost on the way to it the log has more. */
const near = (logged, browser, lost = 0) => logged >= browser * 0.99 && logged <= browser * 1.01 + lost;

/** Bytes of datagrams, at most, that the system threw away because nobody read them in time. */
async function lostBytes() {
  const [names, values] = (await readFile("/proc/net/snmp", "utf8")).split("\n").filter((line) => line.startsWith("Udp:"));
  const packets = Number(values.split(" ")[names.split(" ").indexOf("RcvbufErrors")]);
  return packets * 1_500;
}

for (const transport of ["udp", "tcp", "tls"]) {
  test(`chat and a file of 50 MB through the relay, reached by ${transport}`, { timeout: PATIENCE_MS }, async () => {
    const browser = await startBrowser({ microphone: false });
    const folder = await mkdtemp(join(tmpdir(), "hippius-file-"));
    try {
      const prepare = relayOnly(transport);
      const a = await openWindow(browser.context, { name: "Ada", prepare });
      const b = await openWindow(browser.context, { name: "Bela", prepare });
      await row(a, await idOf(b)).click();
      await connected(a);
      await row(b, await idOf(a)).click();
      await connected(b);
      for (const page of [a, b]) {
        await page.locator("#detail-path", { hasText: "relayed by TURN" }).waitFor();
        const { candidateType, relayProtocol } = await counted(page);
        assert.deepEqual([candidateType, relayProtocol], ["relay", transport]);
      }
      await say(a, "by a relay");
      await hears(b, "by a relay");
      await say(b, "and back");
      await hears(a, "and back");

      const path = join(folder, "large.bin");
      await writeFile(path, "");
      await truncate(path, FILE_BYTES);
      await a.setInputFiles("#file", path);
      await b.locator(".file button", { hasText: "Accept" }).click();
      await a.locator(".file-state", { hasText: "delivered and checked" }).waitFor({ timeout: PATIENCE_MS });
      await picture(a, `relay-${transport}`);

      for (const [page, who] of [[a, "sender"], [b, "receiver"]]) {
        let found = {};
        await until(`the log says what the browser of the ${who} counted`, async () => {
          const { port, sent, received } = await counted(page);
          const line = await logged(port);
          // The relay receives what the browser sends.
          const lost = await lostBytes();
          found = { sent, received, logged_sent: line?.bytes_received, logged_received: line?.bytes_sent, lost };
          // Of what the browser sends, only the relay itself could lose something.
          return line && near(line.bytes_received, sent) && near(line.bytes_sent, received, lost);
        }).catch((error) => assert.fail(`${error.message} ${JSON.stringify(found)}`));
        assert.ok(Math.max(found.sent, found.received) > FILE_BYTES, JSON.stringify(found));
        console.log(transport, who, JSON.stringify(found));
      }

      const { pid, generation } = processOf("turn");
      const interrupted = await Promise.all([a, b].map(interruption));
      const killed = performance.now();
      process.kill(pid, "SIGKILL");
      // Whoever notices first looks for another path, perhaps before the other has noticed.
      await Promise.any(interrupted.map(({ seen }) => seen));
      const noticed = performance.now();
      await Promise.all([connected(a), connected(b)]);
      await say(a, "still there?");
      await hears(b, "still there?");
      const healed = performance.now();
      console.log(`${transport}: noticed after ${Math.round(noticed - killed)} ms, healed after ${Math.round(healed - killed)} ms`);
      assert.ok(processOf("turn").generation > generation);
      await say(b, "by another relay");
      await hears(a, "by another relay");
      // The same chat, not a new one.
      assert.equal(await a.locator(".note", { hasText: "Connected to" }).count(), 1);
      for (const page of [a, b]) assert.deepEqual(page.problems, []);
    } finally {
      await browser.close();
      await rm(folder, { recursive: true, force: true });
    }
  });
}

test("credentials are renewed during a call, and the call goes on with the new ones", { timeout: 90_000 }, async () => {
  const browser = await startBrowser({ microphone: false });
  try {
    // The first answer holds for so short a time that the page asks again as soon as it may.
    const prepare = async (page) => {
      await relayOnly("udp")(page);
      page.asked = 0;
      await page.route("**/ice", async (route) => {
        page.asked += 1;
        const answer = await (await route.fetch()).json();
        const iceServers = answer.iceServers.filter(({ username }) => username);
        await route.fulfill({ json: { iceServers, expires_at: page.asked === 1 ? Date.now() / 1000 + 15 : answer.expires_at } });
      });
    };
    const a = await openWindow(browser.context, { name: "Ada", prepare });
    const b = await openWindow(browser.context, { name: "Bela", prepare });
    await row(a, await idOf(b)).click();
    await connected(a);
    await row(b, await idOf(a)).click();
    await connected(b);
    const inUse = (page) => page.evaluate(() => {
      const link = window.links.findLast(({ connectionState }) => connectionState === "connected");
      const [{ username }] = link.getConfiguration().iceServers;
      const [, fragment] = /a=ice-ufrag:(.*)/.exec(link.currentLocalDescription.sdp);
      return { username, fragment };
    });
    const before = await inUse(a);
    await a.locator("#detail-path", { hasText: "relayed by TURN" }).waitFor();
    await until("other credentials are in use on a new path", async () => {
      const now = await inUse(a);
      return now.username !== before.username && now.fragment !== before.fragment;
    });
    await say(a, "with new credentials");
    await hears(b, "with new credentials");
    assert.equal(await a.evaluate(() => window.links.filter(({ connectionState }) => connectionState === "connected").length), 1);
    for (const page of [a, b]) assert.deepEqual(page.problems, []);
  } finally {
    await browser.close();
  }
});
