// Files from window to window, and what a hostile one may try with them.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { audit } from "./audit.mjs";
import { hears, pair, picture, say, stage, until, watchLinks } from "./support.mjs";

const scene = stage();
const MIB = 1024 * 1024;
const card = (page, name) => page.locator(".file").filter({ has: page.locator(".file-name", { hasText: name }) });
const press = (page, name, button) => card(page, name).getByRole("button", { name: button }).click();
const stateOf = (page, name, text) => card(page, name).locator(".file-state", { hasText: text }).waitFor();
const give = (page, name, buffer) => page.setInputFiles("#file", { name, mimeType: "text/html", buffer });

async function saved(page, name) {
  const [download] = await Promise.all([page.waitForEvent("download"), card(page, name).getByRole("link", { name: "Save" }).click()]);
  return { name: download.suggestedFilename(), bytes: await readFile(await download.path()) };
}

/** A file on disk that is too large to hand over otherwise; it takes no room. */
async function withLarge(size, body) {
  const folder = await mkdtemp(join(tmpdir(), "hippius-file-"));
  const path = join(folder, "large.bin");
  try {
    await writeFile(path, "");
    await truncate(path, size);
    await body(path);
  } finally {
    await rm(folder, { recursive: true });
  }
}

scene("a file is offered, accepted, seen on its way at both ends, checked and saved", async (open) => {
  const { a, b } = await pair(open);
  const content = randomBytes(5 * MIB + 123);
  await give(a, "holiday <b>film.html", content);
  await stateOf(a, "film", "waiting for Bela to accept");
  await stateOf(b, "film", "offered to you");
  assert.equal(await b.locator(".file-name b").count(), 0);
  await picture(b, "file-offered");
  await press(b, "film", "Accept");
  await stateOf(b, "film", "5.2 MB · received and checked");
  await stateOf(a, "film", "delivered and checked");
  await picture(b, "file-received");
  const file = await saved(b, "film");
  assert.ok(file.bytes.equals(content));
  assert.match(file.name, /film.*\.html$/);
  await press(b, "film", "Remove");
  await stateOf(b, "film", "removed");
  await audit(b, "file removed");
  // An empty one, and back the other way.
  await give(b, "empty.txt", Buffer.alloc(0));
  await press(a, "empty.txt", "Accept");
  await stateOf(b, "empty.txt", "delivered and checked");
  assert.equal((await saved(a, "empty.txt")).bytes.length, 0);
});

scene("a file is refused, taken back, or broken off by either side, and nothing else suffers", async (open) => {
  const { a, b } = await pair(open);
  await give(a, "no.txt", Buffer.from("no"));
  await press(b, "no.txt", "Refuse");
  await stateOf(a, "no.txt", "Bela refused it");
  await stateOf(b, "no.txt", "you refused it");
  // As they wanted it: no bad news for them.
  const tone = (page) => card(page, "no.txt").locator(".file-state").getAttribute("data-tone");
  assert.deepEqual([await tone(a), await tone(b)], ["bad", ""]);
  await give(a, "back.txt", Buffer.from("back"));
  await card(b, "back.txt").waitFor();
  await press(a, "back.txt", "Cancel");
  await stateOf(b, "back.txt", "Ada took the offer back");
  await withLarge(200 * MIB, async (path) => {
    for (const [breaker, other, words] of [[b, a, "cancelled by Bela"], [a, b, "cancelled by Ada"]]) {
      await a.setInputFiles("#file", path);
      await b.locator(".file button", { hasText: "Accept" }).click();
      const moving = breaker.locator(".file").last();
      // Far enough for both sides to show it.
      await breaker.waitForFunction(() => [...document.querySelectorAll(".file-progress:not([hidden])")].some((bar) => bar.value > 1e6));
      await picture(breaker, `file-moving-${breaker === a ? "sent" : "received"}`);
      await say(a, `still talking, ${words}`);
      await hears(b, `still talking, ${words}`);
      await moving.getByRole("button", { name: "Cancel" }).click();
      await other.locator(".file-state", { hasText: words }).waitFor();
      await breaker.locator(".file").last().locator(".file-state", { hasText: "cancelled" }).waitFor();
    }
  });
  // What was on its way when it was broken off is no reason to end the connection.
  await audit(a, "own files broken off");
  await audit(b, "files broken off");
  await give(a, "after.txt", Buffer.from("after all"));
  await press(b, "after.txt", "Accept");
  assert.equal((await saved(b, "after.txt")).bytes.toString(), "after all");
});

