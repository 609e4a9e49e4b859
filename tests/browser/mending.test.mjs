// What the client does when the way to the signaling server breaks, silently or not, or the server does not take it.
import assert from "node:assert/strict";
import { connected, control, hears, idOf, limited, online, pair, picture, row, say, stage, until, watchLinks, web } from "./support.mjs";

const scene = stage();
const steered = { skip: !control };

/** Makes the page negotiate a new path, and waits until its offer stands there unanswered. */
async function offerInVain(page) {
  await page.evaluate(() => window.links.at(-1).restartIce());
  await page.waitForFunction(() => window.links.at(-1).signalingState === "have-local-offer");
}

async function negotiated(page) {
  await page.waitForFunction(() => window.links.at(-1).signalingState === "stable");
}

/** The page's way to the signaling server, in a test's hands. */
class Wire {
  lines = [];
  held = false;
  change = (text) => text;

  async attach(page) {
    await page.routeWebSocket(/\/signal$/, (socket) => {
      if (this.held) return socket.close({ code: 3000 });
      const line = { dead: false, heard: 0, socket };
      this.lines.push(line);
      line.server = socket.connectToServer();
      socket.onMessage((text) => line.dead || line.server.send(this.change(text)));
      line.server.onMessage((text) => {
        line.heard += 1;
        if (!line.dead) socket.send(text);
      });
    });
  }

  /** Nothing passes any more, and nobody is told. */
  die() {
    this.lines.at(-1).dead = true;
  }

  /** Breaks the connection, and lets no other through until `held` is false. */
  async hold() {
    this.held = true;
    const { socket, server } = this.lines.at(-1);
    await Promise.all([server.close({ code: 3000 }), socket.close({ code: 3000 })]);
  }
}

scene("an offer made while the signaling server is away is sent once it is back", async (open) => {
  const { a, b } = await pair(open, { prepare: watchLinks });
  await fetch(`${control}/stop`, { method: "POST" });
  await a.locator("#signaling-text", { hasText: "Offline" }).waitFor();
  await offerInVain(a);
  await fetch(`${control}/start`, { method: "POST" });
  await Promise.all([online(a), online(b)]);
  await negotiated(a);
  await say(a, "the same chat");
  await hears(b, "the same chat");
  assert.equal(await a.locator(".note", { hasText: "Connected to" }).count(), 1);
}, steered);

scene("an offer to somebody who is away is sent once they are back, by and by or much later", async (open) => {
  const wire = new Wire();
  const a = await open({ name: "Ada", prepare: watchLinks });
  const b = await open({ name: "Bela", prepare: (page) => wire.attach(page) });
  await row(a, await idOf(b)).click();
  await connected(a);
  for (const absence of ["short", "long"]) {
    await wire.hold();
    await b.locator("#signaling-text", { hasText: "Offline" }).waitFor();
    await offerInVain(a);
    if (absence === "long") await a.locator("#announce", { hasText: "Bela left" }).waitFor({ state: "attached" });
    wire.held = false;
    await online(b);
    await negotiated(a);
  }
  await say(a, "welcome back");
  await row(b, await idOf(a)).click();
  await hears(b, "welcome back");
  assert.equal(await a.locator(".note", { hasText: "Connected to" }).count(), 1);
});

scene("a connection that died without a word is replaced when the network changes", async (open) => {
  const wire = new Wire();
  const a = await open({ prepare: (page) => wire.attach(page) });
  const id = await idOf(a);
  wire.die();
  await a.evaluate(() => dispatchEvent(new Event("online")));
  await until("another connection", () => wire.lines.length === 2);
  const b = await open();
  await row(b, id).waitFor();
  await row(a, await idOf(b)).waitFor();
  assert.equal(await idOf(a), id);
});

scene("a connection that died without a word is found out by its silence, and a quiet one is kept", async (open) => {
  const wire = new Wire();
  const a = await open({
    prepare: async (page) => {
      await page.clock.install();
      await wire.attach(page);
    },
  });
  for (let round = 0; round < 3; round += 1) {
    const { heard } = wire.lines[0];
    await a.clock.fastForward(60_000);
    await until("the server's answer", () => wire.lines[0].heard > heard);
  }
  assert.equal(wire.lines.length, 1);
  wire.die();
  await until("another connection", async () => {
    if (wire.lines.length === 1) await a.clock.fastForward(10_000);
    return wire.lines.length === 2;
  });
  const b = await open();
  await row(a, await idOf(b)).waitFor();
});

