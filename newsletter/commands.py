"""What all our management commands share: two forms of an answer, and refusals in one sentence.

    class Command(commands.Command):
        help = "Count the readers of a newsletter."
        refusals = (CountingRefused,)  # their messages are sentences for the person at the keyboard

        def add_arguments(self, parser: CommandParser) -> None:
            parser.add_argument("slug")

        def run(self, options: commands.Options) -> Answer:
            newsletter = commands.find_newsletter(options["slug"])
            readers = newsletter.subscriptions.count()
            return Answer(text=f"{newsletter}: {readers} readers.", data={"readers": readers})

The text goes to stdout, or with `--json` the data. A refusal (a CommandError, one of `refusals`, wrong arguments, a
database that is away or not migrated) is one sentence on stderr and exit status 1; with `--json` stdout has
`{"error": sentence}` besides. Through `call_command` a refusal is a CommandError.
"""

from __future__ import annotations

import io
import json
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser, SystemCheckError
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from django.db.migrations.executor import MigrationExecutor
from rich import box
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from newsletter import scheduling
from newsletter.models import Dispatch, Issue, Newsletter

Options = dict[str, Any]

_TABLE_WIDTH, _BAR_WIDTH = 120, 24
_NAMED = 5  # issues without a number, where another was asked for


@dataclass(frozen=True)
class Answer:
    """What a command has to say: `text` for people, `data` (ready for JSON) for programs."""

    text: str
    data: dict[str, Any]


class Command(BaseCommand):
    """The base of our commands; the module's docstring shows how one is written."""

    refusals: tuple[type[Exception], ...] = ()
    needs_database = True

    def run(self, options: Options) -> Answer:
        """Do what the command is for. Raises CommandError, or one of `refusals`, to refuse in a sentence."""
        raise NotImplementedError

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Django's parser, with `--json`, that raises CommandError on wrong arguments instead of leaving with 2."""
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.called_from_command_line = False
        parser.add_argument("--json", action="store_true", help="Answer as JSON.")
        return parser

    def run_from_argv(self, argv: list[str]) -> None:
        """Run with the command line's words (program, command, arguments); leaves with the refusal's status, 1 where
        it has none of its own."""
        try:
            options = vars(self.create_parser(argv[0], argv[1]).parse_args(argv[2:]))
        except CommandError as error:
            reason = str(error).removeprefix("Error: ").rstrip(".")
            sentence = f"{reason[:1].upper()}{reason[1:]}; `manage.py {argv[1]} --help` lists what it takes."
            self._refuse(sentence, as_json="--json" in argv)
        try:
            self.execute(*options.pop("args", ()), **options)
        except CommandError as error:
            if options["traceback"]:
                raise
            # Checks explain themselves in a list with hints, everything else is one sentence.
            listed = isinstance(error, SystemCheckError)
            sentence = str(error) if listed else " ".join(str(error).split())
            self._refuse(sentence, as_json=options["json"], status=error.returncode)
        finally:
            connections.close_all()

    def handle(self, *args: Any, **options: Any) -> str:
        """Django's way in: the answer in the form that was asked for."""
        try:
            if self.needs_database:
                _require_migrated()
            answer = self.run(options)
        except OperationalError as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise CommandError(f"The database cannot be used ({reason}): check DATABASE_URL and try again.") from error
        except ValidationError as error:
            raise CommandError(" ".join(_sentences(error))) from error
        except self.refusals as error:
            raise CommandError(str(error)) from error
        return json.dumps(answer.data, indent=2) if options["json"] else answer.text

    def _refuse(self, sentence: str, *, as_json: bool, status: int = 1) -> None:
        if as_json:
            self.stdout.write(json.dumps({"error": sentence}))
        self.stderr.write(sentence)
        sys.exit(status)


class DispatchCommand(Command):
    """The base of commands that change the state of an issue's latest dispatch: ISSUE, then `change`."""

    refusals = (scheduling.NotNow,)
    said = ""

    def add_arguments(self, parser: CommandParser) -> None:
        """ISSUE is an id, or newsletter and number."""
        parser.add_argument("issue", help="Its id (12), or newsletter and number (weekly/3).")

    def change(self, dispatch: Dispatch, options: Options) -> None:
        """Do what the command is for. Raises scheduling.NotNow, a sentence."""
        raise NotImplementedError

    def run(self, options: Options) -> Answer:
        """Find the dispatch, change it, say its status."""
        issue = find_issue(options["issue"])
        dispatch = issue.dispatches.order_by("-pk").first()
        if dispatch is None:
            raise CommandError(f"“{issue.title}” was never scheduled.")
        self.change(dispatch, options)
        dispatch.refresh_from_db()
        data = {"issue": issue.pk, "dispatch": dispatch.pk, "status": dispatch.status}
        return Answer(f"“{issue.title}”: {self.said.format(status=dispatch.status)}.", data)


