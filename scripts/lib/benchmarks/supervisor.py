"""What the supervisor does: starting, replacing, leaving nothing behind, keeping logs."""

import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from .network import ROOT, Network, ask, cpu_seconds, pss_mb, report, rss_mb, spread


# --- up ---------------------------------------------------------------------------------------------------------

def bench_up(rounds=10):
    ready, connected = [], []
    for _ in range(rounds):
        with Network(ROOT / "topology/local.toml") as network:
            ready.append(network.wait("all are ready", network.all_ready))
            ids = {p["name"]: p["peer_id"] for p in network.status()["processes"] if p["role"] == "node"}

            def meshed():
                for name in ids:
                    peers = ask(network.data / name / "admin.sock", "/v1/peers")
                    known = {peer["peer_id"] for peer in peers["peers"]} if peers else set()
                    if not set(ids.values()) - {ids[name]} <= known:
                        return False
                return True

            connected.append(network.wait("all nodes are connected to each other", meshed))
    report("up topology/local.toml: all ready", spread([s * 1000 for s in ready]))
    report("up topology/local.toml: all nodes connected to each other", spread([s * 1000 for s in connected]))


# --- restart ----------------------------------------------------------------------------------------------------

SERVICES = 10
ROUNDS = 12
# Each supervisor restarts a process at once only if it ran for a second; every process gets longer than that.
PAUSE = 1.3 / SERVICES


