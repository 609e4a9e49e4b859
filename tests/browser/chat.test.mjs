// Two windows of the client in a real browser: they find each other, connect, talk, and mend what breaks.
import assert from "node:assert/strict";
import { test } from "node:test";
import { MinimalClient } from "./minimal_client.mjs";
import { connected, control, hears, idOf, online, pair, picture, row, say, stage, web } from "./support.mjs";

// These need a harness that stops and starts the server.
const steered = { skip: !control };
const scene = stage();

scene("windows see each other appear and disappear, with names", async (open) => {
  const a = await open({ name: "Ada" });
  await a.locator("#welcome-title", { hasText: "Just you so far" }).waitFor();
  await picture(a, "alone");
  const b = await open({ name: "Bela" });
  const [idA, idB] = [await idOf(a), await idOf(b)];
  assert.notEqual(idA, idB);
  await row(a, idB).getByText("Bela").waitFor();
  await row(b, idA).getByText("Ada").waitFor();
  await picture(a, "discovered");
  await b.close();
  await row(a, idB).waitFor({ state: "detached" });
});

scene("one click connects, and both talk and see what was delivered", async (open) => {
  const [a, b] = [await open({ name: "Ada" }), await open({ name: "Bela" })];
  const [idA, idB] = [await idOf(a), await idOf(b)];
  await row(a, idB).click();
  await connected(a);
  await row(b, idA).getByText("Connected").waitFor();
  await a.locator("#chat-state-text", { hasText: "direct" }).waitFor();
  await say(a, "Hello from <b>Ada</b>");
  await row(b, idA).locator(".unread", { hasText: "1" }).waitFor();
  await b.waitForFunction(() => document.title === "(1) Hippius");
  await picture(b, "unread");
  await row(b, idA).click();
  await hears(b, "Hello from <b>Ada</b>");
  assert.equal(await b.locator(".bubble b").count(), 0);
  await a.locator(".msg.own .meta", { hasText: "Delivered" }).waitFor();
  await say(b, "Hello from Bela");
  await hears(a, "Hello from Bela");
  await say(b, "It goes straight from this window to yours: the server has only introduced us.");
  await say(a, "And no one in between. ♥");
  await hears(b, "♥");
  await picture(a, "connected");
});

scene("both clicking at once make one connection", async (open) => {
  const [a, b] = [await open(), await open()];
  const [idA, idB] = [await idOf(a), await idOf(b)];
  for (let round = 1; round <= 8; round += 1) {
    const at = Date.now() + 100;
    const clicks = [row(a, idB), row(b, idA)].map((button) =>
      button.evaluate((element, when) => new Promise((done) => {
        setTimeout(() => {
          element.click();
          done();
        }, when - Date.now());
      }), at));
    await Promise.all(clicks);
    await Promise.all([connected(a), connected(b)]);
    await say(a, `one ${round}`);
    await hears(b, `one ${round}`);
    await say(b, `two ${round}`);
    await hears(a, `two ${round}`);
    await a.locator("#chat-action", { hasText: "Disconnect" }).click();
    await Promise.all([a, b].map((page) => page.locator("#chat-state-text", { hasText: "Not connected" }).waitFor()));
    assert.equal(await a.locator(".note", { hasText: "Connected to" }).count(), round);
  }
});

scene("by id, by link, and who is not there is said and connected when they come", async (open, context) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write", "microphone"], { origin: web });
  const a = await open();
  await a.click("#share-copy");
  await a.locator("#share-copy", { hasText: "Copied" }).waitFor();
  const link = await a.evaluate(() => navigator.clipboard.readText());
  assert.equal(link, `${web}/#peer=${await idOf(a)}`);
  const b = await open();
  await a.fill("#peer-id", await idOf(b));
  await a.press("#peer-id", "Enter");
  await connected(a);
  const c = await open({ hash: new URL(link).hash });
  await connected(c);
  await say(c, "by link");
  await row(a, await idOf(c)).click();
  await hears(a, "by link");
  await c.fill("#peer-id", "nobody-here");
  await c.press("#peer-id", "Enter");
  await c.locator("#chat-help-title", { hasText: "nobody-here is not here" }).waitFor();
  await picture(c, "not-here");
  await c.fill("#peer-id", "<script>");
  await c.press("#peer-id", "Enter");
  await c.locator("#by-id-error", { hasText: "An id is made of" }).waitFor();
  await c.fill("#peer-id", await idOf(c));
  await c.press("#peer-id", "Enter");
  await c.locator("#by-id-error", { hasText: "your own id" }).waitFor();
  // A whole link in place of an id; and whoever was called before they came is connected when they do.
  await b.fill("#peer-id", `${web}/#peer=early-bird`);
  await b.press("#peer-id", "Enter");
  await b.locator("#chat-help-title", { hasText: "early-bird is not here" }).waitFor();
  const early = await open({
    prepare: (page) => page.addInitScript(() => {
      sessionStorage.setItem("hippius.identity", JSON.stringify({ id: "early-bird", name: "Early", resume: null, talks: [], left: true }));
    }),
  });
  await connected(b);
  await row(early, await idOf(b)).getByText("Connected").waitFor();
});