def find_newsletter(slug: str) -> Newsletter:
    """The newsletter called `slug`. Raises CommandError naming those that exist."""
    newsletter = Newsletter.objects.filter(slug=slug).first()
    if newsletter is None:
        known = ", ".join(Newsletter.objects.order_by("slug").values_list("slug", flat=True))
        there = f"there are: {known}" if known else "there is none yet, `manage.py create_newsletter` makes one"
        raise CommandError(f"There is no newsletter “{slug}”; {there}.")
    return newsletter


def find_issue(text: str) -> Issue:
    """The issue that `text` names: its primary key (`12`), or newsletter and number (`weekly/3`).

    Raises CommandError where there is none.
    """
    slug, slash, number = text.rpartition("/")
    if not (number.isdecimal() and len(number) < 19 and bool(slug) == bool(slash)):
        raise CommandError(f"“{text}” names no issue; write its id (12), or newsletter and number (weekly/3).")
    issues = Issue.objects.select_related("newsletter")
    if slug:
        issue = issues.filter(newsletter=find_newsletter(slug), number=int(number)).first()
    else:
        issue = issues.filter(pk=int(number)).first()
    if issue is None:
        raise CommandError(f"There is no issue {text}; {_where_else(slug)}.")
    return issue


def _where_else(slug: str) -> str:
    """What to write instead of a number that no issue of the newsletter `slug` has, or how to make an issue."""
    rows = Issue.objects.filter(newsletter__slug=slug, number=None).order_by("-pk") if slug else Issue.objects.none()
    found = [f"{issue.pk} (“{issue.title}”)" for issue in rows[:_NAMED]]
    if not found:
        return "`manage.py import_issue` makes one and says its id"
    more = "; the address of an older one's page in the admin has its id" if rows.count() > _NAMED else ""
    return f"issues without a number go by their id: {', '.join(found)}{more}"


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that is set when the process is told to stop (Ctrl-C, SIGTERM, or SIGHUP as a terminal that is closed
    sends it), so that what is in hand can be finished; a signal that is ignored, as by nohup, stays so.

    For the main thread only.
    """
    stop = threading.Event()
    heard = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    heard = {number: handler for number, handler in heard.items() if handler is not signal.SIG_IGN}
    for number in heard:
        signal.signal(number, lambda *_: stop.set())
    try:
        yield stop
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)


class _Bar(Progress):
    """A bar with what its tasks say in lines below it, since that does not fit beside it on a narrow terminal."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bars, then the words."""
        yield from super().get_renderables()
        yield from (Text(task.fields["said"]) for task in self.tasks if task.fields["said"])


def progress_bar(*, remaining: bool = True) -> Progress:
    """A progress bar on stderr, seen only where stderr is a terminal; used as a context manager. Below it stands what
    the task's field `said` has, and behind it with `remaining` the time that is left by its pace."""
    return _Bar(
        TextColumn("{task.description}", markup=False, table_column=Column()),
        BarColumn(_BAR_WIDTH),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        *([TimeRemainingColumn(table_column=Column(no_wrap=True))] if remaining else []),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """`rows` as plain text under the headings `columns`; numbers stand right."""
    body = [list(row) for row in rows]
    grid = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    for index, column in enumerate(columns):
        numeric = all(isinstance(row[index], int) for row in body)
        grid.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in body:
        grid.add_row(*(Text(str(value)) for value in row))
    out = io.StringIO()
    Console(file=out, width=_TABLE_WIDTH, color_system=None).print(grid)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())


def _require_migrated() -> None:
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise CommandError("The database is not up to date: run `manage.py migrate`.")


def _sentences(error: ValidationError) -> list[str]:
    """What a model refused, each with its field's name in front where there is one."""
    if not hasattr(error, "error_dict"):
        return list(error.messages)
    return [
        message if field == "__all__" else f"{field.replace('_', ' ').capitalize()}: {message}"
        for field, messages in error.message_dict.items()
        for message in messages
    ]