scene("a full room is called that, and is entered once somebody has left", async (open) => {
  await limited("max_room_peers=1", async () => {
    const a = await open();
    const b = await open({ registered: false });
    await b.locator("#signaling-help-title", { hasText: "This room is full" }).waitFor();
    await b.locator("#signaling-help-text", { hasText: "lobby holds 1 peers and is full" }).waitFor();
    assert.equal(await b.textContent("#signaling-text"), "Refused");
    await b.locator("#welcome-title", { hasText: "You cannot be found" }).waitFor();
    await picture(b, "refused");
    await a.close();
    // The place of a window that closed is kept for a moment.
    await until("b is let in", async () => {
      if (await b.isVisible("#signaling-help-action")) await b.click("#signaling-help-action", { timeout: 500 }).catch(() => {});
      return (await b.textContent("#signaling-text")) === "Online";
    });
    assert.equal(await b.isVisible("#signaling-help"), false);
  });
}, steered);

for (const [limit, title] of [["max_per_address=1", "Too many windows"], ["max_clients=1", "server is full"]]) {
  scene(`a window too many for ${limit} is told so`, async (open) => {
    await limited(limit, async () => {
      await open();
      const b = await open({ registered: false });
      await b.locator("#signaling-help-title", { hasText: title }).waitFor();
      await picture(b, `refused-${limit.split("=")[0]}`);
    });
  }, steered);
}

scene("what the server says of a registration that it does not understand is shown", async (open) => {
  const wire = new Wire();
  wire.change = (text) => text.replace('"peer_id"', '"pier_id"');
  const a = await open({ registered: false, prepare: (page) => wire.attach(page) });
  await a.locator("#signaling-help-title", { hasText: "refuses this window" }).waitFor();
  await a.locator("#signaling-help-text", { hasText: "It says: missing field `peer_id`" }).waitFor();
  wire.change = (text) => text;
  await a.fill("#name", "Another");
  await a.press("#name", "Enter");
  await online(a);
});

scene("a permission to register comes with the link, is kept, and is asked for where it is missing", async (open) => {
  const registered = [];
  const prepare = (page) => page.routeWebSocket(/\/signal$/, (socket) => {
    const server = socket.connectToServer();
    server.onMessage((text) => socket.send(text));
    socket.onMessage((text) => {
      const { type, payload } = JSON.parse(text);
      if (type === "Register") registered.push(payload.token);
      if (type !== "Register" || payload.token) server.send(text);
      else socket.send(JSON.stringify({ type: "Error", payload: { code: "bad_token", message: "no token was given" } }));
    });
  });
  const a = await open({ registered: false, prepare });
  await a.locator("#signaling-help-title", { hasText: "You need an invitation" }).waitFor();
  await a.evaluate(() => { location.hash = "#token=let-me.in_1"; });
  await online(a);
  assert.equal(new URL(a.url()).hash, "");
  await a.reload();
  await online(a);
  assert.deepEqual(registered, [undefined, "let-me.in_1", "let-me.in_1"]);
  const b = await open({ prepare, hash: `#peer=${await idOf(a)}&token=other` });
  await connected(b);
  assert.equal(registered.at(-1), "other");
});

scene("every reason for a chat that did not come about has words of its own", async (open) => {
  const a = await open();
  const titles = await a.evaluate(async () => {
    const { failureWords } = await import("/words.js");
    return ["no-route", "gone", "away", "busy", "signaling", "too-many"].map((reason) => failureWords(reason, "Bela").title);
  });
  assert.equal(new Set(titles).size, titles.length, titles.join("; "));
});

for (const host of ["[::1]", "localhost"]) {
  scene(`the page works at ${host} as well`, async (open) => {
    const a = await open({ base: web.replace("127.0.0.1", host) });
    assert.equal(new URL(a.url()).hostname, host);
  }, steered);
}
