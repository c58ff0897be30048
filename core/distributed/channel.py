"""Messages between two processes of a run over one TCP connection, with heartbeats to notice a lost peer.

    frame    header length (4 bytes), body length (8 bytes), header (JSON), body (bytes)
    beat     a frame with an empty header, every BEAT_SECONDS, from a thread of its own

A peer that was killed closes its connection. One whose machine sleeps, hangs or lost its cable sends nothing and counts
as gone after SILENCE_SECONDS. The heartbeats continue while a peer computes or draws. Gradients are not sent here but
through MLX (process_group.py).
"""

from __future__ import annotations

import json
import queue
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Any

BEAT_SECONDS = 2.0
SILENCE_SECONDS = 15.0
CHUNK = 2**20  # bytes sent at once, so that a large body is not one long silence
FRAME = struct.Struct(">IQ")
HEADER_AT_MOST = 2**26  # bytes; the sender of a longer one is not one of ours
DONE = "done"  # the message after which closing the connection is no loss


class Gone(Exception):
    """The peer is gone; the message says how that was noticed."""


class Channel:
    """One end of a connection; messages arrive in the order in which they were sent."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._connection.settimeout(SILENCE_SECONDS)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sending = threading.Lock()
        self._inbox: queue.SimpleQueue[tuple[dict[str, Any], bytes] | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._done = False
        self._lost = ""
        self._patient_until = 0.0

    @property
    def lost(self) -> str:
        """How the peer was lost, in words; empty while it is there and after it said DONE."""
        return "" if self._done else self._lost

    def begin(self) -> None:
        """Start receiving and sending heartbeats."""
        for work in (self._listen, self._beat):
            threading.Thread(target=work, daemon=True).start()

    def be_patient(self, seconds: float) -> None:
        """Allow the peer to be silent for so many seconds from now; 0 restores SILENCE_SECONDS."""
        self._patient_until = time.monotonic() + seconds

    def send(self, kind: str, body: bytes = b"", **header: Any) -> None:
        """Send a message. If the peer is gone, the next `receive` or `lost` reports it."""
        with suppress(OSError):
            self._send({"kind": kind, **header}, body)

    def receive(self, kind: str) -> tuple[dict[str, Any], bytes]:
        """Wait for the next message, which must be of this kind. Raises Gone."""
        message = self._inbox.get()
        if message is None:
            self._inbox.put(None)  # for the next call
            raise Gone(self._lost)
        header, body = message
        if header["kind"] != kind:
            raise Gone(f"it sent {header['kind']!r} where {kind!r} was due")
        return header, body

    def close(self) -> None:
        """Close the connection, which ends the threads."""
        self._closed.set()
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _send(self, header: dict[str, Any], body: bytes) -> None:
        text = json.dumps(header).encode()
        with self._sending:
            self._connection.sendall(FRAME.pack(len(text), len(body)) + text)
            for start in range(0, len(body), CHUNK):
                self._connection.sendall(body[start : start + CHUNK])

    def _beat(self) -> None:
        while not self._closed.wait(BEAT_SECONDS):
            try:
                self._send({}, b"")
            except OSError:
                return  # _listen reports it

    def _listen(self) -> None:
        """Fill the inbox until the peer is gone, then put None."""
        try:
            while True:
                header_length, body_length = FRAME.unpack(self._exactly(FRAME.size))
                if header_length > HEADER_AT_MOST:
                    raise Gone("it sent data that is not a message")
                header = json.loads(self._exactly(header_length))
                body = self._exactly(body_length)
                if header.get("kind") == "problem":
                    raise Gone(str(header["message"]))
                if header.get("kind") == DONE:
                    self._done = True
                elif header:
                    self._inbox.put((header, body))
        except Gone as gone:
            self._lost = str(gone)
        except TimeoutError:
            self._lost = f"it sent nothing for {SILENCE_SECONDS:.0f} s"
        except (OSError, ValueError, KeyError):
            self._lost = "its connection broke"
        finally:
            self._inbox.put(None)

    def _exactly(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            try:
                part = self._connection.recv(min(count - len(parts), CHUNK))
            except TimeoutError:
                if time.monotonic() < self._patient_until:
                    continue
                raise
            if not part:
                raise Gone("its process ended")
            parts += part
        return bytes(parts)


def connect(host: str, port: int, seconds: float) -> Channel:
    """Try to connect until an address answers. Raises Gone after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return Channel(socket.create_connection((host, port), timeout=SILENCE_SECONDS))
        except OSError as error:
            if time.monotonic() > deadline:
                raise Gone(f"nobody answers at {host}:{port} ({error})") from None
            time.sleep(0.2)
