"""A receiver of webhooks on the loopback that misbehaves as it is told, and remembers what it got."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Received:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed

    def signed_by(self, secret: str) -> bool:
        """Whether one of the signatures is by `secret`, worked out from the specification's words alone."""
        signed = b".".join([self.headers["webhook-id"].encode(), self.headers["webhook-timestamp"].encode(), self.body])
        key = base64.b64decode(secret[len("whsec_") :])
        wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return f"v1,{wanted}" in self.headers["webhook-signature"].split(" ")


@dataclass
class Receiver:
    """What it is told to answer, and what came. `released` lets go of those who are kept waiting."""

    answer: Answer
    url: str = ""
    received: list[Received] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    open: int = 0
    most_open: int = 0

    def kinds(self) -> list[str]:
        """The kinds that came, in order."""
        return [request.told["type"] for request in self.received]


def say(status: int, body: bytes = b"", **headers: str) -> Answer:
    """Answer with `status`; underscores in names of headers stand for hyphens."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Close without a word."""
    handler.close_connection = True


def endless(handler: BaseHTTPRequestHandler) -> None:
    """A body without an end."""
    handler.send_response(200)
    handler.end_headers()
    with suppress(OSError):
        while True:
            handler.wfile.write(b"x" * 65536)


TAKEN = say(204)


@contextmanager
def receiving(answer: Answer = TAKEN, *, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver on a port of its own, by https where there is a certificate in `tls`."""
    receiver = Receiver(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.open += 1
            receiver.most_open = max(receiver.most_open, receiver.open)
            receiver.received.append(Received(self.path, headers, body))
            try:
                receiver.answer(self)
            finally:
                receiver.open -= 1

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None: ...  # callers that go away are part of the tests

    server = Server(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    receiver.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}/hook"
    yield receiver
    receiver.released.set()
    server.shutdown()
    server.server_close()
    thread.join(10)


def wait_for_release(receiver: Receiver) -> Answer:
    """Answer nothing until the receiver is `released`."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        receiver.released.wait(60)
        hang_up(handler)

    return answer
