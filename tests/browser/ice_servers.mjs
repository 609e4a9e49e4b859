// STUN and TURN servers on loopback: a responder of a few lines, and Debian's coturn.
import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, connect as dial } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "./support.mjs";

const MAGIC = 0x2112a442;

/** Answers binding requests (RFC 8489) with the sender's IPv4 address; `asked` counts them. */
export async function startStun() {
  const socket = createSocket("udp4");
  const server = { asked: 0, close: () => socket.close() };
  socket.on("message", (request, { address, port }) => {
    if (request.length < 20 || request.readUInt16BE(0) !== 0x0001 || request.readUInt32BE(4) !== MAGIC) return;
    server.asked += 1;
    const answer = Buffer.alloc(32);
    answer.writeUInt16BE(0x0101, 0);
    answer.writeUInt16BE(12, 2);
    request.copy(answer, 4, 4, 20);
    // XOR-MAPPED-ADDRESS, section 14.2.
    answer.writeUInt16BE(0x0020, 20);
    answer.writeUInt16BE(8, 22);
    answer.writeUInt8(1, 25);
    answer.writeUInt16BE(port ^ (MAGIC >>> 16), 26);
    const number = address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
    answer.writeUInt32BE((number ^ MAGIC) >>> 0, 28);
    socket.send(answer, port, address);
  });
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  server.url = `stun:127.0.0.1:${socket.address().port}`;
  return server;
}

/** A port that was free a moment ago. */
export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

const answers = (port) => new Promise((done) => {
  const socket = dial(port, "127.0.0.1");
  socket.on("connect", () => done(true)).on("error", () => done(false)).on("connect", () => socket.destroy());
});

/** A coturn with one user. Reached by TCP it shows the browser no address of its own, so nothing but the relay is left. */
export async function startTurn(port) {
  port ??= await freePort();
  const folder = await mkdtemp(join(tmpdir(), "hippius-turn-"));
  const child = spawn("turnserver", [
    "-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", `--listening-port=${port}`, "--allow-loopback-peers",
    "--lt-cred-mech", "--user=ada:lovelace", "--realm=hippius.test", "--no-tls", "--no-dtls", "--no-cli",
    `--userdb=${join(folder, "users")}`, `--pidfile=${join(folder, "pid")}`, "--log-file=stdout", "--simple-log", "--relay-threads=1",
  ], { stdio: process.env.VERBOSE ? ["ignore", "inherit", "inherit"] : "ignore" });
  let gone = "";
  child.on("error", (error) => { gone = String(error); });
  child.on("exit", (code) => { gone = `turnserver ended with ${code}`; });
  await until("turnserver answers", async () => {
    if (gone) throw new Error(gone);
    return answers(port);
  });
  return {
    port,
    ice: (credential = "lovelace") => ({ urls: [`turn:127.0.0.1:${port}?transport=tcp`], username: "ada", credential }),
    async close() {
      if (!gone) {
        child.kill("SIGKILL");
        await once(child, "exit");
      }
      await rm(folder, { recursive: true, force: true });
    },
  };
}
