"""What a hundred nodes do together: forming the mesh, passing messages on, losing a third of themselves, coming back."""

import collections
import contextlib
import ctypes
import http.client
import json
import multiprocessing
import os
import random
import re
import selectors
import signal
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request

from .network import ROOT, Network, UnixConnection, ask, cpu_seconds, pss_mb, report, spread

TOPIC = "swarm"
# Text that makes a message of 1 KiB.
TEXT = "x" * 900


def node_names(network):
    return [p["name"] for p in network.status()["processes"] if p["role"] == "node"]


def admin(network, name):
    return network.data / name / "admin.sock"


def mesh_of(network, name):
    """Peers in the node's mesh of the topic; None while nobody answers."""
    answer = ask(admin(network, name), "/v1/topics")
    found = [topic for topic in (answer or {}).get("details", []) if topic["topic"] == TOPIC]
    return len(found[0]["mesh"]) if found else None


CLONE_NEWNET = 0x40000000
TRANSPORTS = ["tcp/0", "tcp/0/ws", "tcp/0/tls/ws", "udp/0/quic-v1", "udp/0/webrtc-direct"]


def swarm(count, listen=("/ip4/127.0.0.1/tcp/0",), more=""):
    return f"""
name = "bench"
[ports]
metrics = 0
[[bootnodes]]
listen = ["/ip4/127.0.0.1/tcp/0"]
[[nodes]]
count = {count}
listen = {json.dumps(list(listen))}
{more}
topics = ["{TOPIC}"]
connections = {{ low = 6, high = 12 }}
"""


def wait_for_meshes(network, names, seconds=60):
    missing = set(names)

    def formed():
        for name in list(missing):
            if (mesh_of(network, name) or 0) >= 1:
                missing.discard(name)
        return not missing

    return network.wait("each has its mesh", formed, seconds=seconds, pause=0.05)


class Listener(threading.Thread):
    """Reads the events of many nodes at once: when each message arrived at each. What it has read it looks into only when asked: the
    nodes need the processor meanwhile."""

    def __init__(self, network, names):
        super().__init__(daemon=True)
        self.heard = {}  # message id → {node: time}
        self.unread = collections.deque()  # (time, [node, line begun], bytes)
        self.selector = selectors.DefaultSelector()
        self.lock = threading.Lock()
        self.over = False
        for name in names:
            self.add(network, name)

    def add(self, network, name):
        connection = UnixConnection(admin(network, name))
        connection.connect()
        connection.sock.sendall(f"GET /v1/events?topic={TOPIC} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        connection.sock.setblocking(False)
        with self.lock:
            self.selector.register(connection.sock, selectors.EVENT_READ, [name, b""])

    def run(self):
        while not self.over:
            with self.lock:
                ready = self.selector.select(0)
            if not ready:
                time.sleep(0.0005)
            for key, _ in ready:
                self.read(key)

    def read(self, key):
        try:
            data = key.fileobj.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        now = time.monotonic()
        if not data:
            with self.lock:
                self.selector.unregister(key.fileobj)
            key.fileobj.close()
            return
        self.unread.append((now, key.data, data))

    def arrivals(self):
        """{message id: {node: time}} of all that has been read."""
        while self.unread:
            now, of, data = self.unread.popleft()
            lines = (of[1] + data).split(b"\n")
            of[1] = lines.pop()
            for line in lines:
                if b'"type":"message"' in line:
                    found = re.search(rb'"id":"([^"]+)"', line)
                    self.heard.setdefault(found[1].decode(), {}).setdefault(of[0], now)
        return self.heard


@contextlib.contextmanager
def first_in_line():
    """Puts this thread, and those that it starts, before all others: who measures does not wait for what is measured. Where that is
    not allowed, they wait their turn."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError:
        report("… the reader of the events", "waits its turn like the nodes: it may not come first")
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def publish(network, name):
    """Publishes one message; its id and the time before, or None when the node does not take it."""
    before = time.monotonic()
    try:
        connection = UnixConnection(admin(network, name))
        connection.request("POST", "/v1/publish", json.dumps({"topic": TOPIC, "text": TEXT}),
                           {"Content-Type": "application/json"})
        reply = connection.getresponse()
        body = json.loads(reply.read())
        connection.close()
        return (body["id"], before) if reply.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError):
        return None


def publish_for(network, names, seconds, per_second):
    """Publishes from nodes chosen at random; {id: (time, author)}."""
    sent, start = {}, time.monotonic()
    for number in range(int(seconds * per_second)):
        time.sleep(max(0, start + number / per_second - time.monotonic()))
        name = random.choice(names)
        message = publish(network, name)
        if message:
            sent[message[0]] = (message[1], name)
    return sent


def settle(listener, sent, expected, seconds=5):
    """Waits until every message has arrived everywhere, or in vain."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        arrivals = listener.arrivals()
        if all(len(arrivals.get(id, {})) >= expected for id in sent):
            return
        time.sleep(0.05)


def total(network, metric):
    """The sum of all series of a counter."""
    text = urllib.request.urlopen(network.status()["metrics"], timeout=10).read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(metric + r"[ {]", line))


# --- mesh -------------------------------------------------------------------------------------------------------

def bench_mesh(rounds=3):
    times = []
    for _ in range(rounds):
        with Network(swarm(100)) as network:
            network.wait("all are ready", network.all_ready, pause=0.05)
            times.append(wait_for_meshes(network, node_names(network)))
    report("100 nodes: start → every node has its mesh", f"median {statistics.median(times):.2f} s, max {max(times):.2f} s (n={rounds})")


# --- transports -------------------------------------------------------------------------------------------------

