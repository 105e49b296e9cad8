from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandParser

from newsletter import bounces, commands
from newsletter.commands import Answer


class Command(commands.Command):
    """`manage.py classify_bounces [--json] FILE|FOLDER…`: what each returned mail means.

    What cannot be read is said on stderr and makes the exit status 1; the others are answered all the same.
    """

    help = "Say of each mail in files or folders whether it is a hard, soft or block bounce, a complaint or no bounce."
    needs_database = False

    def add_arguments(self, parser: CommandParser) -> None:
        """FILE is one mail as a mailbox or a pipe gives it, with or without an mbox's first line; of a folder every
        file is, also in the folders within."""
        parser.add_argument(
            "files", nargs="+", metavar="FILE", help="A mail (.eml, or the first one of an mbox), or a folder of mails."
        )

    def handle(self, *args: Any, **options: Any) -> str:
        """The answer for what could be read, then a refusal where something could not."""
        self.unreadable: list[str] = []
        answer = super().handle(*args, **options)
        if not self.unreadable:
            return answer
        if answer:
            self.stdout.write(answer)
        for sentence in self.unreadable:
            self.stderr.write(sentence)
        raise SystemExit(1)

    def run(self, options: commands.Options) -> Answer:
        """Read each file once, whatever it holds, by the name that it was given or found by."""
        reports = {}
        for name in dict.fromkeys(found for given in options["files"] for found in self._files(given)):
            try:
                with open(name, "rb") as file:
                    reports[name] = bounces.read(file.read())
            except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
                self._unreadable(name, error)
        rows = [
            (name, str(report.verdict), "" if report.kind == str(report.verdict) else str(report.kind), report.reason)
            for name, report in reports.items()
        ]
        nothing = "" if self.unreadable else "There is no file to read."
        text = commands.table(("file", "verdict", "kind", "reason"), rows) if rows else nothing
        return Answer(text=text, data={name: str(report.verdict) for name, report in reports.items()})

    def _files(self, name: str) -> Iterator[str]:
        """`name` itself, or of a folder all that is in it, sorted."""
        if not os.path.isdir(name):
            yield name
            return
        for folder, folders, files in os.walk(name, onerror=lambda error: self._unreadable(error.filename, error)):
            folders.sort()
            yield from (os.path.join(folder, file) for file in sorted(files))

    def _unreadable(self, name: str, error: Exception) -> None:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        self.unreadable.append(f"“{name}” could not be read: {why}.")
