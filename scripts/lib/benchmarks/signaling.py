"""The signaling server beside two others, in the same run: peerjs-server (npm) and matchbox_signaling (crates.io)."""

import contextlib
import json
import resource
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from .network import HIPPIUS, ROOT, cpu_seconds, report, rss_mb

BUILT = ROOT / "target/bench-signaling"
LOAD = BUILT / "release/signaling-load"
MATCHBOX = BUILT / "release/matchbox"
PEER = BUILT / "npm/node_modules/peer/dist/bin/peerjs.js"
# Every round runs each of them once.
NAMES = ("hippius", "peer", "matchbox")
ROUNDS = 3
SECONDS = 4

# What one client may send is no question here; neither is where so many of them come from.
CONFIG = """
[signaling]
listen = "127.0.0.1:{port}"
max_clients = 20000
max_per_address = 20000
messages_per_second = 1000000
message_burst = 1000000
bytes_per_second = 4000000000
byte_burst = 4000000000
joins_per_second = 1000000
join_burst = 1000000
"""


def build():
    """The load and what it is compared with, outside of the program's own dependencies."""
    subprocess.run(["cargo", "build", "--release", "--locked", "--manifest-path", "benches/signaling/Cargo.toml",
                    "--target-dir", str(BUILT)], cwd=ROOT, check=True)
    if not PEER.exists():
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(BUILT / "npm"), "peer@1.0.2"],
                       check=True, stdout=subprocess.DEVNULL)


def many_files():
    """As many open files as the system lets a process have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def server(name):
    """Runs a server; gives its pid and port."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="hippius-bench-") as folder:
        config = Path(folder) / "config.toml"
        config.write_text(CONFIG.format(port=port))
        command = {
            "hippius": [str(HIPPIUS), "signaling", "--config", str(config)],
            "peer": ["node", str(PEER), "--port", str(port), "--host", "127.0.0.1", "--concurrent_limit", "20000"],
            "matchbox": [str(MATCHBOX), str(port)],
        }[name]
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, preexec_fn=many_files)
        try:
            deadline = time.monotonic() + 20
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                if time.monotonic() > deadline or process.poll() is not None:
                    raise SystemExit(f"{name} does not listen")
                time.sleep(0.05)
            yield process.pid, port
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def load(name, port, *arguments):
    return subprocess.Popen([str(LOAD), name, str(port), *map(str, arguments)], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True, preexec_fn=many_files)


def play(name, pid, port, *arguments):
    """Figures of one run, with the server's CPU time for each message in microseconds."""
    process = load(name, port, *arguments)
    process.stdout.readline()
    before = cpu_seconds(pid)
    figures = process.stdout.readline()
    used = cpu_seconds(pid) - before
    if process.wait(30):
        raise SystemExit(f"the load on {name} failed")
    figures = json.loads(figures)
    return {**figures, "cpu_us": used * 1e6 / max(1, figures["messages"])}


def bench_signaling():
    build()
    for pairs in (50, 500):
        runs = {name: [] for name in NAMES}
        for _ in range(ROUNDS):
            for name in NAMES:
                with server(name) as (pid, port):
                    runs[name].append(play(name, pid, port, "pairs", pairs, SECONDS))
        for name in NAMES:
            median = {key: statistics.median(run[key] for run in runs[name]) for key in runs[name][0]}
            report(f"{pairs} pairs, 1 KiB to and fro: {name}",
                   f"{median['per_second']:,.0f} messages/s, median {median['median_ms']:.2f} ms, p99 {median['p99_ms']:.2f} ms, "
                   f"{median['cpu_us']:.1f} µs of CPU a message (n={ROUNDS})")
    clients = 10_000
    for name in NAMES:
        # What a server needs before its first client comes is not theirs.
        with server(name) as (pid, port):
            time.sleep(1)
            before = rss_mb(pid)
            process = load(name, port, "idle", clients)
            if not process.stdout.readline():
                report(f"{clients:,} idle clients: {name}", "does not take so many")
                process.wait(30)
                continue
            time.sleep(3)
            report(f"{clients:,} idle clients: {name}", f"{(rss_mb(pid) - before) * 1e6 / clients / 1000:.1f} kB each")
            process.communicate("\n", timeout=30)
    pairs = 50
    reading, stopped = [], []
    for _ in range(ROUNDS):
        for runs, stop in ((reading, ()), (stopped, ("stop",))):
            with server("hippius") as (pid, port):
                runs.append(play("hippius", pid, port, "stalled", pairs, 10, *stop)["p99_ms"])
    first, second = statistics.median(reading), statistics.median(stopped)
    report(f"100 readers beside {pairs} pairs: p99 of the pairs",
           f"{first:.2f} ms; when they stop reading {second:.2f} ms ({(second / first - 1) * 100:+.0f} %; n={ROUNDS})")
