"""py-libp2p meets hippius over TCP: connections both ways, ping, identify, messages on a topic. NETWORK says where hippius is."""

import http.client
import json
import os
import socket
import uuid

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.host.ping import PingService
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

NETWORK = json.loads(os.environ["NETWORK"])
DEADLINE = 60


class Hippius:
    """A running node of hippius, spoken to over its admin socket."""

    def __init__(self, name):
        process = NETWORK["processes"][name]
        self.admin, self.id = process["admin"], process["peer_id"]
        self.address = next(a for a in process["addresses"] if "/tcp/" in a and "/ws" not in a)

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self.admin)
        connection.request(method, path, json.dumps(body) if body else None, {"content-type": "application/json"})
        response = connection.getresponse()
        text = response.read().decode()
        assert response.status == 200, f"{method} {path}: {text}"
        return json.loads(text)

    def peer(self, peer_id):
        peers = self.call("GET", "/v1/peers")["peers"]
        return next((peer for peer in peers if peer["peer_id"] == str(peer_id)), None)


async def until(what, condition):
    """Waits until `condition` gives something, and gives that."""
    with trio.move_on_after(DEADLINE / 2):
        while True:
            # The admin socket is asked by ordinary, blocking calls.
            value = await trio.to_thread.run_sync(condition)
            if value:
                return value
            await trio.sleep(0.02)
    raise AssertionError(f"never: {what}")


async def meets(hippius, by_us):
    """One connection, opened by this side or by the other; a message each way."""
    host = new_host(key_pair=create_new_key_pair())
    gossip = GossipSub(protocols=[PROTOCOL_ID_V11], degree=3, degree_low=2, degree_high=4, heartbeat_interval=1)
    pubsub = Pubsub(host, gossip)
    async with host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]), background_trio_service(pubsub), background_trio_service(gossip):
        await pubsub.wait_until_ready()
        lobby = await pubsub.subscribe("lobby")
        if by_us:
            await host.connect(info_from_p2p_addr(Multiaddr(hippius.address)))
        else:
            address = str(host.get_addrs()[0])
            await trio.to_thread.run_sync(hippius.call, "POST", "/v1/peers/connect", {"address": address})
        us = host.get_id()
        seen = await until("hippius knows this side and its topic", lambda: (p := hippius.peer(us)) and p["agent"] and p["topics"] and p)
        assert seen["direction"] == ("inbound" if by_us else "outbound"), seen
        assert seen["agent"].startswith("py-libp2p/"), seen
        await until("hippius has pinged", lambda: hippius.peer(us)["latency_ms"] is not None)
        await identifies_and_pings(host, hippius)
        await talks(host, pubsub, lobby, hippius)
    print(f"ok: connected by {'py-libp2p' if by_us else 'hippius'}")


async def identifies_and_pings(host, hippius):
    peer_id = info_from_p2p_addr(Multiaddr(hippius.address)).peer_id
    stream = await host.new_stream(peer_id, [IDENTIFY])
    # The message comes behind its length, in as many bytes as have their highest bit set, and one.
    length, shift = 0, 0
    while True:
        (byte,) = await stream.read(1)
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    data = b""
    while len(data) < length:
        data += await stream.read(length - len(data))
    told = Identify.FromString(data)
    assert told.agent_version.startswith("hippius/"), told
    assert "/hippius/kad/1.0.0" in told.protocols, told
    assert len(await PingService(host).ping(peer_id, 3)) == 3


async def talks(host, pubsub, lobby, hippius):
    text = "hello from Rust: ä"
    await trio.to_thread.run_sync(hippius.call, "POST", "/v1/publish", {"topic": "lobby", "text": text})
    received = json.loads((await lobby.get()).data)
    assert (received["text"], received["from"]) == (text, hippius.id), received

    body = {"id": str(uuid.uuid4()), "from": str(host.get_id()), "topic": "lobby", "sent_at": 0, "text": "hello from Python"}
    before = hippius.call("GET", "/v1/status")["refused"].get("message", 0)
    await pubsub.publish("lobby", json.dumps(body).encode())
    await until("the message arrives", lambda: body in hippius.call("GET", "/v1/topics/lobby/messages")["messages"])
    await pubsub.publish("lobby", b"not a message")
    await until("rubbish is counted", lambda: hippius.call("GET", "/v1/status")["refused"].get("message", 0) == before + 1)


async def main():
    hippius = Hippius("node-0")
    for by_us in [True, False]:
        with trio.fail_after(DEADLINE):
            await meets(hippius, by_us)


trio.run(main)