scene("a large file never waits in the sender's memory, nor outruns a receiver who is busy", async (open) => {
  const { a, b } = await pair(open, { prepare: watchLinks });
  await a.evaluate(() => {
    const { files } = window.channels;
    window.most = { waiting: 0, ahead: 0 };
    let [sent, confirmed] = [0, 0];
    files.addEventListener("message", ({ data }) => {
      const { kind, bytes } = JSON.parse(data);
      if (kind === "got") confirmed = bytes;
    });
    const send = files.send.bind(files);
    files.send = (data) => {
      send(data);
      if (typeof data !== "string") sent += data.byteLength - 4;
      window.most.waiting = Math.max(window.most.waiting, files.bufferedAmount);
      window.most.ahead = Math.max(window.most.ahead, sent - confirmed);
    };
  });
  // Its channel takes whatever comes; only what its page has read is confirmed.
  await b.evaluate(() => {
    window.channels.files.addEventListener("message", () => {
      for (const end = performance.now() + 2; performance.now() < end; );
    });
  });
  await withLarge(32 * MIB, async (path) => {
    await a.setInputFiles("#file", path);
    await press(b, "large.bin", "Accept");
    await stateOf(a, "large.bin", "delivered and checked");
  });
  const most = await a.evaluate(() => window.most);
  const chunk = 16 * 1024;
  assert.ok(most.waiting <= MIB + chunk + 4, JSON.stringify(most));
  // The page hears a confirmation just before this test does.
  assert.ok(most.ahead <= 4 * MIB + MIB / 4 + chunk, JSON.stringify(most));
  // As much as may be was under way, so the bounds were what held it back.
  assert.ok(most.ahead > 2 * MIB, JSON.stringify(most));
});

scene("several files at once, and no more than are allowed; what is too large is not even offered", async (open) => {
  const { a, b } = await pair(open);
  const files = Array.from({ length: 9 }, (_, index) => ({ name: `part-${index}.bin`, mimeType: "", buffer: randomBytes(300_000 + index) }));
  await a.setInputFiles("#file", files);
  await a.locator("#composer-error", { hasText: "8 files at once" }).waitFor();
  await audit(a, "too many files");
  await until("eight offers", async () => (await b.locator(".file").count()) === 8);
  for (let index = 0; index < 8; index += 1) await press(b, `part-${index}.bin`, "Accept");
  for (let index = 0; index < 8; index += 1) await stateOf(a, `part-${index}.bin`, "delivered");
  assert.ok((await saved(b, "part-3.bin")).bytes.equals(files[3].buffer));
  await withLarge(257 * MIB, async (path) => {
    await a.setInputFiles("#file", path);
    await a.locator("#composer-error", { hasText: "larger than 268 MB" }).waitFor();
  });
  await a.setInputFiles("#file", files[8]);
  await card(b, "part-8").waitFor();
  await b.close();
  await stateOf(a, "part-8", "the connection ended");
});

/** Sends on the attacker's channel: objects as JSON, arrays as [id, bytes]. */
const inject = (page, label, messages) => page.evaluate(([label, messages]) => {
  for (const message of messages) {
    if (!Array.isArray(message)) {
      window.channels[label].send(JSON.stringify(message));
      continue;
    }
    const [id, size] = message;
    const frame = new Uint8Array(4 + size);
    new DataView(frame.buffer).setUint32(0, id);
    window.channels[label].send(frame);
  }
}, [label, messages]);

const SHA_OF_ZEROS = (size) => createHash("sha256").update(Buffer.alloc(size)).digest("hex");

scene("names from outside are made harmless", async (open) => {
  const { a, b } = await pair(open, { prepare: watchLinks });
  const names = ["../../etc/passwd", "C:\\Windows\\system.ini", "invoice\u202Efdp.exe", ".bashrc", "a\nb\u0000c", "...", "x".repeat(240) + ".txt", "<img src=x>"];
  await inject(a, "files", names.map((name, index) => ({ kind: "offer", id: 1000 + index, name, size: 1 })));
  await until("all are there", async () => (await b.locator(".file-name").count()) === names.length);
  const shown = await b.locator(".file-name").allTextContents();
  assert.deepEqual(shown, ["passwd", "system.ini", "invoicefdp.exe", "bashrc", "abc", "file", "x".repeat(96) + ".txt", "_img src=x_"]);
  assert.equal(await b.locator(".log img").count(), 0);
});

