"""A WebSocket as RFC 6455 draws it, byte by byte."""

import socket
import threading

import pytest

from tests.standin.frames import Connection

HELLO = (
    b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
MASK = bytes([0x37, 0xFA, 0x21, 0x3D])


def frame(payload, *, opcode=2, final=True):
    """A masked frame, as clients send them."""
    length = len(payload)
    if length < 126:
        size = bytes([length])
    else:
        size = b"\x7e" + length.to_bytes(2, "big") if length < 1 << 16 else b"\x7f" + length.to_bytes(8, "big")
    masked = bytes(byte ^ MASK[i % 4] for i, byte in enumerate(payload))
    return bytes([opcode | (0x80 if final else 0), size[0] | 0x80]) + size[1:] + MASK + masked


@pytest.fixture
def pair():
    """A client's bare socket and the server's connection, after the handshake."""
    client, server = socket.socketpair()
    client.sendall(HELLO % b"/sc2api")
    connection = Connection(server)
    client.settimeout(5)
    answer = client.recv(1000)
    yield client, connection, answer
    client.close()
    connection.close()


def test_the_handshake_is_that_of_the_standard(pair):
    assert pair[2].startswith(b"HTTP/1.1 101 ")
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in pair[2]  # RFC 6455, section 1.3


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536])
def test_messages_of_any_length_arrive_unmasked(pair, length):
    client, connection, _ = pair
    message = bytes(i % 251 for i in range(length))
    sender = threading.Thread(target=client.sendall, args=(frame(message),))
    sender.start()
    assert connection.receive() == message
    sender.join()


def test_a_message_in_pieces_is_put_together_and_pings_in_between_are_answered(pair):
    client, connection, _ = pair
    client.sendall(frame(b"one ", final=False) + frame(b"hey", opcode=9) + frame(b"two", opcode=0))
    assert connection.receive() == b"one two"
    assert client.recv(100) == b"\x8a\x03hey"


@pytest.mark.parametrize(("length", "head"), [(5, b"\x82\x05"), (300, b"\x82\x7e\x01\x2c")])
def test_answers_are_binary_and_unmasked(pair, length, head):
    client, connection, _ = pair
    connection.send(b"x" * length)
    assert client.recv(1000) == head + b"x" * length


def test_a_client_that_says_goodbye_is_answered_and_gone(pair):
    client, connection, _ = pair
    client.sendall(frame(b"\x03\xe8", opcode=8))
    assert connection.receive() is None
    assert client.recv(100) == b"\x88\x02\x03\xe8"


def test_a_client_that_just_goes_is_gone(pair):
    client, connection, _ = pair
    client.sendall(frame(b"half")[:5])
    client.close()
    assert connection.receive() is None
    connection.send(b"to nobody")


def test_another_endpoint_is_refused():
    client, server = socket.socketpair()
    client.sendall(HELLO % b"/elsewhere")
    with pytest.raises(ConnectionError, match="Expected a WebSocket at /sc2api, got b'GET /elsewhere HTTP"):
        Connection(server)
    assert client.recv(1000).startswith(b"HTTP/1.1 404 ")
    client.close()
    server.close()
