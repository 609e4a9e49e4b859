// Makes the pictures of docs/images anew, from a running network:
//
//   RUN=pictures.mjs tests/browser/run.sh http://127.0.0.1:3000 target/debug/hippius up topology/local.toml
import { rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { connected, givenIce, hears, openWindow, row, say, scripted, startBrowser, until, watchLinks } from "./support.mjs";

const images = fileURLToPath(new URL("../../docs/images/", import.meta.url));
const { context, close } = await startBrowser();

const called = (id, name) => ({
  prepare: (page) => page.addInitScript((kept) => sessionStorage.setItem("hippius.identity", JSON.stringify(kept)),
    { id, name, resume: null, talks: [], left: true }),
});
const [a, b, c] = [
  await openWindow(context, called("swift-otter-4f2a", "Ada")),
  await openWindow(context, called("golden-finch-91c0", "Bela")),
  await openWindow(context, called("calm-heron-07d3", "Cleo")),
];
await row(a, "calm-heron-07d3").click();
await connected(a);
await row(a, "golden-finch-91c0").click();
await connected(a);
await row(b, "swift-otter-4f2a").click();
await row(c, "swift-otter-4f2a").click();
await say(a, "Hello Bela! Did you get home all right?");
await hears(b, "Hello Bela");
await say(b, "I did. It goes straight from this window to yours: the server has only introduced us.");
await hears(a, "I did.");
await say(a, "And no one in between. Send me the pictures?");
await say(c, "Are you there?");
const holiday = join(tmpdir(), "holiday.zip");
await writeFile(holiday, "");
await truncate(holiday, 90_000_000);
await b.setInputFiles("#file", holiday);
await a.getByRole("button", { name: "Accept holiday.zip" }).click();
await a.locator(".msg.own .meta", { hasText: "Delivered" }).last().waitFor();
await a.waitForFunction(() => document.querySelector(".file-progress").value > 15e6);
await a.screenshot({ path: join(images, "chat.png") });
await a.getByRole("link", { name: "Save holiday.zip" }).waitFor();
await rm(holiday);
await a.emulateMedia({ colorScheme: "dark" });
await a.setViewportSize({ width: 390, height: 780 });
await a.click("#details-toggle");
await a.locator("#message").focus();
await a.screenshot({ path: join(images, "chat-narrow.png") });

const failed = await openWindow(context, {
  prepare: async (page) => {
    await called("swift-otter-4f2a", "Ada").prepare(page);
    await page.clock.install();
    await watchLinks(page);
    await givenIce(page, { iceServers: [{ urls: ["turn:127.0.0.1:9?transport=tcp"], username: "u", credential: "c" }], expires_at: null });
    await scripted(page, [{ peer_id: "golden-finch-91c0", name: "Bela" }, { peer_id: "calm-heron-07d3", name: "Cleo" }]);
  },
});
await row(failed, "golden-finch-91c0").click();
await until("a call", () => failed.evaluate(() => window.links.at(-1)?.signalingState === "have-local-offer"));
await failed.evaluate(() => {
  const event = new RTCPeerConnectionIceErrorEvent("icecandidateerror", { url: "turn:127.0.0.1:9?transport=tcp", errorCode: 401 });
  window.links.at(-1).dispatchEvent(event);
});
await failed.clock.fastForward(21_000);
await failed.locator("#chat-help").waitFor();
await failed.screenshot({ path: join(images, "chat-failed.png") });
await close();
