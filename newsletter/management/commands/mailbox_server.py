"""`manage.py mailbox_server`: take every mail on a local port and keep it for the mailbox page."""

from __future__ import annotations

import asyncio
import logging
import signal
import sqlite3
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from newsletter.mailbox.store import Store


class Command(BaseCommand):
    help = "A local SMTP server that delivers nothing and shows everything: read the mails under /mailbox/."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=1025, help="port to listen on; 0 lets the system choose")
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
        parser.add_argument("--store", type=Path, required=True, help="file that keeps the mails; made when missing")

    def handle(self, *, port: int, host: str, store: Path, **options: Any) -> None:
        if find_spec("aiosmtpd") is None:
            raise CommandError("The mailbox server needs aiosmtpd: install the dependency group `services`.")
        if not 0 <= port <= 65535:
            raise CommandError(f"{port} is no port: choose one from 1 to 65535, or 0 for any free one.")
        # At its usual level aiosmtpd writes each reader's address and each command into the log.
        logging.getLogger("mail.log").setLevel(logging.ERROR)
        try:
            with Store(store) as opened:
                asyncio.run(self._serve(opened, host, port))
        except sqlite3.DatabaseError as error:
            raise CommandError(f"{store} is not a mailbox file ({error}): name another one with --store.") from error
        except OSError as error:
            raise CommandError(f"Cannot listen on {host}:{port} ({error.strerror}): choose another --port.") from error

    async def _serve(self, store: Store, host: str, port: int) -> None:
        from newsletter.mailbox import server  # here, because aiosmtpd is not in every installation

        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        await server.serve(store, host, port, stopping, lambda bound: self._say(f"Taking mail on {host}:{bound}."))

    def _say(self, sentence: str) -> None:
        self.stdout.write(sentence)
        self.stdout.flush()
