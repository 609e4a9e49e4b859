// Whether everybody can use the page: axe-core's rules in every state, light and dark, wide and narrow, and a visit by keyboard alone.
import assert from "node:assert/strict";
import { audit, fits, narrow, wide } from "./audit.mjs";
import { ROOM, connected, hears, idOf, row, say, stage } from "./support.mjs";

const scene = stage();

scene("no findings alone, among others, in a talk, in the room, with files, and after a failure", async (open) => {
  const a = await open({ name: "Ada" });
  await audit(a, "alone");
  const b = await open({ name: "Bela" });
  await row(a, await idOf(b)).waitFor();
  await audit(a, "discovered");
  await row(a, await idOf(b)).click();
  await connected(a);
  await row(b, await idOf(a)).click();
  await say(a, "Good morning!");
  await hears(b, "Good morning!");
  await say(b, "To you as well.");
  await hears(a, "To you as well.");
  for (const name of ["taken.txt", "refused.txt", "waiting.txt"]) await b.setInputFiles("#file", { name, mimeType: "text/plain", buffer: Buffer.from("content") });
  await a.getByRole("button", { name: "Accept taken.txt" }).click();
  await a.getByRole("button", { name: "Refuse refused.txt" }).click();
  await a.getByRole("link", { name: "Save taken.txt" }).waitFor();
  await b.locator(".file-state", { hasText: "refused it" }).waitFor();
  await audit(a, "talk with files");
  await audit(b, "talk with own files");
  await narrow(a);
  await fits(a);
  await audit(a, "narrow talk");
  await a.click("#back");
  await fits(a);
  await audit(a, "narrow people");
  await row(a, ROOM).click();
  await say(a, "Hello, room.");
  await audit(a, "narrow room");
  await wide(a);
  await row(b, ROOM).locator(".unread").waitFor();
  await audit(b, "unread");
  await audit(a, "room");
  await a.fill("#peer-id", "nobody-at-all");
  await a.press("#peer-id", "Enter");
  await a.locator("#chat-help-title", { hasText: "not here" }).waitFor();
  await a.fill("#peer-id", "not an id");
  await a.press("#peer-id", "Enter");
  await audit(a, "failed");
  await narrow(a);
  await fits(a);
  await audit(a, "narrow failed");
});

scene("no findings without a signaling server", async (open) => {
  const page = await open({
    registered: false,
    prepare: (page) => page.routeWebSocket(/\/signal$/, (socket) => socket.close({ code: 3000 })),
  });
  await page.locator("#signaling-help-title", { hasText: "does not answer" }).waitFor();
  await audit(page, "offline");
});

scene("from the first Tab to a sent message and a received file without a mouse", async (open) => {
  const [a, b] = [await open({ name: "Ada" }), await open({ name: "Bela" })];
  const idB = await idOf(b);
  await row(a, idB).waitFor();
  /** Tabs on until the focus is where `selector` says, as a person would. */
  const tabTo = async (page, selector) => {
    for (let presses = 0; presses < 30; presses += 1) {
      await page.keyboard.press("Tab");
      if (await page.evaluate((where) => document.activeElement.matches(where), selector)) return;
    }
    assert.fail(`never came to ${selector}`);
  };
  await a.bringToFront();
  await tabTo(a, ".skip");
  await tabTo(a, `[data-peer="${idB}"]`);
  await a.keyboard.press("Enter");
  await connected(a);
  // The field has the focus as soon as something can be written.
  await a.locator("#message:focus").waitFor();
  await a.keyboard.type("first line");
  await a.keyboard.press("Shift+Enter");
  await a.keyboard.type("second line");
  await a.keyboard.press("Enter");
  await row(b, await idOf(a)).locator(".unread").waitFor();
  await a.setInputFiles("#file", { name: "note.txt", mimeType: "text/plain", buffer: Buffer.from("by keyboard") });
  await b.bringToFront();
  await tabTo(b, `[data-peer="${await idOf(a)}"]`);
  await b.keyboard.press("Enter");
  await hears(b, "first line\nsecond line");
  await b.keyboard.press("Shift+Tab");
  while (!(await b.evaluate(() => document.activeElement.matches('[aria-label="Accept note.txt"]')))) await b.keyboard.press("Shift+Tab");
  await b.keyboard.press("Enter");
  // The button that was pressed is gone; the focus is on what takes its place.
  await b.locator('[aria-label="Save note.txt"]:focus').waitFor();
  // What happened is said to those who do not see it.
  await b.locator("#announce", { hasText: "note.txt" }).waitFor({ state: "attached" });
});

scene("nothing moves for those who do not want it to", async (open) => {
  const a = await open();
  const moving = () => a.evaluate(() => document.getAnimations().length);
  assert.equal(await moving(), 0);
  await a.emulateMedia({ reducedMotion: "no-preference" });
  assert.ok((await moving()) > 0);
});
