// A signaling server that asks for tokens, and everything over TLS.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { readFile } from "node:fs/promises";
import { connected, control, hears, iceServers, idOf, limited, online, picture, say, stage, until, watchLinks } from "./support.mjs";

const scene = stage();
const steered = { skip: !control };
const { INVITED_WEB_URL, TOKEN_FILE } = process.env;
const SECRET = TOKEN_FILE && await readFile(TOKEN_FILE, "utf8");

/** A token as any back end makes one. */
function token(claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ typ: "JWT", alg: "HS256" })}.${part({ exp: Math.floor(Date.now() / 1000) + 600, ...claims })}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

/** With a signaling server that asks for tokens. */
const invited = (body) => limited(new URLSearchParams({ token_secret_file: `"${TOKEN_FILE}"` }), body);

scene("who has an invitation comes in, as whom it is for, and everybody else reads why not", async (open) => {
  await invited(async () => {
    const a = await open({ registered: false });
    const help = a.locator("#signaling-help-text");
    await help.filter({ hasText: "this server asks for a token" }).waitFor();
    await picture(a, "invitation");
    const follow = (hash) => a.evaluate((hash) => { location.hash = hash; }, hash);
    await follow(`#token=${token({ exp: 1 })}`);
    await help.filter({ hasText: "the token has expired" }).waitFor();
    await follow(`#token=${token({ sub: "alice" }).slice(0, -3)}AAA`);
    await help.filter({ hasText: "not one of this server's" }).waitFor();
    await follow(`#token=${token({ sub: "alice" })}`);
    await online(a);
    assert.equal(await idOf(a), "alice");
    await a.reload();
    await online(a);
    assert.equal(await idOf(a), "alice");

    const b = await open({ hash: `#peer=alice&token=${token({ sub: "bob", room: "lobby" })}` });
    await connected(b);
    assert.equal(await idOf(b), "bob");
    await say(b, "I was invited");
    // The same invitation in a second window: there is no other id to fall back on.
    const c = await open({ hash: `#token=${token({ sub: "bob" })}`, registered: false });
    await c.locator("#signaling-help-title", { hasText: "invitation is in use" }).waitFor();
    // Another room: nobody of the lobby is there.
    const d = await open({ hash: `#token=${token({ room: "attic" })}` });
    assert.equal(await d.locator("[data-peer=alice]").count(), 0);
  });
}, steered);

scene("who asks for ICE servers shows the invitation, and gets none without", async (open, context) => {
  await context.grantPermissions(["microphone"], { origin: INVITED_WEB_URL });
  await invited(async () => {
    const prepare = async (page) => {
      await watchLinks(page);
      page.answers = [];
      page.on("response", (response) => response.url().endsWith("/ice") && page.answers.push(response.status()));
    };
    const a = await open({ base: INVITED_WEB_URL, registered: false, prepare });
    await a.locator("#signaling-help-title", { hasText: "You need an invitation" }).waitFor();
    assert.deepEqual(a.answers, [401]);
    // As soon as there is one, for whom a connection is made is told of the relay.
    await a.evaluate((hash) => { location.hash = hash; }, `#token=${token({})}`);
    await online(a);
    await until("an answer", () => a.answers.length === 2);
    const b = await open({ base: INVITED_WEB_URL, hash: `#token=${token({})}&peer=${await idOf(a)}`, prepare });
    await connected(b);
    assert.deepEqual([a.answers, b.answers], [[401, 200], [200]]);
    for (const page of [a, b]) assert.match((await iceServers(page)).join(), /^turn:127\.0\.0\.1:9 \d+:\w+$/);
    // The token is kept for this window, so a reload asks with it again.
    await b.reload();
    await online(b);
    assert.deepEqual(b.answers, [200, 200]);
  });
}, steered);

scene("pages over https talk to a signaling server over wss", async (open, context) => {
  const base = process.env.SECURE_WEB_URL;
  // As for the other origin: without it there are no candidates with addresses.
  await context.grantPermissions(["microphone"], { origin: base });
  const a = await open({ base });
  assert.equal(await a.evaluate(() => location.protocol), "https:");
  const b = await open({ base, hash: `#peer=${await idOf(a)}` });
  await connected(b);
  await say(b, "over TLS");
  await a.locator(`[data-peer="${await idOf(b)}"]`).click();
  await hears(a, "over TLS");
}, { skip: !process.env.SECURE_WEB_URL });
