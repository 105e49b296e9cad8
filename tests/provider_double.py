"""A provider's API on loopback that answers as a test says, and messages to hand to it."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import HTTP
from email.utils import parseaddr
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from newsletter import clock, message, transports
from newsletter.fields import Slot, SlotTable
from newsletter.rendering import Rendered
from newsletter.transports import Outcome, Result
from newsletter.transports.provider import ProviderTransport

MAILGUN_FINE = {"id": "<20261122.1@mg.example.org>", "message": "Queued. Thank you."}


@dataclass
class Call:
    """One request: its path, the session it came on, its headers, and its fields by name."""

    path: str
    session: tuple[str, int]
    headers: dict[str, str]
    fields: dict[str, Any]


@dataclass
class Double:
    """A provider's API on loopback. `answer` is given each call and returns status, headers and body, or None to hang
    up without an answer."""

    url: str = ""
    calls: list[Call] = field(default_factory=list)
    answer: Callable[[Call], tuple[int, dict[str, str], Any] | None] = lambda call: (200, {}, MAILGUN_FINE)


def fields_of(body: bytes, kind: str) -> dict[str, Any]:
    if kind.startswith("application/json"):
        fields = json.loads(body)
        assert isinstance(fields, dict)
        return fields
    if kind.startswith("multipart/form-data"):
        form = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
        assert isinstance(form, EmailMessage)
        found: dict[str, list[str]] = {}
        for part in form.iter_parts():
            octets = part.get_payload(decode=True)
            assert isinstance(octets, bytes)
            name = str(part.get_param("name", header="content-disposition"))
            found.setdefault(name, []).append(octets.decode())
        return {name: values[0] if len(values) == 1 else values for name, values in found.items()}
    return {name: values[0] for name, values in parse_qs(body.decode(), keep_blank_values=True).items()}


@contextlib.contextmanager
def running() -> Iterator[Double]:
    """A double that listens as long as the context lasts."""
    made = Double()

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            call = Call(
                self.path, self.client_address, dict(self.headers), fields_of(body, self.headers["Content-Type"])
            )
            made.calls.append(call)
            answer = made.answer(call)
            if answer is None:
                self.close_connection = True
                return
            status, headers, said = answer
            octets = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(octets))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(octets)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Keeping:
    """How a provider answers that keeps keys (Resend, Brevo): the same call under the same key is told what it was told
    before and sends nothing; another one under that key is refused (409).

    `mails` counts what readers were sent, by address. `slow` are the addresses whose first call is taken and gets no
    answer within `patience` seconds; `lost` likewise, but the connection is hung up.
    """

    mails: Counter[str] = field(default_factory=Counter)
    keys: dict[str, tuple[Any, tuple[int, dict[str, str], Any]]] = field(default_factory=dict)
    slow: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    patience: float = 30
    again: int = 0  # calls told what they were told before

    def __call__(self, call: Call) -> tuple[int, dict[str, str], Any] | None:
        """See `Double.answer`."""
        versions = call.fields.get("messageVersions")
        if call.path.startswith("/emails"):
            key = call.headers["Idempotency-Key"]
            addresses = [parseaddr(each)[1] for each in call.fields["to"]]
            said: Any = {"id": key}
        else:
            key = call.fields["headers"]["idempotencyKey"]
            to = [version["to"][0] for version in versions] if versions else call.fields["to"]
            addresses = [each["email"] for each in to]
            said = {"messageIds": [f"<{address}>" for address in addresses]} if versions else {"messageId": "<1>"}
        if key in self.keys:
            fields, answer = self.keys[key]
            if fields != call.fields:
                return 409, {}, {"message": "This key was used with another payload."}
            self.again += 1
            return answer
        self.keys[key] = (call.fields, (200, {}, said))
        self.mails.update(addresses)
        if self.slow.intersection(addresses):
            self.slow.clear()
            time.sleep(self.patience)
        if self.lost.intersection(addresses):
            self.lost.clear()
            return None
        return 200, {}, said


def postmark_takes(call: Call) -> tuple[int, dict[str, str], Any]:
    """How Postmark answers a call that it takes."""
    (address,) = [part.strip("<>") for part in call.fields["To"].split() if "@" in part]
    return 200, {}, {"To": address, "MessageID": "b7bc2f4a", "ErrorCode": 0, "Message": "OK"}


def make_sender(**fields: Any) -> message.Sender:
    values = {
        "name": 'The "Wöchentliche"',
        "address": "news@example.org",
        "reply_to": "editor@example.org",
        "list_id": "weekly.news.example.org",
        "list_name": "The Weekly",
        "feedback_id": "i12:n1:issue:masthead",
        "domain": "news.example.org",
        "language": "en",
    }
    return message.Sender(**(values | fields))


def make_reader(number: int = 1, address: str = "") -> message.Reader:
    return message.Reader(
        delivery_id=number,
        address=address or f"reader{number}@example.org",
        name="Jörg, the <first>",
        message_id=f"token{number}@news.example.org",
        date=dt.datetime(2026, 11, 22, tzinfo=dt.UTC),
        values={"name": f"Jörg {number}", "unsubscribe_url": f"https://news.example.org/u/{number}"},
    )


def make_compiled(
    text: str = "Hello ", html: str = "<p>Hello ", subject: str = "Weekly for ", sender: message.Sender | None = None
) -> message.Compiled:
    table = SlotTable()
    name = table.marker(Slot("name", "there"))
    rendered = Rendered(subject + name, "", html + name if html else "", text + name, tuple(table.slots), (), 0, (), ())
    return message.compile(rendered, sender or make_sender())


def hand_over(transport: ProviderTransport, *readers: message.Reader, seconds: float = 30) -> list[Outcome]:
    chosen = readers or (make_reader(),)
    outcomes = transports.hand_over(
        transport, [(make_compiled(), chosen)], make_sender(), deadline=clock.now() + seconds
    )
    assert [outcome.delivery_id for outcome in outcomes] == [reader.delivery_id for reader in chosen]
    return outcomes


def results(outcomes: list[Outcome]) -> list[Result]:
    return [outcome.result for outcome in outcomes]
