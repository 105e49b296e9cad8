"""A local SMTP server that takes every mail and delivers none: the only module that imports aiosmtpd.

A mail is answered with 250 once it is in the store. While one transaction is being written the next mails queue up
and go into the following one together, so the disk sets no pace.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial

from aiosmtpd.smtp import SMTP, Envelope, Session

from newsletter.mailbox.store import Incoming, Store

MAX_BYTES = 64 * 2**20  # of one mail
MAX_TOGETHER = 500  # mails in one transaction


class _Protocol(SMTP):
    # Far over the 998 octets of RFC 5321: the mailbox shows broken mail too.
    line_length_limit = 2**20


class _Taker:
    """What aiosmtpd calls: queues each mail and answers when it is stored."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: asyncio.Queue[tuple[Incoming, asyncio.Future[str]] | None] = asyncio.Queue()

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Offer PIPELINING (RFC 2920) beside what aiosmtpd offers: it reads commands one by one from its buffer."""
        session.host_name = hostname
        return [*responses[:-1], "250-PIPELINING", responses[-1]]

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take the mail; the reply is 250 with its id, or 451 where the store cannot be written."""
        mail = Incoming(envelope.mail_from or "", tuple(envelope.rcpt_tos), bytes(envelope.original_content or b""))
        reply: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        await self._queue.put((mail, reply))
        return await reply

    async def write(self) -> None:
        """Move mails from the queue into the store, until `stop` was called and the queue is empty."""
        while (first := await self._queue.get()) is not None:
            waiting = [first]
            while len(waiting) < MAX_TOGETHER and not self._queue.empty():
                following = self._queue.get_nowait()
                if following is None:
                    self.stop()
                    break
                waiting.append(following)
            try:
                ids = await asyncio.to_thread(self._store.add, *(mail for mail, _ in waiting))
                answers = [f"250 2.0.0 OK: mail {mail_id} is in the mailbox" for mail_id in ids]
            except sqlite3.Error as error:  # a full disk, say: the sender tries again later
                answers = [f"451 4.3.0 The mailbox could not be written: {error}"] * len(waiting)
            for (_, reply), answer in zip(waiting, answers, strict=True):
                if not reply.done():  # else its connection went away meanwhile
                    reply.set_result(answer)

    def stop(self) -> None:
        """Let `write` end once all that is queued by now is stored."""
        self._queue.put_nowait(None)


async def serve(store: Store, host: str, port: int, stopping: asyncio.Event, listening: Callable[[int], None]) -> None:
    """Take mail at `host`:`port` into `store` until `stopping` is set; `listening` is told the port once it is open.

    Port 0 lets the system choose. Raises OSError where the port cannot be had.
    """
    loop = asyncio.get_running_loop()
    taker = _Taker(store)
    protocol = partial(
        _Protocol,
        taker,
        data_size_limit=MAX_BYTES,
        enable_SMTPUTF8=True,
        hostname="localhost",
        ident="mailbox",
        loop=loop,
    )
    server = await loop.create_server(protocol, host, port, backlog=500)
    writing = asyncio.create_task(taker.write())
    listening(server.sockets[0].getsockname()[1])
    try:
        await stopping.wait()
    finally:
        server.close()
        taker.stop()
        await writing
