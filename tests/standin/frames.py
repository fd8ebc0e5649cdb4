"""The server's side of a WebSocket (RFC 6455): binary messages in, binary messages out, one client at a time."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import struct

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUED, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10


class Connection:
    """One client, from its handshake on.

    Args:
        sock: The accepted socket.
        path: The only endpoint there is; a client that asks for another one is answered 404 and closed.

    Raises:
        ConnectionError: If the client asks for something else.
    """

    def __init__(self, sock, path="/sc2api"):
        self._sock, self._read = sock, sock.makefile("rb")
        request, *headers = iter(self._line, b"")
        asked = dict(line.split(b": ", 1) for line in headers)
        key = {name.lower(): value for name, value in asked.items()}.get(b"sec-websocket-key")
        if request.split(b" ")[1] != path.encode() or key is None:
            sock.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            raise ConnectionError(f"Expected a WebSocket at {path}, got {request!r}.")
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
        sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )

    def receive(self):
        """The next message, or None when the client has gone."""
        message = b""
        while True:
            try:
                final, opcode, payload = self._frame()
            except (EOFError, ConnectionError):
                return None
            if opcode == _CLOSE:
                self._send(_CLOSE, payload)
                return None
            if opcode == _PING:
                self._send(_PONG, payload)
            elif opcode in (_CONTINUED, _TEXT, _BINARY):
                message += payload
                if final:
                    return message

    def send(self, message):
        """Send one binary message, unless the client has gone."""
        self._send(_BINARY, message)

    def close(self):
        self._read.close()
        self._sock.close()

    def _line(self):
        line = self._read.readline()
        if not line:
            raise ConnectionError("The client went before its handshake was over.")
        return line.rstrip(b"\r\n")

    def _exactly(self, number):
        data = self._read.read(number)
        if len(data) < number:
            raise EOFError
        return data

    def _frame(self):
        first, second = self._exactly(2)
        length = second & 0x7F
        if length >= 126:
            length = int.from_bytes(self._exactly(2 if length == 126 else 8), "big")
        mask = self._exactly(4) if second & 0x80 else bytes(4)
        payload = self._exactly(length)
        whole = int.from_bytes(payload, "big") ^ int.from_bytes((mask * (length // 4 + 1))[:length], "big")
        return bool(first & 0x80), first & 0x0F, whole.to_bytes(length, "big")

    def _send(self, opcode, payload):
        length = len(payload)
        if length < 126:
            size = struct.pack(">B", length)
        elif length < 1 << 16:
            size = struct.pack(">BH", 126, length)
        else:
            size = struct.pack(">BQ", 127, length)
        with contextlib.suppress(OSError):
            self._sock.sendall(struct.pack(">B", 0x80 | opcode) + size + payload)
