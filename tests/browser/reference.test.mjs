// docs/web-client.md says what the pages do.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

const read = (path) => readFile(new URL(`../../${path}`, import.meta.url), "utf8");
const page = await read("docs/web-client.md");

test("every limit in the reference is the constant in the code", async () => {
  const rows = [...page.matchAll(/^\| `([A-Z_]+)` \| `([a-z]+\.js)` \| ([\d,]+) \|/gm)];
  assert.ok(rows.length >= 15);
  for (const [, name, file, value] of rows) {
    const source = await read(`web/${file}`);
    // As numbers and products of them, or of constants before it.
    const written = (constant) => new RegExp(`^(?:export )?const ${constant} = ([\\w* ]+);`, "m").exec(source)?.[1];
    const product = (text) => text.split("*").map((part) => part.trim())
      .reduce((sum, part) => sum * (/^\d/.test(part) ? Number(part.replaceAll("_", "")) : product(written(part))), 1);
    assert.equal(product(written(name) ?? ""), Number(value.replaceAll(",", "")), `${name} in ${file}`);
  }
});

test("every message on the data channels is in the reference, and no other", async () => {
  const described = new Set([...page.matchAll(/\{"kind": "([a-z]+)"/g)].map(([, kind]) => kind));
  const sources = (await Promise.all(["chat.js", "transfer.js"].map((file) => read(`web/${file}`)))).join("\n");
  const sent = new Set([...sources.matchAll(/kind: "([a-z]+)"/g)].map(([, kind]) => kind));
  assert.deepEqual([...described].sort(), [...sent].sort());
  const reasons = /const REFUSALS = \[(.*)\]/.exec(sources)[1].replaceAll('"', "").split(", ");
  for (const reason of reasons) assert.ok(page.includes(`\`${reason}\``), reason);
});
