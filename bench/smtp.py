"""SMTP: messages a second to a relay on this machine, by the transport alone, beside a bare sender of ready-made bytes.

    python -m bench.smtp [--messages N] [--only WORD] [--profile]

An issue of 30 kB in HTML and text with 20 tracked links, all headers, a personal name and an open pixel; the relay is
`bench.sink`, in a process of its own. `far` is a relay that answers 10 ms later, over 20 connections in all. Prints one
Markdown table. Every row says how much CPU the sender and the sink took per message: where other work shares the
machine, that is what can be compared.
"""

from __future__ import annotations

import argparse
import cProfile
import datetime as dt
import multiprocessing
import os
import pstats
import resource
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.queues import Queue
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from bench.sink import relay
from newsletter import clock, message
from newsletter.fields import Slot, SlotTable
from newsletter.message import dkim
from newsletter.rendering import Rendered
from newsletter.transports import Outcome, Result
from newsletter.transports.smtp import SmtpTransport

CHUNK = 100
CONNECTIONS = 4
FAR = ("--delay", "0.01")
SENDER = message.Sender(
    name="The Weekly",
    address="news@example.org",
    reply_to="desk@example.org",
    list_id="weekly.news.example.org",
    list_name="The Weekly",
    feedback_id="i12:n1:issue:masthead",
    domain="news.example.org",
    language="en",
)
_WORDS = "The lamp at the end of the harbour is lit an hour before the boats come in, whoever keeps it that night. "


def make_compiled() -> message.Compiled:
    """An issue of about 30 kB, ready for readers."""
    table = SlotTable()
    token, name = table.marker(Slot("delivery_token")), table.marker(Slot("first_name", "there"))
    leave, web = (table.marker(Slot(f"{which}_url")) for which in ("unsubscribe", "web"))
    links = [f"https://news.example.org/c/{number:090d}/{token}" for number in range(20)]
    cell = '<tr><td style="padding:8px 16px;font-size:16px;line-height:1.5">'
    html = f'<html lang="en"><body><h1>Hello {name}</h1><table role="presentation">'
    html += "".join(f'{cell}{_WORDS * 7}<a href="{link}">read on</a></td></tr>\n' for link in links)
    html += f'</table><a href="{leave}">leave</a> <a href="{web}">web</a>'
    html += f'<img src="https://news.example.org/o/{token}" alt=""></body></html>\n'
    text = f"Hello {name}\n\n" + "".join(f"{_WORDS}\n{link}\n\n" for link in links) + f"Leave: {leave}\n"
    return message.compile(Rendered("The Weekly, number 12", "", html, text, tuple(table.slots), (), 0, (), ()), SENDER)


def make_reader(number: int) -> message.Reader:
    """One of any number of readers."""
    token, name = f"{number:042d}", f"Ada Number {number}"
    return message.Reader(
        delivery_id=number,
        address=f"reader{number}@example.org",
        name=name,
        message_id=f"{number:026d}@news.example.org",
        date=dt.datetime(2026, 11, 22, tzinfo=dt.UTC),
        values={
            "name": name,
            "first_name": "Ada",
            "delivery_token": f"{number:026d}",
            "unsubscribe_url": f"https://news.example.org/u/{token}",
            "preferences_url": f"https://news.example.org/p/{token}",
            "web_url": f"https://news.example.org/i/{token}",
        },
    )


@dataclass
class Row:
    """What one run came to; CPU in microseconds a message, of all senders together and of the sink."""

    what: str
    rate: float
    sender_cpu: float
    sink_cpu: float
    must: str = ""

    def __str__(self) -> str:
        return f"| {self.what} | {self.rate:,.0f}/s | {self.must} | {self.sender_cpu:.0f} | {self.sink_cpu:.0f} |"


