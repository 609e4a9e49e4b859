// Five windows talk to each other all at once, and to one without the others.
import assert from "node:assert/strict";
import { audit, fits, narrow, wide } from "./audit.mjs";
import { ROOM, connected, hears, idOf, online, pair, picture, row, say, stage, watchLinks } from "./support.mjs";

const scene = stage();
const NAMES = ["Ada", "Bela", "Cleo", "Dino", "Edda"];
const state = (page, text) => page.locator("#chat-state-text", { hasText: text }).waitFor();
const delivery = (page, text) => page.locator(".msg.own .meta", { hasText: text }).last().waitFor();

scene("five windows talk as a room: who was reached is said, and what is not read is counted", async (open) => {
  const windows = [];
  for (const name of NAMES) windows.push(await open({ name }));
  const [a, b, c, d, e] = windows;
  await row(a, ROOM).click();
  await state(a, "Nobody connected");
  assert.equal(await a.isDisabled("#message"), true);
  for (const page of windows) {
    // By script: with many windows at once a browser paints seldom, which a mouse of a test's waits for.
    await row(page, ROOM).evaluate((button) => button.click());
    await page.locator("#chat-action", { hasText: "Connect to everyone" }).or(page.locator("#chat-state-text", { hasText: "Connected to 4 of 4" })).first().waitFor();
    // The others may just have connected it, which takes the button away.
    await page.locator("#chat-action").evaluate((button) => button.click());
  }
  for (const page of windows) await state(page, "Connected to 4 of 4");
  await a.locator("#chat-action").waitFor({ state: "hidden" });
  await say(a, "hello everyone, <i>all</i> of you");
  for (const page of [b, c, d, e]) {
    await hears(page, "hello everyone, <i>all</i> of you");
    assert.equal(await page.locator(".speaker").last().textContent(), "Ada");
  }
  await delivery(a, "Delivered to 4 of 4");
  await say(b, "hello Ada, and the others");
  await hears(a, "and the others");
  await picture(a, "room");

  // One of them reads something else meanwhile.
  await row(c, await idOf(a)).click();
  await connected(c);
  await say(a, "is anybody reading?");
  await say(a, "anybody?");
  await row(c, ROOM).locator(".unread", { hasText: "2" }).waitFor();
  await c.waitForFunction(() => document.title === "(2) Hippius");
  await picture(c, "room-unread");
  // What is for one alone does not reach the others.
  await say(c, "only for Ada");
  await row(a, await idOf(c)).locator(".unread", { hasText: "1" }).waitFor();
  assert.equal(await b.locator(".bubble", { hasText: "only for Ada" }).count(), 0);
  assert.equal(await a.locator(".bubble", { hasText: "only for Ada" }).count(), 0);
  await row(c, ROOM).click();
  await hears(c, "anybody?");
  assert.equal(await row(c, ROOM).locator(".unread").isVisible(), false);

  await e.close();
  await state(a, "Connected to 3 of 3");
  await say(a, "one fewer");
  await delivery(a, "Delivered to 3 of 3");
  await hears(d, "one fewer");
});

scene("a room of a thousand that comes in one breath is on the list in a moment", async (open) => {
  const crowd = Array.from({ length: 999 }, (_, index) => ({ peer_id: `peer-${index}`, name: `Number ${index}` }));
  const a = await open({
    prepare: async (page) => {
      await page.addInitScript(() => {
        window.counted = 0;
        const watch = () => new MutationObserver((changes) => { window.counted += changes.length; }).observe(document.getElementById("room-count"), { childList: true });
        addEventListener("DOMContentLoaded", watch);
      });
      await page.routeWebSocket(/\/signal$/, (socket) => {
        const server = socket.connectToServer();
        socket.onMessage((text) => server.send(text));
        server.onMessage((text) => {
          socket.send(text);
          if (JSON.parse(text).type !== "Registered") return;
          for (const payload of crowd) socket.send(JSON.stringify({ type: "PeerJoined", payload }));
        });
      });
    },
  });
  await a.locator("#room-count", { hasText: "999" }).waitFor();
  assert.equal(await a.locator(".peer-list .peer").count(), 999);
  // Not once for each of them.
  assert.ok((await a.evaluate(() => window.counted)) < 500);
});