scene("one window closing ends the chat in the other, with what was not delivered", async (open) => {
  const { a, b, idB } = await pair(open);
  await say(b, "bye ".repeat(300));
  await hears(a, "bye");
  await b.close();
  await a.locator(".note", { hasText: "Bela disconnected" }).waitFor();
  await row(a, idB).getByText("Left").waitFor();
  assert.equal(await a.isDisabled("#message"), true);
  await picture(a, "left");
  // Less room, as with a keyboard on the screen: the end of the talk stays in sight.
  const endInSight = () => a.waitForFunction(() => {
    const log = document.getElementById("log");
    return log.scrollHeight - log.scrollTop - log.clientHeight < 2;
  });
  for (let line = 0; line < 3; line += 1) {
    await a.setViewportSize({ width: 360, height: 700 - 150 * line });
    await endInSight();
  }
  // Also while it comes up, when one size follows the other before the page has said that it moved.
  for (let round = 0; round < 5; round += 1) {
    for (const height of [700, 590, 480, 370]) await a.setViewportSize({ width: 360, height });
    await endInSight();
  }
});

scene("a reload keeps the id and mends the chat", async (open) => {
  const { a, b, idA } = await pair(open);
  await a.reload();
  await online(a);
  assert.equal(await idOf(a), idA);
  await row(a, await idOf(b)).getByText("Connected").waitFor();
  await row(a, await idOf(b)).click();
  await connected(b);
  await say(b, "welcome back");
  await hears(a, "welcome back");
});

scene("a duplicated window is somebody else", async (open, context) => {
  const a = await open();
  const [copy] = await Promise.all([context.waitForEvent("page"), a.evaluate(() => { window.open("/"); })]);
  await online(copy);
  assert.notEqual(await idOf(copy), await idOf(a));
  await row(a, await idOf(copy)).waitFor();
  await copy.close();
});

scene("an open chat outlives the signaling server, and new ones are made once it is back", async (open) => {
  const { a, b, idA } = await pair(open);
  await fetch(`${control}/stop`, { method: "POST" });
  await a.locator("#signaling-help-title", { hasText: "does not answer" }).waitFor();
  await picture(a, "offline");
  await say(a, "still here");
  await hears(b, "still here");
  await fetch(`${control}/start`, { method: "POST" });
  await Promise.all([online(a), online(b)]);
  assert.equal(await idOf(a), idA);
  await connected(a);
  await say(b, "and after");
  await hears(a, "and after");
  const c = await open();
  await row(c, idA).click();
  await connected(c);
}, steered);

scene("reported connections are counted by the server", async (open) => {
  await pair(open);
  for (const until = Date.now() + 15_000; ;) {
    const counts = await (await fetch(`${control}/webrtc`)).json();
    if (counts.direct === 1) break;
    assert.ok(Date.now() < until, JSON.stringify(counts));
    await new Promise((wake) => setTimeout(wake, 50));
  }
}, steered);

scene("somebody who calls and is gone before the answer leaves nothing behind", async (open) => {
  const a = await open();
  const sdp = await a.evaluate(async () => {
    const connection = new RTCPeerConnection();
    connection.createDataChannel("chat", { negotiated: true, id: 0 });
    await connection.setLocalDescription();
    return connection.localDescription.sdp;
  });
  const { signaling } = await (await fetch(`${web}/config.json`)).json();
  const stranger = new MinimalClient(`ws://${new URL(web).hostname}:${signaling.port}${signaling.path}`, "stranger");
  await row(a, "stranger").waitFor();
  stranger.tell("Offer", await idOf(a), { sdp });
  stranger.close();
  await a.locator("#announce", { hasText: "stranger left" }).waitFor({ state: "attached" });
  // At the latest when this side gives the connection up.
  await row(a, "stranger").waitFor({ state: "detached", timeout: 30_000 });
});

scene("dark, narrow and by keyboard", async (open) => {
  const { a, b } = await pair(open);
  await say(a, "Do you see me in the dark?");
  await hears(b, "dark");
  await say(b, "Clearly.");
  await hears(a, "Clearly.");
  await a.emulateMedia({ colorScheme: "dark" });
  await picture(a, "connected-dark");
  await a.setViewportSize({ width: 390, height: 780 });
  await picture(a, "narrow-chat-dark");
  await a.emulateMedia({ colorScheme: "light" });
  await picture(a, "narrow-chat");
  await a.click("#back");
  assert.equal(await a.isVisible("#conversation"), false);
  await picture(a, "narrow-people");
  // The row that was left has the focus; Enter goes back in.
  await a.keyboard.press("Enter");
  await a.locator("#message").waitFor();
  await a.keyboard.type("typed without a mouse");
  await a.keyboard.press("Enter");
  await hears(b, "typed without a mouse");
  assert.equal(await a.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
});

test("the pages are served from where they say", async () => {
  const answer = await fetch(web);
  assert.match(answer.headers.get("content-security-policy"), /script-src 'self'/);
});
