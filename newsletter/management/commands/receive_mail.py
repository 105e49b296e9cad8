"""`manage.py receive_mail [--recipient ADDRESS] < message`: takes one mail that came back, from a pipe."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from newsletter import commands, receiving
from newsletter.commands import Answer

logger = logging.getLogger(__name__)

ROOM = 64 * 1024


class Command(commands.Command):
    """Exit status as mail servers understand it (sysexits.h): 0 done, 65 no mail, 69 for a person, whom the mail server
    should tell, and 75 keep the mail and try again."""

    help = "Take one mail that came back, on standard input, and do what follows from it."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Without --recipient the mail's headers have to say where it was delivered."""
        parser.add_argument("--recipient", metavar="ADDRESS", help="The address that the mail was delivered to.")

    def run(self, options: commands.Options) -> Answer:
        """Read, receive, answer."""
        try:
            raw = _standard_input()
            if not raw.strip():
                raise CommandError("There is no mail on standard input.", returncode=os.EX_DATAERR)
            received = receiving.receive(raw, options["recipient"])
        except CommandError:
            raise
        except Exception as error:  # whatever it is: the mail server keeps the mail
            logger.exception("A mail was not received")
            raise CommandError(f"The mail could not be received now ({type(error).__name__}); see the log.") from error
        if received.by_a_person:
            raise CommandError(f"{received.sentence} Nobody reads mail to this address.", returncode=os.EX_UNAVAILABLE)
        data = {"kind": received.kind.value, "done": received.done.value, "sentence": received.sentence}
        return Answer(received.sentence, data)

    def _refuse(self, sentence: str, *, as_json: bool, status: int = 1) -> Any:
        super()._refuse(sentence, as_json=as_json, status=os.EX_TEMPFAIL if status == 1 else status)


def _standard_input() -> bytes:
    """The first octets of it. The rest is let go by: the mail server would take a broken pipe for a failure."""
    kept = sys.stdin.buffer.read(receiving.LIMIT)
    while sys.stdin.buffer.read(ROOM):
        pass
    return kept
