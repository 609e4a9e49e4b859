"""A client that knows only Register, Offer, Answer and IceCandidate, with nothing but Python's own library: answers one offer.

    python3 minimal_client.py HOST PORT PATH ID
"""
import base64, json, os, socket, struct, sys

host, port, path, own_id = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
wire = socket.create_connection((host, port), timeout=20)
reader = wire.makefile("rb")

def send(kind, **payload):
    text, mask = json.dumps({"type": kind, "payload": payload}).encode(), os.urandom(4)
    size = bytes([0x80 | len(text)]) if len(text) < 126 else bytes([0x80 | 126]) + struct.pack("!H", len(text))
    wire.sendall(b"\x81" + size + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(text)))

def wait_for(kind):
    while True:
        opcode, size = reader.read(2)
        if size == 126:
            size = struct.unpack("!H", reader.read(2))[0]
        data = reader.read(size)
        message = json.loads(data) if opcode & 0x0F == 1 else {}
        if message.get("type") == kind:
            return message["payload"]

key = base64.b64encode(os.urandom(16)).decode()
wire.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
             f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
while reader.readline().strip():
    pass
send("Register", peer_id=own_id)
offer = wait_for("Offer")
send("Answer", **{"from": own_id}, to=offer["from"], sdp="answer to " + offer["sdp"])
candidate = wait_for("IceCandidate")
send("IceCandidate", **{"from": own_id}, to=candidate["from"], candidate=candidate["candidate"])
