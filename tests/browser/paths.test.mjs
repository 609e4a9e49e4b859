// Which way two windows find to each other: direct, with STUN, through TURN, or none; and what they make of it when it breaks.
import assert from "node:assert/strict";
import { audit } from "./audit.mjs";
import { freePort, startStun, startTurn } from "./ice_servers.mjs";
import { connected, givenIce, hears, iceServers, idOf, pair, picture, row, say, stage, until, watchLinks, web } from "./support.mjs";

// With the microphone a page sees its own addresses; without, others get names that nothing here resolves.
const open_hosts = stage();
const hidden_hosts = stage({ microphone: false });

const given = (...iceServers) => ({ iceServers, expires_at: null });
/** Prepares windows that are given `answer()` as their ICE servers, and whose connections a test can look at. */
const prepared = (answer) => ({
  prepare: async (page) => {
    await watchLinks(page);
    await givenIce(page, answer);
  },
});

/** The kinds of the two candidates that were selected. */
const selected = (page) => page.evaluate(async () => {
  const stats = await window.links.at(-1).getStats();
  const transport = [...stats.values()].find(({ type }) => type === "transport");
  const { localCandidateId, remoteCandidateId } = stats.get(transport.selectedCandidatePairId);
  return [localCandidateId, remoteCandidateId].map((id) => stats.get(id).candidateType);
});

const path = (page, text) => page.locator("#detail-path", { hasText: text }).waitFor();

async function talk(a, b, text) {
  await say(a, `${text} there`);
  await hears(b, `${text} there`);
  await say(b, `${text} back`);
  await hears(a, `${text} back`);
}

open_hosts("with addresses of their own: direct, and the details say so", async (open) => {
  const { a, b } = await pair(open, prepared(given()));
  assert.deepEqual(await selected(a), ["host", "host"]);
  for (const page of [a, b]) {
    await path(page, /^direct$/);
    await page.locator("#detail-local", { hasText: /^Local address \(host\) · UDP · 127\.0\.0\.1:\d+$/ }).waitFor();
    await page.locator("#detail-rtt", { hasText: "ms" }).waitFor();
  }
  await talk(a, b, "direct");
  // The totals and the graph move with what is sent.
  const before = await a.textContent("#detail-sent");
  await say(a, "x".repeat(4_000));
  await until("more was sent", async () => (await a.textContent("#detail-sent")) !== before);
  await until("the graph has a line", async () => /L/.test(await a.getAttribute(".graph-sent", "d")));
  await audit(a, "path direct");
  await a.click("#details-toggle");
  assert.equal(await a.isVisible("#details"), false);
  assert.equal(await a.getAttribute("#details-toggle", "aria-expanded"), "false");
});

open_hosts("the server is told how a connection is doing, with its amounts and its round trip", async (open) => {
  const reports = [];
  const a = await open({
    name: "Ada",
    prepare: async (page) => {
      await page.clock.install();
      await page.routeWebSocket(/\/signal$/, (socket) => {
        const server = socket.connectToServer();
        server.onMessage((text) => socket.send(text));
        socket.onMessage((text) => {
          const { type, payload } = JSON.parse(text);
          if (type === "Report") reports.push(payload);
          server.send(text);
        });
      });
    },
  });
  const b = await open({ name: "Bela" });
  await row(a, await idOf(b)).click();
  await connected(a);
  await path(a, /^direct$/);
  await a.clock.fastForward(10_000);
  await until("a report with figures", () => reports.some(({ bytes_sent: sent, bytes_received: received, rtt }) => sent > 0 && received > 0 && rtt >= 0));
  assert.deepEqual({ ...reports.at(-1), bytes_sent: 0, bytes_received: 0, rtt: 0 },
    { to: await idOf(b), state: "connected", connection_type: "direct", bytes_sent: 0, bytes_received: 0, rtt: 0 });
  await a.click("#chat-action");
  await until("its end", () => reports.at(-1).state === "closed");
});

hidden_hosts("with hidden addresses and a STUN server: server-reflexive", async (open) => {
  const stun = await startStun();
  try {
    const { a, b } = await pair(open, prepared(given({ urls: [stun.url] })));
    assert.ok(stun.asked > 0);
    const kinds = [...(await selected(a)), ...(await selected(b))];
    assert.ok(kinds.includes("srflx"), kinds.join());
    assert.ok(!kinds.includes("relay"), kinds.join());
    for (const page of [a, b]) await path(page, "direct, through STUN");
    await talk(a, b, "reflected");
    await picture(a, "path-stun");
  } finally {
    stun.close();
  }
});

hidden_hosts("with nothing but a relay: through TURN, which mends itself when the relay comes back", async (open) => {
  let turn = await startTurn();
  try {
    const { a, b } = await pair(open, prepared(given(turn.ice())));
    assert.deepEqual(await selected(a), ["relay", "relay"]);
    for (const page of [a, b]) await path(page, "relayed by TURN");
    await talk(a, b, "relayed");
    await picture(a, "path-turn");
    await turn.close();
    await a.locator("#chat-state-text", { hasText: "Interrupted" }).waitFor();
    await audit(a, "interrupted");
    turn = await startTurn(turn.port);
    await Promise.all([connected(a), connected(b)]);
    await talk(a, b, "mended");
    assert.equal(await a.locator(".note", { hasText: "Connected to" }).count(), 1);
  } finally {
    await turn.close();
  }
});

