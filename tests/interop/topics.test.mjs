// Messages on a topic, from js-libp2p to hippius and back; what is not of the documented form is refused.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Hippius, LIMIT, jsPeer, message, until } from "./support.mjs";

const near = new Hippius("node-0");
const far = new Hippius("node-1");

/** A peer on the lobby that only `near` is connected to. */
async function onTheLobby(t) {
  const js = await jsPeer(t);
  const heard = [];
  js.services.pubsub.addEventListener("message", ({ detail }) => heard.push(detail));
  js.services.pubsub.subscribe("lobby");
  await js.dial(near.address("tcp"));
  await until("each is in the other's mesh", () => js.services.pubsub.getMeshPeers("lobby").includes(near.id));
  await until("hippius knows the topic", async () => (await near.peer(js.peerId))?.topics.includes("lobby"));
  return { js, heard };
}

test("messages go both ways, further than the next node", LIMIT, async (t) => {
  const { js, heard } = await onTheLobby(t);
  for (const hippius of [near, far]) {
    const text = `from ${hippius.name}: ä "quoted"\n`;
    const { id } = await hippius.publish("lobby", text);
    const received = await until(`the message of ${hippius.name} arrives`, () =>
      heard.find(({ data }) => Buffer.from(data).includes(hippius.name)),
    );
    assert.equal(String(received.from), hippius.id);
    const { sent_at, ...rest } = JSON.parse(Buffer.from(received.data).toString());
    assert.deepEqual(rest, { id, from: hippius.id, topic: "lobby", text });
    assert.ok(Math.abs(Date.now() - sent_at) < 60_000);
  }

  const lists = [await near.listen(t, "lobby"), await far.listen(t, "lobby")];
  await js.services.pubsub.publish("lobby", message(js, "lobby", "hello"));
  await js.services.pubsub.publish("lobby", message(js, "lobby", "hello"));
  for (const list of lists) {
    await until("the same text twice arrives twice", () => list.length === 2);
    for (const { from, topic, text } of list) {
      assert.deepEqual({ from, topic, text }, { from: String(js.peerId), topic: "lobby", text: "hello" });
    }
  }
});

test("what is not a message is refused and counted, and the peer goes on", LIMIT, async (t) => {
  const { js } = await onTheLobby(t);
  const heard = await far.listen(t, "lobby");
  const good = JSON.parse(message(js, "lobby", "x").toString());
  const wrong = [
    "not JSON",
    JSON.stringify({ ...good, from: near.id }),
    JSON.stringify({ ...good, topic: "news" }),
    JSON.stringify({ ...good, id: "../x" }),
    JSON.stringify({ ...good, more: 1 }),
    JSON.stringify({ ...good, text: undefined }),
    Buffer.from([0xff, 0xfe]),
  ];
  const before = await near.refused("message");
  for (const data of wrong) await js.services.pubsub.publish("lobby", Buffer.from(data));
  await until("all are counted", async () => (await near.refused("message")) >= before + wrong.length);
  await js.services.pubsub.publish("lobby", message(js, "lobby", "still here"));
  await until("the good one arrives", () => heard.length > 0);
  assert.deepEqual(heard.map(({ text }) => text), ["still here"]);
});
