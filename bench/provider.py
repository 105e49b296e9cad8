"""Provider batch calls: how many readers a second go to a local double of Mailgun's API.

    python -m bench.provider [--readers N] [--chunk N] [--profile]

A 30 kB issue in HTML and text with 20 tracked links, all headers, a personal name and an open pixel. The double runs in
a process of its own on the same machine, reads each call whole, counts its readers and says "Queued". Prints one row of
a Markdown table, and with BENCH_JSON set writes {"provider_readers_per_s": …} there.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import datetime as dt
import json
import multiprocessing
import os
import pstats
import socket
import time
import uuid
from io import IOBase
from multiprocessing.connection import Connection
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "newsletter.settings")

from django.conf import settings

from newsletter import clock, message, rendering
from newsletter.fields import Slot, SlotTable
from newsletter.transports import Outcome, Result
from newsletter.transports.provider import ProviderTransport

LINKS = 20
HTML_SIZE = 30_000
ANSWER = b'{"id": "<20261122.1@mg.example.org>", "message": "Queued. Thank you."}'


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", type=int, default=50_000)
    parser.add_argument("--chunk", type=int, default=100, help="readers handed over at once, as CHUNK_SIZE")
    parser.add_argument("--profile", action="store_true", help="say where the time goes, in place of the row")
    chosen = parser.parse_args()

    ours, theirs = multiprocessing.Pipe()
    double = multiprocessing.get_context("fork").Process(target=answer_calls, args=(theirs,), daemon=True)
    double.start()
    settings.ANYMAIL = {"MAILGUN_API_KEY": "key", "MAILGUN_API_URL": f"http://127.0.0.1:{ours.recv()}"}
    cpu = time.process_time()
    with cProfile.Profile() if chosen.profile else contextlib.nullcontext() as profile:
        seconds = send(chosen.readers, chosen.chunk)
    ours.send("end")
    taken = ours.recv()
    double.join()
    if taken != chosen.readers:
        raise SystemExit(f"Of {chosen.readers} readers the double counted {taken}.")
    if isinstance(profile, cProfile.Profile):
        pstats.Stats(profile).sort_stats("cumulative").print_stats(45)
        return
    rate = chosen.readers / seconds
    own = (time.process_time() - cpu) / chosen.readers * 1e6
    print(
        f"| provider batch calls, {chosen.chunk} readers each, HTTP double beside it | {rate:,.0f} readers/s "
        f"| {chosen.readers:,} readers, one process, {own:.0f} µs of CPU a reader, load {os.getloadavg()[0]:.1f} |"
    )
    if os.environ.get("BENCH_JSON"):
        Path(os.environ["BENCH_JSON"]).write_text(json.dumps({"provider_readers_per_s": round(rate)}), "utf-8")


def send(readers: int, chunk: int) -> float:
    """Hand an issue over to `readers` readers, `chunk` at a time; the seconds it took."""
    sender = message.Sender(
        name="The Weekly",
        address="desk@news.example.org",
        reply_to="editor@news.example.org",
        list_id="weekly.news.example.org",
        list_name="The Weekly",
        feedback_id="i12:n1:issue:masthead",
        domain="news.example.org",
        language="en",
    )
    compiled = message.compile(issue(), sender)
    transport = ProviderTransport("mailgun")
    began = time.perf_counter()
    for start in range(1, readers + 1, chunk):
        numbers = range(start, min(start + chunk, readers + 1))
        outcomes: list[Outcome] = []
        transport.hand_over(
            [(compiled, [reader(number) for number in numbers])],
            sender,
            outcomes,
            deadline=clock.now() + 60,
            idempotency_key=uuid.uuid4(),
        )
        if any(outcome.result != Result.ACCEPTED for outcome in outcomes):
            raise SystemExit(f"The double did not take a chunk: {outcomes[0].reply}")
    seconds = time.perf_counter() - began
    transport.close()
    return seconds


def issue() -> rendering.Rendered:
    """An issue of HTML_SIZE with LINKS tracked links, a name, a pixel and the links that every mail has."""
    table = SlotTable()
    token, name = table.marker(Slot("delivery_token")), table.marker(Slot("first_name", "there"))
    links = [f"https://news.example.org/c/{number:040x}/{token}" for number in range(LINKS)]
    ends = [table.marker(Slot(f"{kind}_url")) for kind in ("unsubscribe", "preferences", "web")]
    words = "Nobody said that the harbour lamps would be lit before the evening tide came in. "
    paragraph = words * (HTML_SIZE // LINKS // len(words))
    text = f"Hello {name},\n\n" + "\n\n".join(f"{paragraph}\n{link}" for link in links) + "\n\n" + "\n".join(ends)
    page = f"<html><body><h1>Hello {name}</h1>"
    page += "".join(f'<p style="margin:0 0 16px">{paragraph}</p><a href="{link}">More</a>' for link in links)
    page += "".join(f'<a href="{end}">here</a>' for end in ends)
    page += f'<img src="https://news.example.org/o/{token}" alt=""></body></html>'
    return rendering.Rendered(f"Weekly for {name}", "", page, text, tuple(table.slots), (), 0, (), ())


def reader(number: int) -> message.Reader:
    """Reader `number`, with links as long as real ones."""
    token = f"{number:042d}"
    site = "https://news.example.org"
    return message.Reader(
        delivery_id=number,
        address=f"reader{number}@readers.example",
        name="Robin Okafor",
        message_id=f"{number:026d}@news.example.org",
        date=dt.datetime(2026, 11, 22, tzinfo=dt.UTC),
        values={
            "name": "Robin Okafor",
            "first_name": "Robin",
            "delivery_token": f"{number:026d}",
            "unsubscribe_url": f"{site}/u/{token}",
            "preferences_url": f"{site}/p/{token}",
            "web_url": f"{site}/i/{token}",
            "upgrade_url": f"{site}/p/{token}",
        },
    )


def answer_calls(parent: Connection) -> None:
    """Be Mailgun on loopback: tell `parent` the port, answer calls until they end, then say how many readers came."""
    counted = 0
    with socket.create_server(("127.0.0.1", 0)) as server:
        parent.send(server.getsockname()[1])
        connected, _ = server.accept()
    with connected, connected.makefile("rb", buffering=1 << 20) as incoming:
        while length := _content_length(incoming):
            # Each reader is in the list of recipients once, and once in the JSON of their values.
            counted += incoming.read(length).count(b"@readers.example>")
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(ANSWER)}\r\n\r\n"
            connected.sendall(head.encode() + ANSWER)
    parent.recv()
    parent.send(counted)


def _content_length(incoming: IOBase) -> int:
    """The size of the next call's body; 0 when there is none."""
    length = 0
    while (line := incoming.readline().strip().lower()) or not length:
        if not line:
            return 0
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return length


if __name__ == "__main__":
    main()