def send(transport: SmtpTransport, compiled: message.Compiled, readers: list[message.Reader]) -> None:
    """Hand over chunk after chunk."""
    for start in range(0, len(readers), CHUNK):
        chunk = readers[start : start + CHUNK]
        outcomes: list[Outcome] = []
        transport.hand_over([(compiled, chunk)], SENDER, outcomes, deadline=clock.now() + 60)
        if any(outcome.result != Result.ACCEPTED for outcome in outcomes):
            raise SystemExit(f"Not all were accepted: {outcomes}")


def send_in_threads(
    url: str,
    messages: int,
    first: int,
    threads: int,
    connections: int,
    signers: tuple[str, ...],
    ready: Any,
    into: Queue[Any],
) -> None:
    """What one worker process does; puts when it began and ended and the seconds of CPU into `into`."""
    made, compiled = tuple(_signer(kind) for kind in signers), make_compiled()
    readers = [make_reader(first + number) for number in range(messages)]
    transports = [SmtpTransport(url, timeout=30, connections=connections, signers=made) for _ in range(threads)]
    workers = [
        threading.Thread(target=send, args=(transport, compiled, readers[number::threads]))
        for number, transport in enumerate(transports)
    ]
    ready.wait()
    before, begin = _cpu(), time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    into.put((begin, time.monotonic(), _cpu() - before))
    for transport in transports:
        transport.close()


def measure(
    what: str,
    *options: str,
    messages: int,
    processes: int = 1,
    threads: int = 1,
    connections: int = CONNECTIONS,
    signers: tuple[str, ...] = (),
    must: str = "",
) -> Row:
    """One row: so many processes of so many threads, with so many connections each, to a sink with `options`."""
    context = multiprocessing.get_context("spawn")
    with relay(*options) as (url, said):
        into, ready = context.Queue(), context.Barrier(processes)
        share = messages // processes
        begun = [
            context.Process(
                target=send_in_threads,
                args=(url, share, number * share, threads, connections, signers, ready, into),
            )
            for number in range(processes)
        ]
        for each in begun:
            each.start()
        told = [into.get() for _ in begun]
        for each in begun:
            each.join()
    sent = share * processes
    if not sent == said["messages"] == said["readers"]:
        raise SystemExit(f"Sent {sent}, and the sink took {said}.")
    lasted = max(end for _, end, _ in told) - min(begin for begin, _, _ in told)
    cpu = sum(used for _, _, used in told)
    return Row(what, sent / lasted, cpu / sent * 1e6, said["cpu_seconds"] / sent * 1e6, must)