def bench_transports():
    """What an idle node costs that listens on everything."""
    process = multiprocessing.Process(target=idle_on_all_transports)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit("nodes that listen on all transports could not be measured")


def idle_on_all_transports():
    # Connections over WebRTC look for names by multicast: this process goes where there is no network but loopback.
    if ctypes.CDLL(None).unshare(CLONE_NEWNET):
        return report("idle node that listens on all transports", "needs root, for a network namespace")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory(prefix="hippius-bench-") as folder:
        key, certificate = f"{folder}/node.key", f"{folder}/node.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-subj", "/CN=localhost", "-keyout", key, "-out", certificate], check=True, capture_output=True)
        listen = [f"/ip4/127.0.0.1/{transport}" for transport in TRANSPORTS]
        with Network(swarm(100, listen, f'tls = {{ certificate = "{certificate}", key = "{key}" }}')) as network:
            network.wait("all are ready", network.all_ready, pause=0.05)
            wait_for_meshes(network, node_names(network))
            time.sleep(60)
            pids = [p["pid"] for p in network.status()["processes"] if p["role"] == "node"]
            window = 30
            before = sum(map(cpu_seconds, pids))
            time.sleep(window)
            used = (sum(map(cpu_seconds, pids)) - before) / window * 100
            report("idle node that listens on all transports: memory (PSS)", spread([pss_mb(pid) for pid in pids], "MB"))
            report("all 100 of them: CPU", f"{used:.1f} % of one core")


# --- messages ---------------------------------------------------------------------------------------------------

def bench_messages(seconds=30, per_second=10):
    with Network(swarm(100)) as network:
        network.wait("all are ready", network.all_ready, pause=0.05)
        names = node_names(network)
        wait_for_meshes(network, names)
        time.sleep(10)  # the meshes reach their degree
        pids = [p["pid"] for p in network.status()["processes"] if p["role"] == "node"]
        listener = Listener(network, names)
        with first_in_line():
            listener.start()
            time.sleep(2)  # all subscribed; telemetry has told the counters so far
            duplicates, cpu = total(network, "p2p_messages_duplicate_total"), sum(map(cpu_seconds, pids))
            sent = publish_for(network, names, seconds, per_second)
            settle(listener, sent, len(names) - 1)
        cpu = sum(map(cpu_seconds, pids)) - cpu
        time.sleep(2)
        duplicates = total(network, "p2p_messages_duplicate_total") - duplicates
        listener.over = True
        # A node does not hear its own messages.
        latencies = [(at - sent[id][0]) * 1000 for id, arrivals in listener.arrivals().items() if id in sent
                     for name, at in arrivals.items() if name != sent[id][1]]
        wanted = len(sent) * (len(names) - 1)
        report(f"{per_second} messages/s of 1 KiB among 100 nodes: delivered", f"{100 * len(latencies) / wanted:.2f} % of {wanted}")
        median = statistics.median(latencies)
        p99 = sorted(latencies)[int(len(latencies) * 0.99)]
        report("… publish to arrival", f"median {median:.1f} ms, p99 {p99:.1f} ms, max {max(latencies):.1f} ms")
        report("… duplicates received per message and node", f"{duplicates / wanted:.2f}")
        report("… CPU of all nodes together", f"{cpu / len(sent) * 1000:.0f} ms for each message")


# --- loss -------------------------------------------------------------------------------------------------------

def bench_loss(rounds=3):
    worst = []
    for _ in range(rounds):
        with Network(swarm(60) + '\n[restart]\npolicy = "never"\n') as network:
            network.wait("all are ready", network.all_ready, pause=0.05)
            names = node_names(network)
            wait_for_meshes(network, names)
            time.sleep(10)
            pids = {p["name"]: p["pid"] for p in network.status()["processes"]}
            victims = random.sample(names, 20)
            rest = [name for name in names if name not in victims]
            listener = Listener(network, rest)
            listener.start()
            killed = time.monotonic()
            for name in victims:
                os.kill(pids[name], signal.SIGKILL)
            sent = publish_for(network, rest, 10, 10)
            settle(listener, sent, len(rest) - 1)
            listener.over = True
            arrivals = listener.arrivals()
            lost = [at - killed for id, (at, author) in sent.items()
                    if len(set(arrivals.get(id, {})) - {author}) < len(rest) - 1]
            worst.append(max(lost, default=0.0))
    report("20 of 60 nodes SIGKILLed: messages reach all others again after",
           f"median {statistics.median(worst):.2f} s, max {max(worst):.2f} s (n={rounds}; 0: none was lost)")


# --- return -----------------------------------------------------------------------------------------------------

def bench_return(rounds=10):
    times = []
    with Network(swarm(20)) as network:
        network.wait("all are ready", network.all_ready, pause=0.05)
        names = node_names(network)
        wait_for_meshes(network, names)
        time.sleep(5)
        for _ in range(rounds):
            name = random.choice(names)
            old = {p["name"]: p for p in network.status()["processes"]}[name]
            os.kill(old["pid"], signal.SIGKILL)
            killed = time.monotonic()
            listener = None
            others = [other for other in names if other != name]
            first = None
            while first is None and time.monotonic() < killed + 20:
                publish(network, random.choice(others))
                if listener is None:
                    now = {p["name"]: p for p in network.status()["processes"]}[name]
                    if now["state"] == "ready" and now["generation"] > old["generation"]:
                        listener = Listener(network, [name])
                        listener.start()
                else:
                    first = min((at for arrivals in listener.arrivals().values() for at in arrivals.values()), default=None)
                time.sleep(0.02)
            if listener:
                listener.over = True
            times.append((first - killed if first else 20.0) * 1000)
            time.sleep(3)
    report("a node SIGKILLed and restarted: kill → first message of its topic", spread(times))
