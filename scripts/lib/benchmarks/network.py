"""A network that is measured: starting it, asking it, and the figures of its processes."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
HIPPIUS = ROOT / "target/release/hippius"
TICKS = os.sysconf("SC_CLK_TCK")


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=10)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        self.sock.connect(self.path)


def ask(path, target):
    """GETs JSON from a unix socket; None while nobody answers."""
    try:
        connection = UnixConnection(path)
        connection.request("GET", target)
        reply = connection.getresponse()
        body = reply.read()
        connection.close()
        return json.loads(body) if reply.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError):
        return None


class Network:
    """`hippius up` in a folder of its own."""

    def __init__(self, topology, program=None):
        self.dir = Path(tempfile.mkdtemp(prefix="hippius-bench-"))
        self.data = self.dir / "data"
        if not os.path.exists(str(topology)):
            (self.dir / "topology.toml").write_text(topology)
            topology = self.dir / "topology.toml"
        self.topology = str(topology)
        self.more = ["--role-program", str(program)] if program else []
        self.process = None

    def start(self):
        command = [str(HIPPIUS), "up", self.topology, "--data-dir", str(self.data), *self.more]
        out = open(self.dir / "up.out", "ab")
        self.started = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.dir)
        return self

    def status(self):
        return ask(self.data / "supervisor/control.sock", "/v1/status")

    def wait(self, what, condition, seconds=60, pause=0.005):
        """Waits until condition() is true; returns the seconds since the start."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise SystemExit(f"waited in vain until {what}; see {self.dir}")
            time.sleep(pause)
        return time.monotonic() - self.started

    def all_ready(self):
        status = self.status()
        return status is not None and all(p["state"] == "ready" for p in status["processes"])

    def pids(self):
        """Every process that was started for this network, by its command line."""
        found, needle = [], str(self.dir).encode()
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    if needle in Path(f"/proc/{entry}/cmdline").read_bytes():
                        found.append(int(entry))
                except OSError:
                    pass
        return found

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        """Stops everything in any case; what a failure left in the folder stays, to be looked at."""
        self.stop()
        if kind is None:
            shutil.rmtree(self.dir, ignore_errors=True)


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def pss_mb(pid):
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def rss_mb(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def spread(values, unit="ms"):
    values = sorted(values)
    p99 = values[min(len(values) - 1, int(len(values) * 0.99))]
    return f"median {statistics.median(values):.1f} {unit}, p99 {p99:.1f} {unit}, max {values[-1]:.1f} {unit} (n={len(values)})"


def report(what, figure):
    print(f"{what:<58} {figure}", flush=True)