/**
 * Two windows that never hear of each other's candidates, of which the first calls the second; resolves to what it says, which
 * the time passes faster for.
 */
async function inVain(open, answer, name, refusals) {
  const prepare = async (page) => {
    await page.clock.install();
    await givenIce(page, answer);
    await watchLinks(page);
    await page.routeWebSocket(/\/signal$/, (socket) => {
      const server = socket.connectToServer();
      socket.onMessage((text) => JSON.parse(text).type === "IceCandidate" || server.send(text));
      server.onMessage((text) => socket.send(text));
    });
  };
  const [a, b] = [await open({ name: "Ada", prepare }), await open({ name: "Bela", prepare })];
  await row(a, await idOf(b)).click();
  await until("an answer", () => a.evaluate(() => Boolean(window.links.at(-1)?.remoteDescription)));
  await until("refusals", () => a.evaluate((count) => window.iceErrors.length >= count, refusals));
  await a.clock.fastForward(21_000);
  await a.locator("#chat-help").waitFor();
  await picture(a, name);
  return { a, title: await a.textContent("#chat-help-title"), text: await a.textContent("#chat-help-text") };
}

open_hosts("no path and no relay: that is said", async (open) => {
  const { title, text } = await inVain(open, given(), "failed-no-relay", 0);
  assert.match(title, /No way through to Bela/);
  assert.match(text, /offers no relay/);
});

open_hosts("a relay that refuses the credentials: that is said", async (open) => {
  const turn = await startTurn();
  try {
    const { a, title, text } = await inVain(open, given(turn.ice("wrong")), "failed-turn-refused", 1);
    assert.match(title, /relay refused this window/);
    assert.match(text, /credentials/);
    let asked = false;
    await a.route("**/ice", (route) => {
      asked = true;
      return route.fulfill({ json: given(turn.ice()) });
    });
    await a.click("#chat-help-action");
    await until("others are asked for", () => asked);
  } finally {
    await turn.close();
  }
});

open_hosts("a relay that does not answer: that is said", async (open) => {
  const nobody = { urls: [`turn:127.0.0.1:${await freePort()}?transport=tcp`], username: "ada", credential: "x" };
  const { title, text } = await inVain(open, given(nobody), "failed-turn-silent", 1);
  assert.match(title, /No way through to Bela/);
  assert.match(text, /does not answer/);
});

open_hosts("another network: a new path is looked for, and the chat goes on", async (open) => {
  const { a, b } = await pair(open, prepared(given()));
  const fragment = () => a.evaluate(() => /a=ice-ufrag:(.*)/.exec(window.links.at(-1).currentLocalDescription.sdp)[1]);
  const before = await fragment();
  await a.evaluate(() => dispatchEvent(new Event("online")));
  await until("new credentials", async () => (await fragment()) !== before);
  await talk(a, b, "moved");
  assert.equal(await a.evaluate(() => window.links.length), 1);
});

open_hosts("the ICE servers are asked for again before they end, and used for what is made from then on", async (open) => {
  let asked = 0;
  const a = await open({
    name: "Ada",
    prepare: async (page) => {
      await page.clock.install();
      await watchLinks(page);
      await page.route("**/ice", (route) => {
        asked += 1;
        const user = { urls: "turn:127.0.0.1:9", username: `user${asked}`, credential: "x" };
        // The second time, one that no browser takes: it is left out.
        const bad = asked > 1 ? [{ urls: "nonsense" }, null, 7] : [];
        return route.fulfill({ json: { iceServers: [...bad, user], expires_at: Date.now() / 1000 + 600 * asked } });
      });
    },
  });
  const b = await open({ name: "Bela" });
  assert.equal(asked, 1);
  await a.clock.fastForward(500_000);
  assert.equal(asked, 1);
  await a.clock.fastForward(60_000);
  await until("asked again", () => asked === 2);
  await row(a, await idOf(b)).click();
  await connected(a);
  assert.deepEqual(await iceServers(a), ["turn:127.0.0.1:9 user2"]);
});

for (const [what, answer] of [
  ["there are none", (route) => route.fulfill({ status: 404 })],
  ["it fails", (route) => route.fulfill({ status: 500 })],
  ["it says nonsense", (route) => route.fulfill({ json: { iceServers: "x" } })],
]) {
  open_hosts(`where the web server has no ICE servers because ${what}, those of the signaling server are used`, async (open) => {
    const prepare = async (page) => {
      await watchLinks(page);
      await page.route("**/ice", answer);
      await page.routeWebSocket(/\/signal$/, (socket) => {
        const server = socket.connectToServer();
        socket.onMessage((text) => server.send(text));
        server.onMessage((text) => {
          const message = JSON.parse(text);
          if (message.type === "Registered") message.payload.ice_servers = [{ urls: ["stun:127.0.0.1:9"] }];
          socket.send(JSON.stringify(message));
        });
      });
    };
    const { a } = await pair(open, { prepare });
    assert.deepEqual(await iceServers(a), ["stun:127.0.0.1:9"]);
    assert.equal(new URL(a.url()).origin, web);
  });
}
