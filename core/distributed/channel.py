"""Two processes of a run that talk: messages over one TCP connection, and beats that tell a quiet peer from a lost one.

    frame    header length (4 bytes), body length (8 bytes), header (JSON), body (bytes)
    beat     a frame with an empty header, every BEAT_SECONDS, from a thread

A peer that was killed closes its connection; one whose machine sleeps, hangs or lost its cable sends nothing, and is
taken to be gone after SILENCE_SECONDS. However long a peer computes or draws, its thread goes on beating. Gradients go
another way (process_group.py): this one is for what is said once, or in few bytes.
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
PIECE = 2**20  # bytes sent at once, so that a large body is not one long silence
FRAME = struct.Struct(">IQ")
HEADER_AT_MOST = 2**26  # bytes; a longer one is not ours
DONE = "done"  # the message after which a closed connection is no loss


class Gone(Exception):
    """The peer is no longer there; the message says how that was noticed."""


class Channel:
    """One end of a connection; messages come in the order in which they were sent."""

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
        """How the peer was lost, in words; empty as long as it is there, and when it left in good order."""
        return "" if self._done else self._lost

    def begin(self) -> None:
        """Start to listen and to beat."""
        for work in (self._listen, self._beat):
            threading.Thread(target=work, daemon=True).start()

    def be_patient(self, seconds: float) -> None:
        """Let the peer be silent for so long, from now; 0 goes back to the usual."""
        self._patient_until = time.monotonic() + seconds

    def send(self, kind: str, body: bytes = b"", **header: Any) -> None:
        """Send a message; to a peer that is gone, nothing: the next `receive` or `lost` says so."""
        with suppress(OSError):
            self._send({"kind": kind, **header}, body)

    def receive(self, kind: str) -> tuple[dict[str, Any], bytes]:
        """The next message, which must be of this kind; waits for it. Raises Gone."""
        message = self._inbox.get()
        if message is None:
            self._inbox.put(None)  # for whoever asks again
            raise Gone(self._lost)
        header, body = message
        if header["kind"] != kind:
            raise Gone(f"it sent {header['kind']!r} where {kind!r} was due")
        return header, body

    def close(self) -> None:
        """End the connection, and the threads with it."""
        self._closed.set()
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _send(self, header: dict[str, Any], body: bytes) -> None:
        text = json.dumps(header).encode()
        with self._sending:
            self._connection.sendall(FRAME.pack(len(text), len(body)) + text)
            for start in range(0, len(body), PIECE):
                self._connection.sendall(body[start : start + PIECE])

    def _beat(self) -> None:
        while not self._closed.wait(BEAT_SECONDS):
            try:
                self._send({}, b"")
            except OSError:
                return  # the listener knows more

    def _listen(self) -> None:
        """Fill the inbox until the peer is gone; the last thing in it is None."""
        try:
            while True:
                long, body_long = FRAME.unpack(self._exactly(FRAME.size))
                if long > HEADER_AT_MOST:
                    raise Gone("it sent something that is not a message")
                header = json.loads(self._exactly(long))
                body = self._exactly(body_long)
                if header.get("kind") == "problem":
                    raise Gone(str(header["message"]))
                if header.get("kind") == DONE:
                    self._done = True
                elif header:
                    self._inbox.put((header, body))
        except Gone as gone:
            self._lost = str(gone)
        except TimeoutError:
            self._lost = f"nothing was heard of it for {SILENCE_SECONDS:.0f} s"
        except (OSError, ValueError, KeyError):
            self._lost = "its connection broke"
        finally:
            self._inbox.put(None)

    def _exactly(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            try:
                part = self._connection.recv(min(count - len(parts), PIECE))
            except TimeoutError:
                if time.monotonic() < self._patient_until:
                    continue
                raise
            if not part:
                raise Gone("its process ended")
            parts += part
        return bytes(parts)


def connect(host: str, port: int, seconds: float) -> Channel:
    """Knock at an address until somebody opens. Raises Gone after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return Channel(socket.create_connection((host, port), timeout=SILENCE_SECONDS))
        except OSError as error:
            if time.monotonic() > deadline:
                raise Gone(f"nobody answers at {host}:{port} ({error})") from None
            time.sleep(0.2)
