// A client that knows only Register, Offer, Answer and IceCandidate, written from docs/signaling.md.
import WebSocket from "ws";

export class MinimalClient {
  constructor(url, id) {
    this.id = id;
    this.inbox = [];
    this.waiting = [];
    this.socket = new WebSocket(url);
    this.socket.on("open", () => this.send("Register", { peer_id: id }));
    this.socket.on("message", (data) => {
      const { type, payload } = JSON.parse(data);
      if (!["Offer", "Answer", "IceCandidate"].includes(type)) return;
      const wake = this.waiting.shift();
      if (wake) wake({ type, ...payload });
      else this.inbox.push({ type, ...payload });
    });
  }
  send(type, payload) {
    this.socket.send(JSON.stringify({ type, payload }));
  }
  tell(type, to, fields) {
    this.send(type, { from: this.id, to, ...fields });
  }
  next() {
    return this.inbox.length ? Promise.resolve(this.inbox.shift()) : new Promise((wake) => this.waiting.push(wake));
  }
  close() {
    this.socket.close();
  }
}