def measure_bare(what: str, *options: str, messages: int, connections: int = CONNECTIONS, depth: int = 5) -> Row:
    """The row of a sender that does nothing but write ready-made bytes and count answers."""
    octets = [message.assemble(make_compiled(), make_reader(number)) for number in range(200)]
    envelopes = [
        b"MAIL FROM:<news@example.org>\r\nRCPT TO:<reader%d@example.org>\r\n" % number for number in range(200)
    ]
    chunking = "--no-chunking" not in options
    if chunking:
        ready = [b"%bBDAT %d LAST\r\n%b" % (e, len(o), o) for e, o in zip(envelopes, octets, strict=True)]
        ends = b"taken\r\n"
    else:
        ready = [o + b".\r\n" + e + b"DATA\r\n" for e, o in zip(envelopes, octets, strict=True)]
        depth, ends = 1, b"354"
    taken = begun = 0
    with relay(*options) as (url, said), selectors.DefaultSelector() as selector:
        for _ in range(connections):
            connected = socket.create_connection(("127.0.0.1", urlsplit(url).port))
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected.recv(999)
            connected.sendall(b"EHLO bench\r\n")
            connected.recv(999)
            selector.register(connected, selectors.EVENT_READ)
        before, begin = _cpu(), time.monotonic()
        for key in list(selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            for _ in range(depth):
                key.fileobj.sendall(ready[begun % 200] if chunking else envelopes[0] + b"DATA\r\n")
                begun += 1
        while taken < messages:
            for key, _ in selector.select(1):
                assert isinstance(key.fileobj, socket.socket)
                for _ in range(key.fileobj.recv(65536).count(ends)):
                    key.fileobj.sendall(ready[begun % 200])
                    taken, begun = taken + 1, begun + 1
        cpu, lasted = _cpu() - before, time.monotonic() - begin
        for key in list(selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
    return Row(what, taken / lasted, cpu / taken * 1e6, said["cpu_seconds"] / taken * 1e6)


def assembling() -> float:
    """Microseconds that one message takes to be assembled; the best of several goes."""
    compiled, readers = make_compiled(), [make_reader(number) for number in range(500)]
    best = float("inf")
    for _ in range(20):
        begin = time.perf_counter()
        for reader in readers:
            message.assemble(compiled, reader)
        best = min(best, (time.perf_counter() - begin) / len(readers))
    return best * 1e6


def _signer(kind: str) -> dkim.Signer:
    if kind == "rsa":
        return dkim.Signer("example.org", kind, rsa.generate_private_key(65537, 2048))
    return dkim.Signer("example.org", kind, ed25519.Ed25519PrivateKey.generate())


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def rows(messages: int) -> dict[str, Callable[[], Row]]:
    """What is measured, by a short name."""
    plain = ("--no-chunking",)
    return {
        "bare": lambda: measure_bare("bare sender, CHUNKING", messages=messages),
        "bare-pipelining": lambda: measure_bare("bare sender, PIPELINING", *plain, messages=messages),
        "chunking": lambda: measure("transport, CHUNKING", messages=messages, must="12,000"),
        "pipelining": lambda: measure("transport, PIPELINING", *plain, messages=messages, must="12,000"),
        "two": lambda: measure("transport, PIPELINING, 2 processes", *plain, messages=messages, processes=2),
        "steps": lambda: measure("transport, neither", *plain, "--no-pipelining", messages=messages // 8),
        "rsa": lambda: measure(
            "signed with RSA-2048, 2 processes", messages=messages // 4, processes=2, signers=("rsa",), must="2,500"
        ),
        "both": lambda: measure(
            "signed with RSA-2048 and Ed25519, 2 processes",
            messages=messages // 4,
            processes=2,
            signers=("rsa", "ed25519"),
        ),
        "far-chunking": lambda: measure(
            "far relay, CHUNKING, 2 processes × 2 threads × 5",
            *FAR,
            messages=messages // 2,
            processes=2,
            threads=2,
            connections=5,
            must="5,000",
        ),
        "far-pipelining": lambda: measure(
            "far relay, PIPELINING, 2 processes × 5 threads × 2",
            *FAR,
            *plain,
            messages=messages // 4,
            processes=2,
            threads=5,
            connections=2,
            must="1,800",
        ),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=40_000, help="for the quick rows; the others take less")
    parser.add_argument("--only", default="", help="only the rows whose short name holds this")
    parser.add_argument("--profile", action="store_true", help="where the transport's time goes")
    chosen = parser.parse_args()
    if chosen.profile:
        with relay() as (url, _), cProfile.Profile() as profile:
            readers = [make_reader(number) for number in range(chosen.messages)]
            send(SmtpTransport(url, timeout=30, connections=CONNECTIONS), make_compiled(), readers)
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)
        return
    print("| what | figure | must | µs of CPU, sender | µs of CPU, sink |\n|---|---|---|---|---|", flush=True)
    found: dict[str, Row] = {}
    for name, run in rows(chosen.messages).items():
        if chosen.only in name:
            found[name] = run()
            print(found[name], flush=True)
    if not chosen.only:
        size = len(message.assemble(make_compiled(), make_reader(1)))
        print(f"| assembling {size:,} octets | {assembling():.1f} µs | 10 | | |")
        for name, bare in [("chunking", "bare"), ("pipelining", "bare-pipelining")]:
            ratio = found[name].rate / found[bare].rate
            print(f"| transport against bare sender, {name.upper()} | {ratio:.2f} | 0.5 | | |")
    print(f"\n{os.cpu_count()} cores, senders and sink on them, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
