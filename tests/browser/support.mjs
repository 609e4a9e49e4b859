// Starts Chromium so that it talks over loopback only, and opens windows of the client.
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

export const web = process.env.WEB_URL ?? "http://127.0.0.1:3000";

/** Where the harness restarts the signaling server on request; absent where nobody can. */
export const control = process.env.CONTROL_URL;

export async function startBrowser() {
  const profile = await mkdtemp(join(tmpdir(), "hippius-browser-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync",
      // A page that may use the microphone gets host candidates with addresses instead of mDNS names.
      "--allow-loopback-in-peer-connection", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
    ],
    viewport: { width: 1180, height: 760 },
    reducedMotion: "reduce",
  });
  await context.grantPermissions(["microphone"], { origin: new URL(web).origin });
  context.setDefaultTimeout(15_000);
  const close = async () => {
    await context.close();
    await rm(profile, { recursive: true, force: true });
  };
  return { context, close };
}

/** A window with the client, registered. */
export async function openWindow(context, { hash = "", name } = {}) {
  const page = await context.newPage();
  page.problems = [];
  page.on("pageerror", (error) => page.problems.push(String(error)));
  page.on("console", (message) => {
    if (process.env.VERBOSE) console.error(message.type(), message.text());
    if (/Content Security Policy|Refused to/.test(message.text())) page.problems.push(message.text());
  });
  await page.goto(`${web}/${hash}`);
  await online(page);
  if (name) {
    await page.fill("#name", name);
    await page.press("#name", "Enter");
    await online(page);
  }
  return page;
}

export const online = (page) => page.waitForSelector('#signaling-text:text-is("Online")');
export const idOf = (page) => page.textContent("#me-id");
export const row = (page, id) => page.locator(`[data-peer="${id}"]`);
export const connected = (page) => page.waitForSelector('#chat-state-text:text-matches("^Connected")');

export async function say(page, text) {
  await page.fill("#message", text);
  await page.press("#message", "Enter");
}

export const hears = (page, text) => page.locator(".msg:not(.own) .bubble", { hasText: text }).waitFor();

/** Keeps a picture where SCREENSHOTS names a folder. */
export async function picture(page, name) {
  if (!process.env.SCREENSHOTS) return;
  await mkdir(process.env.SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}.png`) });
}
