// Starts Chromium so that it talks over loopback only, and opens windows of the client.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

export const web = process.env.WEB_URL ?? "http://127.0.0.1:3000";

/** Where the harness restarts the signaling server on request; absent where nobody can. */
export const control = process.env.CONTROL_URL;

export async function startBrowser({ microphone = true } = {}) {
  const profile = await mkdtemp(join(tmpdir(), "hippius-browser-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync",
      // The harness makes its certificates itself.
      "--ignore-certificate-errors",
      // A page that may use the microphone gets host candidates with addresses instead of mDNS names.
      "--allow-loopback-in-peer-connection", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
    ],
    viewport: { width: 1180, height: 760 },
    reducedMotion: "reduce",
  });
  if (microphone) await context.grantPermissions(["microphone"], { origin: new URL(web).origin });
  // As long as a connection may take before the page itself gives up, and a little more.
  context.setDefaultTimeout(25_000);
  const close = async () => {
    await context.close();
    await rm(profile, { recursive: true, force: true });
  };
  return { context, close };
}

/** A browser for the tests of one file; they run in it by `scene` with fresh windows, in which no error may happen. */
export function stage(options) {
  let browser;
  before(async () => {
    browser = await startBrowser(options);
  });
  after(() => browser.close());
  return function scene(name, body, options = {}) {
    test(name, { timeout: 60_000, ...options }, async () => {
      const windows = [];
      const open = async (options) => {
        const page = await openWindow(browser.context, options);
        windows.push(page);
        return page;
      };
      try {
        await body(open, browser.context);
        for (const page of windows) assert.deepEqual(page.problems, []);
      } finally {
        for (const page of windows) await page.close();
      }
    });
  };
}

/** Two windows with an open chat. */
export async function pair(open, options = {}) {
  const [a, b] = [await open({ name: "Ada", ...options }), await open({ name: "Bela", ...options })];
  const [idA, idB] = [await idOf(a), await idOf(b)];
  await row(a, idB).click();
  await connected(a);
  await row(b, idA).click();
  await connected(b);
  return { a, b, idA, idB };
}

/** Keeps the connections that the page makes, their data channels by label, and what ICE servers refused them, within a test's reach. */
export const watchLinks = (page) => page.addInitScript(() => {
  window.links = [];
  window.channels = {};
  window.iceErrors = [];
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...options) {
      super(...options);
      window.links.push(this);
      this.addEventListener("icecandidateerror", ({ errorCode }) => window.iceErrors.push(errorCode));
    }

    createDataChannel(label, ...options) {
      const channel = super.createDataChannel(label, ...options);
      window.channels[label] = channel;
      return channel;
    }
  };
});

/** The ICE servers of the page's newest connection. */
export const iceServers = (page) => page.evaluate(() => window.links.at(-1).getConfiguration().iceServers.map(({ urls, username = "" }) => `${urls} ${username}`.trim()));

/** Has the web server answer `/ice` with `answer`. */
export const givenIce = (page, answer) => page.route("**/ice", (route) => route.fulfill({ json: answer }));

/**
 * A signaling server of the test's own making, with `peers` in the room. `answers` by type take a message's payload, and `tell(type, payload)`
 * with the socket; what is not in there is answered as a good server does, or not at all.
 */
export const scripted = (page, peers = [], answers = {}) => page.routeWebSocket(/\/signal$/, (socket) => {
  const tell = (type, payload) => socket.send(JSON.stringify({ type, payload }));
  const usual = {
    Register: ({ peer_id }) => tell("Registered", { peer_id, resume: "0".repeat(32), peers, ice_servers: [] }),
    Ping: () => tell("Pong", {}),
  };
  socket.onMessage((text) => {
    const { type, payload } = JSON.parse(text);
    (answers[type] ?? usual[type])?.(payload, tell, socket);
  });
});

/** Starts the signaling server with other limits, and with its own again after `body`. */
export async function limited(limits, body) {
  const restart = async (query) => {
    await fetch(`${control}/stop`, { method: "POST" });
    await fetch(`${control}/start?${query}`, { method: "POST" });
  };
  await restart(limits);
  try {
    await body();
  } finally {
    await restart("");
  }
}

/** Waits until `condition` holds. */
export async function until(what, condition) {
  for (const end = Date.now() + 20_000; !(await condition()); ) {
    assert.ok(Date.now() < end, `never: ${what}`);
    await new Promise((wake) => setTimeout(wake, 20));
  }
}

/** A window with the client, registered unless `registered` is false. `prepare` gets the page before it is loaded. */
export async function openWindow(context, { hash = "", name, base = web, registered = true, prepare = () => {} } = {}) {
  const page = await context.newPage();
  await prepare(page);
  page.problems = [];
  page.on("pageerror", (error) => page.problems.push(String(error)));
  page.on("console", (message) => {
    if (process.env.VERBOSE) console.error(message.type(), message.text());
    if (/Content Security Policy|Refused to/.test(message.text())) page.problems.push(message.text());
  });
  const own = new URL(base).origin;
  page.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    // Blobs and data: URLs are of the page itself.
    if (origin !== own && !["blob:", "data:"].includes(protocol)) page.problems.push(`asked ${request.url()}`);
  });
  await page.goto(`${base}/${hash}`);
  if (registered) await online(page);
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

export const ROOM = "*";

export const hears = (page, text) => page.locator(".msg:not(.own) .bubble", { hasText: text }).waitFor();

/** Keeps a picture where SCREENSHOTS names a folder. */
export async function picture(page, name) {
  if (!process.env.SCREENSHOTS) return;
  await mkdir(process.env.SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}.png`) });
}