scene("what is not as announced is broken off, and what nobody asked for is not kept", async (open) => {
  const { a, b } = await pair(open, { prepare: watchLinks });
  const offer = (id, size, name) => ({ kind: "offer", id, name, size });
  // Before it is accepted.
  await inject(a, "files", [offer(1, 5, "early"), [1, 5], { kind: "done", id: 1, sha256: SHA_OF_ZEROS(5) }]);
  await stateOf(b, "early", "offered to you");
  await press(b, "early", "Refuse");
  const tries = {
    long: [[2, 6], "more came than was announced"],
    short: [[3, 4], "less came than was announced"],
    changed: [[4, 5], "damaged on the way"],
    good: [[5, 5], "received and checked"],
  };
  for (const [name, [[id, size], words]] of Object.entries(tries)) {
    await inject(a, "files", [offer(id, 5, name)]);
    await press(b, name, "Accept");
    const sha256 = SHA_OF_ZEROS(name === "changed" ? 6 : size);
    await inject(a, "files", [[id, size], { kind: "done", id, sha256 }]);
    await stateOf(b, name, words);
  }
  await audit(b, "files not as announced");
  // Nonsense of every kind.
  await inject(a, "files", [null, 7, "x", {}, { kind: "offer" }, offer(-1, 5, "x"), offer(6, -5, "x"), offer(7, 1.5, "x"), offer(8, 1e300, "x"), { kind: "offer", id: 9, name: {}, size: 1 },
    { kind: "accept", id: 99 }, { kind: "got", id: 99, bytes: 5 }, { kind: "received", id: {} }, { kind: "refuse" }, [5, 5], { kind: "offer", id: 10, name: "n".repeat(5000), size: 1 }]);
  await inject(a, "chat", [null, [7, 7], { kind: "text" }, { kind: "text", id: 1, text: {} }, { kind: "ack", id: "x" }, { kind: "text", id: 2, text: "y".repeat(9000) }]);
  await say(a, "done with it");
  await hears(b, "done with it");
  assert.equal(await b.locator(".file").count(), 5);
  assert.equal(await b.locator(".bubble", { hasText: "yyyy" }).evaluate((element) => element.lastChild.length), 4000);
  // One too large is refused without a question, and so is one over the number.
  await inject(a, "files", [offer(20, 300 * MIB, "huge"), ...Array.from({ length: 9 }, (_, index) => offer(30 + index, 1, `many-${index}`))]);
  await card(b, "many-7").waitFor();
  await say(a, "and again");
  await hears(b, "and again");
  assert.equal(await card(b, "huge").count() + await card(b, "many-8").count(), 0);
});

scene("nobody gets a microphone, a picture, or a channel of their own into the page", async (open) => {
  const { a, b } = await pair(open, { prepare: watchLinks });
  const closed = await a.evaluate(() => new Promise((done) => {
    window.links.at(-1).createDataChannel("mine").addEventListener("close", () => done(true));
  }));
  assert.equal(closed, true);
  await a.evaluate(() => {
    window.links.at(-1).addTransceiver("audio");
    window.links.at(-1).addTransceiver("video");
  });
  await until("an offer with all three", () => a.evaluate(() => /m=video/.test(window.links.at(-1).localDescription.sdp)));
  await say(a, "after the offer");
  await hears(b, "after the offer");
  assert.deepEqual(await b.evaluate(() => [window.links.at(-1).getTransceivers().length, window.links.at(-1).signalingState]), [0, "stable"]);
  await a.evaluate(() => {
    for (let index = 0; index < 20; index += 1) window.links.at(-1).createDataChannel(`mine ${index}`);
  });
  await b.locator("#chat-help-title", { hasText: "Ada sent too much" }).waitFor();
});

