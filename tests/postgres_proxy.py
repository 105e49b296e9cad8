"""Stands between Django and PostgreSQL, and loses the connection at one COMMIT: before the server gets it, after the
server has done it and before the client hears so, or with the COMMIT still on its way to the server."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Literal

from django.db import connection

Moment = Literal["before", "after", "late"]
WAIT = 30.0  # for an answer of the server, on a machine that is busy with other things


class PostgresProxy:
    """Passes on what is said to the server at `address`, on its own `port`.

    A connection is cut at the first COMMIT of a transaction in which the client had sent `sign`; `meanwhile` is called
    then, in a thread of the proxy. `cuts` is how often: after the first time nothing is cut any more. `over` is set
    when the server has had that COMMIT, or never will.
    """

    def __init__(
        self, address: tuple[str, int], *, sign: bytes, moment: Moment, meanwhile: Callable[[], object]
    ) -> None:
        self.cuts = 0
        self.over = threading.Event()
        self._address = address
        self._sign, self._moment, self._meanwhile = sign, moment, meanwhile
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        """Take no more connections; those that stand end with their client."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._address) as server, contextlib.suppress(OSError):
            self._pass_on(client, server)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        signed = False
        with selectors.DefaultSelector() as ready:
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in ready.select():
                    said = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    if not said:
                        return
                    if key.fileobj is client:
                        signed = signed or self._sign in said
                        if signed and not self.cuts and b"COMMIT" in said:
                            self._cut(client, server, said)
                            return
                        signed = signed and b"COMMIT" not in said
                    key.data.sendall(said)

    def _cut(self, client: socket.socket, server: socket.socket, commit: bytes) -> None:
        self.cuts += 1
        if self._moment == "late":
            client.close()
            self._meanwhile()
        if self._moment == "before":
            server.close()
        else:
            server.sendall(commit)
            server.settimeout(WAIT)
            server.recv(65536)
        if self._moment != "late":
            self._meanwhile()
        self.over.set()


@contextlib.contextmanager
def losing(*, sign: bytes, moment: Moment, meanwhile: Callable[[], object] = lambda: None) -> Iterator[PostgresProxy]:
    """Let this thread's connection go through a PostgresProxy."""
    connection.ensure_connection()
    own = connection.settings_dict
    before = {name: own[name] for name in ("HOST", "PORT", "OPTIONS")}
    info = connection.connection.info
    proxy = PostgresProxy((info.hostaddr or info.host, info.port), sign=sign, moment=moment, meanwhile=meanwhile)
    connection.close()
    own |= {"HOST": "127.0.0.1", "PORT": proxy.port, "OPTIONS": before["OPTIONS"] | {"sslmode": "disable"}}
    try:
        yield proxy
    finally:
        connection.close()
        own |= before
        proxy.close()
