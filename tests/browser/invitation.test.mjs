// A signaling server that asks for tokens, and everything over TLS.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connected, control, hears, idOf, online, picture, say, stage } from "./support.mjs";

const scene = stage();
const steered = { skip: !control };
const SECRET = "fedcba98765432100123456789abcdeffedcba98765432100123456789abcdef";

/** A token as any back end makes one. */
function token(claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ typ: "JWT", alg: "HS256" })}.${part({ exp: Math.floor(Date.now() / 1000) + 600, ...claims })}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

scene("who has an invitation comes in, as whom it is for, and everybody else reads why not", async (open) => {
  const folder = await mkdtemp(join(tmpdir(), "hippius-tokens-"));
  const file = join(folder, "tokens");
  await writeFile(file, `${SECRET}\n`);
  const restart = async (query) => {
    await fetch(`${control}/stop`, { method: "POST" });
    await fetch(`${control}/start?${query}`, { method: "POST" });
  };
  await restart(new URLSearchParams({ token_secret_file: `"${file}"` }));
  try {
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
  } finally {
    await restart("");
    await rm(folder, { recursive: true });
  }
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
