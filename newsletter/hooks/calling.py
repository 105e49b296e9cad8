"""One HTTP call: POST, answered within a time, read up to a size, redirects not followed.

`http.client` over a socket of our own, since that alone decides where the connection goes: no proxy of the environment,
no second look at the name.
"""

from __future__ import annotations

import datetime as dt
import http.client
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from functools import cache

from newsletter import retry_after
from newsletter.hooks import destinations

CALL_SECONDS = 10.0  # from the first byte to the last, after the name is resolved
ANSWER_BYTES = 2048
AGENT = "Masthead-Webhook/1"


@dataclass(frozen=True)
class Answer:
    """What came of a call: `status_code` is None where no answer came, `text` says then why not.

    `retry_after` is what the other side asks to wait, with 429 and 503.
    """

    status_code: int | None
    text: str
    retry_after: dt.timedelta | None = None

    @property
    def accepted(self) -> bool:
        """Whether the other side has it now."""
        return self.status_code is not None and 200 <= self.status_code < 300

    @property
    def gone(self) -> bool:
        """Whether nothing is to be told there any more (RFC 9110 section 15.5.11)."""
        return self.status_code == http.HTTPStatus.GONE


def post(url: str, body: bytes, headers: dict[str, str]) -> Answer:
    """POST `body`, which is JSON, to `url`. Never raises for what the other side or the network does."""
    try:
        destination = destinations.parse(url)
        addresses = destinations.addresses(destination)
    except (destinations.Refused, destinations.Unresolved) as error:
        return Answer(None, str(error))
    line = _Line(time.monotonic() + CALL_SECONDS)
    watch = threading.Timer(CALL_SECONDS, line.cut)
    watch.daemon = True
    watch.start()
    try:
        return _ask(line, destination, addresses, body, headers)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if line.is_cut or isinstance(error, TimeoutError):
            return Answer(None, f"No answer within {CALL_SECONDS:g} seconds.")
        return Answer(None, f"No answer: {str(error) or type(error).__name__}.")
    finally:
        watch.cancel()
        line.close()


class _Line:
    """The connection of one call. `cut` ends it from another thread: a timeout of the socket is for each read alone,
    and an answer that drips a byte a second would never exceed it."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.is_cut = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def hold(self, opened: socket.socket) -> None:
        """Take over `opened`, with what is left of the time as its timeout."""
        with self._lock:
            self._socket = opened
        left = self.deadline - time.monotonic()
        if left <= 0 or self.is_cut:
            raise TimeoutError
        opened.settimeout(left)

    def cut(self) -> None:
        """End it now."""
        with self._lock:
            self.is_cut = True
            if self._socket is not None:
                try:
                    # Not SSLSocket's own, which would first say goodbye.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
                except OSError:
                    return  # it has ended by itself

    def close(self) -> None:
        """Give it back."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
            self._socket = None


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _connect(line: _Line, addresses: list[destinations.Address], port: int) -> socket.socket:
    """A connection to the first of `addresses` that takes one. Each gets its share of the time, so that one that does
    not answer leaves some to the others. Raises what the last of them raised."""
    failure = OSError("there is no address")
    for tried, address in enumerate(addresses):
        share = (line.deadline - time.monotonic()) / (len(addresses) - tried)
        if share <= 0:
            raise TimeoutError
        try:
            opened = socket.create_connection((str(address), port), timeout=share)
        except OSError as error:
            failure = error
        else:
            line.hold(opened)
            return opened
    raise failure


def _ask(
    line: _Line,
    destination: destinations.Destination,
    addresses: list[destinations.Address],
    body: bytes,
    headers: dict[str, str],
) -> Answer:
    connection = http.client.HTTPConnection(destination.host, destination.port)
    opened = _connect(line, addresses, destination.port)
    if destination.secure:
        # The certificate has to be for the name, while the connection goes to the address.
        wrapped = _tls().wrap_socket(opened, server_hostname=destination.host, do_handshake_on_connect=False)
        line.hold(wrapped)
        wrapped.do_handshake()
        opened = wrapped
    connection.sock = opened
    connection.putrequest("POST", destination.target, skip_host=True, skip_accept_encoding=True)
    fixed = {"Host": destination.host_header, "User-Agent": AGENT, "Content-Type": "application/json"}
    for name, value in {**fixed, "Content-Length": str(len(body)), "Connection": "close", **headers}.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    response = connection.getresponse()
    if line.is_cut:  # http.client takes headers that end in the middle for all of them
        raise TimeoutError
    try:
        text = response.read(ANSWER_BYTES).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        text = ""  # the status is the answer; what it says beside that is for people to read
    if 300 <= response.status < 400:
        text = f"It redirects, which is not followed. {text}"
    return Answer(response.status, text, _retry_after(response))


def _retry_after(response: http.client.HTTPResponse) -> dt.timedelta | None:
    """What the header asks for, where the status is one that it belongs to."""
    if response.status not in (http.HTTPStatus.TOO_MANY_REQUESTS, http.HTTPStatus.SERVICE_UNAVAILABLE):
        return None
    asked = retry_after.seconds(response.getheader("Retry-After", ""))
    return None if asked is None else dt.timedelta(seconds=asked)
