// A page in a headless browser, with js-libp2p bundled into it, talks to a node by WebSocket and by WebRTC-direct.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";
import { build } from "esbuild";
import { Hippius, LIMIT, transportOf, until } from "./support.mjs";

const hippius = new Hippius("node-0");
const far = new Hippius("node-1");

/** Serves the page, from loopback, where pages may use cryptography. */
async function serve(t) {
  const entryPoints = [new URL("page.mjs", import.meta.url).pathname];
  const { outputFiles } = await build({ entryPoints, bundle: true, write: false, format: "esm", logLevel: "error" });
  const server = createServer(({ url }, response) => {
    if (url === "/page.js") response.setHeader("content-type", "text/javascript").end(outputFiles[0].text);
    else response.setHeader("content-type", "text/html").end('<script type="module" src="/page.js"></script>');
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return `http://127.0.0.1:${server.address().port}`;
}

test("a page talks to hippius", { timeout: 2 * LIMIT.timeout }, async (t) => {
  process.env.WEB_URL = await serve(t);
  const { startBrowser } = await import("../browser/support.mjs");
  const { context, close } = await startBrowser();
  t.after(close);
  for (const transport of ["ws", "webrtc-direct"]) {
    await t.test(`over ${transport}`, LIMIT, async () => {
      const page = await context.newPage();
      const problems = [];
      page.on("pageerror", (error) => problems.push(String(error)));
      await page.goto(process.env.WEB_URL);
      await page.waitForFunction(() => globalThis.libp2p);
      const { id, latency } = await page.evaluate((address) => libp2p.meet(address), String(hippius.address(transport)));
      assert.ok(latency >= 0);
      const seen = await until("hippius knows the page", async () => {
        const peer = await hippius.peer(id);
        return peer?.agent && peer.topics.includes("lobby") && peer;
      });
      assert.equal(seen.agent, "interop-page/1");
      assert.equal(transportOf(seen.address), transport);
      await until("it is in the mesh", async () => (await page.evaluate(() => libp2p.mesh())).includes(hippius.id));

      const heard = await far.listen(t, "lobby");
      await page.evaluate(() => libp2p.say("from a page: ä"));
      await until("the page is heard", () => heard.some(({ from, text }) => from === id && text === "from a page: ä"));
      await hippius.publish("lobby", `to the page over ${transport}`);
      await until("the page hears", async () =>
        (await page.evaluate(() => libp2p.heard())).some(({ text }) => text === `to the page over ${transport}`),
      );
      assert.deepEqual(problems, []);
      await page.close();
    });
  }
});
