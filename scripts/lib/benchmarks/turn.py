"""The relay, compared with coturn in the same run, in alternating rounds."""

import base64
import hashlib
import hmac
import os
import re
import resource
import select
import shutil
import socket
import statistics
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from .network import HIPPIUS, cpu_seconds, report, rss_mb

USER, PASSWORD, REALM = "user", "password", "hippius"
COOKIE = b"\x21\x12\xa4\x42"
PEER_PORT = 3480


class Server:
    """A relay on a port of its own, as a process."""

    def __init__(self, name, command, port, folder):
        self.name, self.port = name, port
        self.log = open(folder / f"{name}.log", "wb")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd=folder)
        self.pid = self.process.pid
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        probe.settimeout(0.1)
        deadline = time.monotonic() + 20
        while True:
            try:
                probe.sendto(message(0x0001, b""), ("127.0.0.1", port))
                probe.recv(500)
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise SystemExit(f"{name} does not answer; see {folder}") from None

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def hippius(folder, port=3578, strangers=1_000_000):
    """With room for thousands of first requests from one address, or with `strangers` a second."""
    config = folder / "turn.toml"
    config.write_text(
        f'''
[process]
name = "turn"
data_dir = "{folder}/data"
[turn.bandwidth]
enabled = false
[turn.server]
listen = ["127.0.0.1:{port}"]
realm = "{REALM}"
allow = ["127.0.0.0/8"]
max_allocations = 30000
max_per_user = 30000
max_per_address = 30000
stranger_answers_per_second = {strangers}
[turn.server.ports]
min = 10000
max = 65535
[turn.server.users]
{USER} = "{PASSWORD}"
'''
    )
    return Server("hippius", [str(HIPPIUS), "turn", "--config", str(config)], port, folder)


def coturn(folder, port=3579):
    own = folder / "coturn"
    own.mkdir(exist_ok=True)
    command = ["turnserver", "-c", "/dev/null", "-n", "-p", str(port), "-L", "127.0.0.1", "-E", "127.0.0.1", "-a"]
    command += ["-u", f"{USER}:{PASSWORD}", "-r", REALM, "--allow-loopback-peers", "--no-cli", "--no-tls", "--no-dtls"]
    command += ["--min-port", "10000", "--max-port", "65535", "--pidfile", f"{own}/pid", "-l", "stdout", "--db", f"{own}/db"]
    return Server("coturn", command, port, folder)


def message(kind, body, transaction=None):
    return struct.pack(">HH", kind, len(body)) + COOKIE + (transaction or os.urandom(12)) + body


def attribute(kind, value):
    return struct.pack(">HH", kind, len(value)) + value + bytes(-len(value) % 4)


def allocate(nonce):
    """A signed Allocate."""
    body = attribute(0x0019, b"\x11\0\0\0") + attribute(0x000D, struct.pack(">I", 600))
    body += attribute(0x0006, USER.encode()) + attribute(0x0014, REALM.encode()) + attribute(0x0015, nonce)
    request = message(0x0003, body)
    key = hashlib.md5(f"{USER}:{REALM}:{PASSWORD}".encode()).digest()
    covered = request[:2] + struct.pack(">H", len(body) + 24) + request[4:]
    return covered + attribute(0x0008, hmac.new(key, covered, hashlib.sha1).digest())


def nonce_of(answer):
    place = 20
    while place < len(answer):
        kind, length = struct.unpack(">HH", answer[place : place + 4])
        if kind == 0x0015:
            return answer[place + 4 : place + 4 + length]
        place += 4 + length + -length % 4
    raise SystemExit("an answer without a nonce")


def exchange(sockets, requests, window=64):
    """Sends each request and waits for its answer, so many under way at once; answers by socket, and the seconds it took."""
    poll = select.epoll()
    by_fd = {s.fileno(): index for index, s in enumerate(sockets)}
    for s in sockets:
        poll.register(s, select.EPOLLIN)
    answers, sent, since = {}, 0, time.monotonic()
    while len(answers) < len(sockets):
        while sent < len(sockets) and sent - len(answers) < window:
            sockets[sent].send(requests[sent])
            sent += 1
        events = poll.poll(2)
        if not events:
            # Something was lost; all that wait are asked again.
            for index in range(sent):
                if index not in answers:
                    sockets[index].send(requests[index])
        for fd, _ in events:
            index = by_fd[fd]
            answers.setdefault(index, sockets[index].recv(2048))
    seconds = time.monotonic() - since
    poll.close()
    return [answers[index] for index in range(len(sockets))], seconds