scene("who was not reached is named", async (open) => {
  const [a, , c] = [await open({ name: "Ada" }), await open({ name: "Bela" }), await open({ name: "Cleo", prepare: watchLinks })];
  await row(a, ROOM).click();
  await a.click("#chat-action");
  await state(a, "Connected to 2 of 2");
  await c.waitForFunction(() => window.channels.chat?.readyState === "open");
  // It confirms nothing, and then it is gone.
  await c.evaluate(() => { window.channels.chat.send = () => {}; });
  await say(a, "do you hear me?");
  await delivery(a, "Delivered to 1 of 2");
  await picture(a, "room-one-of-two");
  await c.close();
  await a.locator(".msg.own .meta", { hasText: "Delivered to 1 of 2 · not to Cleo" }).waitFor();
});

scene("a new name is seen at once, in the talk too, and the chat goes on", async (open) => {
  const { a, b, idA } = await pair(open);
  await a.fill("#name", "Augusta \u202Eevil\u0007");
  await a.press("#name", "Enter");
  await row(b, idA).getByText("Augusta evil").waitFor();
  await b.locator(".note", { hasText: "Ada is now called Augusta evil" }).waitFor();
  await b.locator("#chat-name", { hasText: "Augusta evil" }).waitFor();
  await say(b, "a fine name");
  await hears(a, "a fine name");
  assert.equal(await a.locator(".note", { hasText: "Connected to" }).count(), 1);
  await a.fill("#name", "<img src=x>");
  await a.press("#name", "Enter");
  await row(b, idA).getByText("<img src=x>").waitFor();
  assert.equal(await b.locator("#chat-name img, .peer img, .note img").count(), 0);
});

scene("who is blocked reaches nobody, also after a reload, until unblocked", async (open) => {
  const { a, b, idA, idB } = await pair(open, { prepare: watchLinks });
  await say(b, "before");
  await hears(a, "before");
  await b.setInputFiles("#file", { name: "late.txt", mimeType: "text/plain", buffer: Buffer.from("late") });
  await a.getByRole("button", { name: "Accept late.txt" }).waitFor();

  // By keyboard: the button is the one before that to disconnect.
  await a.locator("#chat-action").focus();
  await a.keyboard.press("Shift+Tab");
  await a.locator('[aria-label="Block Bela"]:focus').waitFor();
  await a.keyboard.press("Enter");
  await a.locator("#conversation:focus").waitFor();
  await a.locator("#chat-help-title", { hasText: "You blocked Bela" }).waitFor();
  await state(a, "Blocked");
  await state(b, "Not connected");
  assert.equal(await a.isDisabled("#message"), true);
  assert.equal(await a.locator("#block").isVisible(), false);
  await a.locator(".file-state", { hasText: "the connection ended" }).waitFor();
  await audit(a, "blocked");
  await narrow(a);
  await fits(a);
  await audit(a, "narrow blocked");
  await a.click("#back");
  await fits(a);
  await audit(a, "narrow people with blocked");
  await wide(a);
  assert.equal(await a.evaluate(() => document.querySelector("#blocked-list .peer-name").title), idB);

  /** Bela calls, and somebody who is taken calls later on the same way: then the first call has been heard. */
  const calls = async (other) => {
    const made = await a.evaluate(() => window.links.length);
    await row(b, idA).click();
    await state(b, "Connecting");
    await other.locator("#peer-id").fill(idA);
    await other.press("#peer-id", "Enter");
    await connected(other);
    assert.equal(await a.evaluate(() => window.links.length), made + 1, "one connection, with the other one");
    await row(a, idB).locator(".peer-state", { hasText: "Blocked" }).waitFor();
    await b.locator("#chat-action", { hasText: "Cancel" }).click();
    await other.close();
  };
  await calls(await open({ name: "Cleo" }));

  await a.reload();
  await online(a);
  await row(a, idB).locator(".peer-state", { hasText: "Blocked" }).waitFor();
  await calls(await open({ name: "Dino" }));
  // A click on them connects nobody, either.
  await row(a, idB).click();
  await state(a, "Blocked");

  await a.getByRole("button", { name: "Unblock Bela" }).focus();
  await a.keyboard.press("Enter");
  await a.locator("#blocked").waitFor({ state: "hidden" });
  await row(b, idA).click();
  await connected(b);
  await say(b, "after");
  await hears(a, "after");
});