def children(pid):
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def cmdline(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def replaced(parent, old, wanted):
    """Kills `old`, and waits until another child of `parent` runs the same command line; milliseconds."""
    start = time.perf_counter()
    os.kill(old, signal.SIGKILL)
    while time.perf_counter() - start < 10:
        for child in children(parent):
            if child != old and cmdline(child) == wanted:
                return (time.perf_counter() - start) * 1000
    raise SystemExit(f"no replacement of {wanted} after 10 s")


def exec_times(slots):
    """slots: functions that give (parent, pid) of one service now."""
    times = []
    for _ in range(ROUNDS):
        for slot in slots:
            parent, pid = slot()
            times.append(replaced(parent, pid, cmdline(pid)))
            time.sleep(PAUSE)
    return times


def hippius_network():
    return Network(f"""
name = "restart"
[ports]
metrics = 0
[restart]
limit = 100000
[[nodes]]
count = {SERVICES}
""")


def hippius_slots(network):
    network.wait("all are ready", network.all_ready)

    def slot(name):
        def now():
            status = network.status()
            return status["pid"], next(p["pid"] for p in status["processes"] if p["name"] == name)
        return now

    time.sleep(1.5)
    return [slot(f"node-{i}") for i in range(SERVICES)]


@contextlib.contextmanager
def stopped_after(process, stop):
    """Sends the signal `stop` to another supervisor in any case, and waits for it and its children."""
    try:
        yield process
    finally:
        left = {pid: cmdline(pid) for pid in children(process.pid)}
        process.send_signal(stop)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # runsvdir does not wait for its own.
        deadline = time.monotonic() + 10
        while any(line and cmdline(pid) == line for pid, line in left.items()) and time.monotonic() < deadline:
            time.sleep(0.01)


def runit_services(folder):
    for i in range(SERVICES):
        service = folder / f"s{i}"
        service.mkdir(parents=True)
        (service / "run").write_text(f"#!/bin/sh\nexec sleep {100000 + i}\n")
        (service / "run").chmod(0o755)
    return subprocess.Popen(["runsvdir", str(folder)], stderr=subprocess.DEVNULL)


def runit_slots(process):
    def slot(i):
        wanted = f"sleep\0{100000 + i}\0".encode()

        def now():
            while True:
                for runsv in children(process.pid):
                    for child in children(runsv):
                        if cmdline(child) == wanted:
                            return runsv, child
                time.sleep(0.01)
        return now

    time.sleep(7)  # runsvdir looks for services every five seconds, and a service must have run for one
    return [slot(i) for i in range(SERVICES)]


def supervisord_services(folder):
    folder.mkdir()
    text = f"[supervisord]\nnodaemon=true\nlogfile={folder}/log\npidfile={folder}/pid\n"
    for i in range(SERVICES):
        text += f"[program:s{i}]\ncommand=sleep {200000 + i}\nautorestart=true\nstartsecs=1\n"
    (folder / "conf").write_text(text)
    return subprocess.Popen(["supervisord", "-c", str(folder / "conf")], stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)


def supervisord_slots(process):
    def slot(i):
        wanted = f"sleep\0{200000 + i}\0".encode()

        def now():
            while True:
                for child in children(process.pid):
                    if cmdline(child) == wanted:
                        return process.pid, child
                time.sleep(0.01)
        return now

    time.sleep(4)
    return [slot(i) for i in range(SERVICES)]


def bench_restart():
    with hippius_network() as network:
        report("SIGKILL → replacement exec'd: hippius", spread(exec_times(hippius_slots(network))))

        ready = []
        for i in range(60):
            name = f"node-{i % SERVICES}"
            before = next(p for p in network.status()["processes"] if p["name"] == name)
            start = time.perf_counter()
            os.kill(before["pid"], signal.SIGKILL)
            while True:
                now = ask(network.data / "supervisor/control.sock", f"/v1/processes/{name}")
                if now["state"] == "ready" and now["generation"] > before["generation"]:
                    break
                if time.perf_counter() - start > 10:
                    raise SystemExit(f"{name} is not ready again after 10 s")
            ready.append((time.perf_counter() - start) * 1000)
            time.sleep(PAUSE)
        report("SIGKILL → ready again: hippius", spread(ready))

    # runsvdir passes SIGHUP on as TERM to each service.
    others = (("runit", "runsvdir", runit_services, runit_slots, signal.SIGHUP),
              ("supervisord", "supervisord", supervisord_services, supervisord_slots, signal.SIGTERM))
    for name, program, services, slots, stop in others:
        if not shutil.which(program):
            report(f"SIGKILL → replacement exec'd: {name}", "not installed")
            continue
        with tempfile.TemporaryDirectory(prefix="hippius-bench-", ignore_cleanup_errors=True) as folder:
            with stopped_after(services(Path(folder) / name), stop) as process:
                report(f"SIGKILL → replacement exec'd: {name}", spread(exec_times(slots(process))))


# --- orphans ----------------------------------------------------------------------------------------------------

def bench_orphans(rounds=200):
    network = Network("""
name = "orphans"
[ports]
web = 0
signaling = 0
metrics = 0
[[bootnodes]]
listen = ["/ip4/127.0.0.1/tcp/0"]
[[nodes]]
count = 8
[signaling]
[web]
""")
    left, slowest, killed_starting = 0, 0.0, 0
    with network:
        for number in range(rounds):
            # Every `up` must work in the folder that the last one was killed in: in half of the rounds to the end, in the
            # others, which are hit while processes are just starting, as far as that its supervisor answers.
            network.wait(f"round {number} answers", lambda: network.status() is not None, pause=0.001)
            if number % 2 == 0:
                time.sleep(random.uniform(0, 0.25))
            else:
                network.wait(f"all are ready in round {number}", network.all_ready)
                victims = [p["pid"] for p in network.status()["processes"] if p["pid"]]
                for pid in random.sample(victims, 3):  # and while some are being replaced
                    os.kill(pid, signal.SIGKILL)
                time.sleep(random.uniform(0, 0.01))
            killed_starting += not network.all_ready()
            if network.process.poll() is not None:
                raise SystemExit(f"`up` did not work in round {number}; see {network.dir}")
            network.process.kill()
            network.process.wait()
            start = time.monotonic()
            while (pids := network.pids()) and time.monotonic() - start < 1:
                time.sleep(0.002)
            slowest = max(slowest, time.monotonic() - start)
            left += len(pids)
            network.start()
        network.wait("the last up works", network.all_ready)
    report(f"{rounds} SIGKILLs of the supervisor: processes left after 1 s", f"{left} (the last one gone after {slowest * 1000:.0f} ms; "
           f"{killed_starting} rounds hit while not all were ready; every next `up` worked)")


# --- swarm ------------------------------------------------------------------------------------------------------

def bench_swarm():
    with Network(ROOT / "topology/swarm-100.toml") as network:
        ready = network.wait("all are ready", network.all_ready, pause=0.05)
        names = [p["name"] for p in network.status()["processes"] if p["role"] == "node"]
        missing = set(names)

        def enough():
            for name in list(missing):
                status = ask(network.data / name / "admin.sock", "/v1/status")
                if status and status["connected_peers"] >= 4:
                    missing.discard(name)
            return not missing

        connected = network.wait("each has four peers", enough, pause=0.05)
        report("up topology/swarm-100.toml: all ready", f"{ready:.2f} s")
        report("up topology/swarm-100.toml: each node has ≥ 4 peers", f"{connected:.2f} s")
        time.sleep(60)
        status = network.status()
        nodes = [p["pid"] for p in status["processes"] if p["role"] == "node"]
        supervisor = status["pid"]
        window = 30
        before = {pid: cpu_seconds(pid) for pid in [*nodes, supervisor]}
        time.sleep(window)
        used = {pid: (cpu_seconds(pid) - before[pid]) / window * 100 for pid in before}
        report("supervisor with 101 children: memory", f"RSS {rss_mb(supervisor):.1f} MB, PSS {pss_mb(supervisor):.1f} MB")
        report("supervisor with 101 children: CPU when idle", f"{used[supervisor]:.2f} % of one core")
        memory = [pss_mb(pid) for pid in nodes]
        report("a node of the swarm, a minute later: memory (PSS)", spread(memory, "MB"))
        report("all 100 nodes, a minute later: CPU", f"{sum(used[pid] for pid in nodes):.1f} % of one core")
        peers = [ask(network.data / name / "admin.sock", "/v1/status")["connected_peers"] for name in names]
        report("connected peers of a node, a minute later", f"min {min(peers)}, median {statistics.median(peers)}, max {max(peers)}")


# --- logs -------------------------------------------------------------------------------------------------------

TALKER = """#!/usr/bin/env python3
import os, signal, sys
out = sys.stdout.buffer
for i in range(100000):
    out.write(b'{"timestamp":"2026-01-01T00:00:00Z","level":"INFO","message":"line %d of many, with some text to make it as long as most"}\\n' % i)
out.write(b'{"torn')
out.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def bench_logs():
    program = Path(tempfile.mkdtemp(prefix="hippius-bench-")) / "talker"
    program.write_text(TALKER)
    program.chmod(0o755)
    network = Network("""
name = "logs"
[ports]
web = 0
metrics = 0
[restart]
policy = "never"
[logs]
max_size = "4 MiB"
keep = 10
[web]
""", program)
    with network:
        kept_lines(network)
    shutil.rmtree(program.parent, ignore_errors=True)


def kept_lines(network):
    def ended():
        status = network.status()
        return status is not None and status["processes"][0]["state"] == "failed"

    took = network.wait("the talker has ended", ended)
    files = sorted(network.data.glob("logs/web.log*"), key=lambda p: int(p.suffix[1:]) if p.suffix != ".log" else 0, reverse=True)

    def lines():
        return [line for file in files for line in file.read_text().splitlines()]

    deadline = time.monotonic() + 10
    while not any("torn" in line for line in lines()[-1:]) and time.monotonic() < deadline:
        files = sorted(network.data.glob("logs/web.log*"), key=lambda p: int(p.suffix[1:]) if p.suffix != ".log" else 0, reverse=True)
        time.sleep(0.05)
    messages = [json.loads(line)["message"] for line in lines()]
    complete = [m for m in messages if m.startswith("line ")]
    exact = complete == [f"line {i} of many, with some text to make it as long as most" for i in range(100000)]
    report("100,000 log lines from a process that is then SIGKILLed",
           f"{len(complete)} kept in {len(files)} files, {'each once and in order' if exact else 'NOT each once and in order'}, {took:.2f} s")