for (const [what, flood] of [
  ["texts", (page) => page.evaluate(() => {
    for (let id = 1; id <= 2_000; id += 1) window.channels.chat.send(JSON.stringify({ kind: "text", id, text: `flood ${id}` }));
  })],
  ["control messages", (page) => page.evaluate(() => {
    for (let id = 1; id <= 2_000; id += 1) window.channels.files.send(JSON.stringify({ kind: "offer", id, name: "flood", size: 1 }));
  })],
  ["bytes that belong to nothing", (page) => inject(page, "files", Array.from({ length: 200 }, () => [77, 16_384]))],
]) {
  scene(`a flood of ${what} ends that connection and nothing else`, async (open) => {
    const { a, b, idA } = await pair(open, { prepare: watchLinks });
    await flood(a).catch(() => {});
    await b.locator("#chat-help-title", { hasText: "Ada sent too much" }).waitFor();
    await picture(b, `flood-${what.split(" ")[0]}`);
    assert.ok((await b.locator(".msg").count()) <= 80, "most of it was left out");
    // It may not come back by itself.
    await a.locator("#chat-action", { hasText: /^Connect$/ }).click();
    await b.locator("#chat-help-title", { hasText: "Ada sent too much" }).waitFor();
    const c = await open({ name: "Cleo", hash: `#peer=${await b.textContent("#me-id")}` });
    await c.locator("#chat-state-text", { hasText: "Connected" }).waitFor();
    assert.equal(await b.locator(`[data-peer="${idA}"] .peer-state`).textContent(), "Disconnected");
    // Unless this side wants it to.
    await b.click("#chat-help-action");
    await b.locator("#chat-state-text", { hasText: "Connected" }).waitFor();
  });
}

scene("who was kept away and has just called again is connected as soon as this side wants it", async (open) => {
  const { a, b, idA, idB } = await pair(open, { prepare: watchLinks });
  // The one whose offer counts when two cross is kept away, and its offer is never seen.
  const [flooder, other, name] = idA > idB ? [a, b, "Ada"] : [b, a, "Bela"];
  await flooder.evaluate(() => {
    for (let id = 1; id <= 2_000; id += 1) window.channels.chat.send(JSON.stringify({ kind: "text", id, text: "flood" }));
  }).catch(() => {});
  await other.locator("#chat-help-title", { hasText: `${name} sent too much` }).waitFor();
  await flooder.locator("#chat-action", { hasText: /^Connect$/ }).click();
  await until("an offer", () => flooder.evaluate(() => window.links.at(-1).signalingState === "have-local-offer"));
  await other.click("#chat-help-action");
  for (const page of [flooder, other]) await page.locator("#chat-state-text", { hasText: "Connected" }).waitFor();
});

scene("the hash of a file is what everybody else computes", async (open) => {
  const a = await open();
  for (const size of [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000, 70_000]) {
    const bytes = randomBytes(size);
    const got = await a.evaluate(async (list) => {
      const { Sha256 } = await import("/sha256.js");
      const all = Uint8Array.from(list);
      const hash = new Sha256();
      for (let at = 0; at < all.length; at += 37) hash.update(all.subarray(at, at + 37));
      return hash.hex();
    }, [...bytes]);
    assert.equal(got, createHash("sha256").update(bytes).digest("hex"), `${size} bytes`);
  }
});

scene("a file held over the conversation is seen to be welcome, and is offered when it falls", async (open) => {
  const { a, b } = await pair(open);
  const drag = (type) => a.evaluate((type) => {
    const data = new DataTransfer();
    data.items.add(new File(["dropped"], "dropped.txt"));
    return document.getElementById("log").dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
  }, type);
  // The browser would open the file in place of the page otherwise.
  assert.equal(await drag("dragover"), false);
  await audit(a, "file held over");
  assert.equal(await drag("drop"), false);
  await press(b, "dropped.txt", "Accept");
  assert.equal((await saved(b, "dropped.txt")).bytes.toString(), "dropped");
});

scene("a file that changes after it was chosen is broken off at both ends", async (open) => {
  const { a, b } = await pair(open);
  await withLarge(MIB, async (path) => {
    await a.setInputFiles("#file", path);
    await card(b, "large.bin").waitFor();
    await truncate(path, MIB / 2);
    await press(b, "large.bin", "Accept");
    await stateOf(a, "large.bin", "can no longer be read");
    await stateOf(b, "large.bin", "cancelled by Ada");
  });
  await audit(a, "file unreadable");
});