def allocations(server, count):
    """Makes so many allocations; the sockets that hold them, how many a second, and the CPU of each."""
    sockets = []
    for _ in range(count):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("127.0.0.1", 0))
        s.connect(("127.0.0.1", server.port))
        s.setblocking(False)
        sockets.append(s)
    answers, _ = exchange(sockets, [message(0x0003, attribute(0x0019, b"\x11\0\0\0"))] * count)
    requests = [allocate(nonce_of(answer)) for answer in answers]
    before = cpu_seconds(server.pid)
    answers, seconds = exchange(sockets, requests)
    cpu = cpu_seconds(server.pid) - before
    made = sum(answer[:2] == b"\x01\x03" for answer in answers)
    if made != count:
        raise SystemExit(f"{server.name}: only {made} of {count} allocations were made")
    return sockets, count / seconds, cpu / count


def load(server):
    """The load of 100 clients; CPU seconds of each round trip, and the share that was lost."""
    command = ["turnutils_uclient", "-m", "100", "-n", "1500", "-l", "1000", "-z", "1", "-c", "-X", "-e", "127.0.0.1"]
    command += ["-r", str(PEER_PORT), "-p", str(server.port), "-u", USER, "-w", PASSWORD, "127.0.0.1"]
    before = cpu_seconds(server.pid)
    out = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120).stdout
    cpu = cpu_seconds(server.pid) - before
    sent, received = map(int, re.findall(r"tot_send_msgs=(\d+), tot_recv_msgs=(\d+)", out)[-1])
    return cpu / received, 1 - received / sent


def flood(server, total=1_000_000):
    """Allocates without credentials from a thousand addresses, five ports each; memory before and after, and who was served."""
    before = rss_mb(server.pid)
    request = message(0x0003, attribute(0x0019, b"\x11\0\0\0"))
    sources = []
    for number in range(5_000):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((f"127.{1 + number % 200}.{number // 200 % 5}.7", 0))
        s.setblocking(False)
        sources.append(s)
    honest = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    honest.bind(("127.0.0.1", 0))
    honest.settimeout(1)
    asked = served = 0
    since = time.monotonic()
    for round_ in range(total // len(sources)):
        for s in sources:
            s.sendto(request, ("127.0.0.1", server.port))
        if round_ % 10 == 0:
            asked += 1
            for _ in range(5):
                # As a client does whose request or answer was lost.
                honest.sendto(message(0x0001, b""), ("127.0.0.1", server.port))
                try:
                    honest.recv(500)
                    served += 1
                    break
                except TimeoutError:
                    pass
    seconds = time.monotonic() - since
    for s in sources:
        s.close()
    return before, rss_mb(server.pid), total / seconds, served, asked


def bench_turn(rounds=3):
    for tool in ["turnserver", "turnutils_uclient", "turnutils_peer"]:
        if not shutil.which(tool):
            raise SystemExit(f"`{tool}` is missing: apt-get install coturn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    folder = Path(tempfile.mkdtemp(prefix="hippius-bench-"))
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    peer = subprocess.Popen(["turnutils_peer", "-L", "127.0.0.1", "-p", str(PEER_PORT)], **quiet)
    servers = []
    try:
        servers = [hippius(folder), coturn(folder)]
        rates = {server.name: [] for server in servers}
        costs = {server.name: [] for server in servers}
        held = []
        for _ in range(rounds):
            for server in servers:
                sockets, rate, cpu = allocations(server, 1_000)
                rates[server.name].append(rate)
                costs[server.name].append(cpu)
                # Kept open: another client with one of their ports would find an allocation there (437).
                held += sockets
        for server in servers:
            what = f"{statistics.median(rates[server.name]):,.0f}/s, {statistics.median(costs[server.name]) * 1e6:.0f} µs of CPU each"
            report(f"allocations, {server.name}", what)
        trips = {server.name: [] for server in servers}
        lost = {server.name: [] for server in servers}
        for _ in range(rounds):
            for server in servers:
                cpu, share = load(server)
                trips[server.name].append(cpu * 1e6)
                lost[server.name].append(share)
        for server in servers:
            values = ", ".join(f"{value:.1f}" for value in trips[server.name])
            what = f"median {statistics.median(trips[server.name]):.1f} µs ({values}); lost {max(lost[server.name]):.4%} at most"
            report(f"CPU for each round trip, {server.name}", what)
        for s in held:
            s.close()
        servers.pop(0).stop()
        servers.insert(0, hippius(folder))
        before = rss_mb(servers[0].pid)
        sockets, _, _ = allocations(servers[0], 10_000)
        report("10,000 allocations: memory (RSS)", f"{rss_mb(servers[0].pid):.0f} MB, {before:.0f} MB before")
        for s in sockets:
            s.close()
        servers.pop(0).stop()
        servers.insert(0, hippius(folder, strangers=100))
        before, after, rate, served, asked = flood(servers[0])
        report("1,000,000 strangers' requests: memory (RSS)", f"{before:.1f} MB before, {after:.1f} MB after, at {rate:,.0f}/s")
        report("… honest requests served meanwhile", f"{served} of {asked}")
    finally:
        for server in servers:
            server.stop()
        peer.kill()
        peer.wait()
    shutil.rmtree(folder, ignore_errors=True)
