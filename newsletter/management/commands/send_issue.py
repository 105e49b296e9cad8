from __future__ import annotations

import datetime as dt
import sys
import threading
import time
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.dateparse import parse_datetime
from kombu.exceptions import OperationalError

from newsletter import commands, scheduling, stats, tasks
from newsletter.admin.dispatches import progress
from newsletter.celery import app
from newsletter.commands import Answer
from newsletter.management.commands.issue_report import report_text
from newsletter.models import Dispatch, Issue
from newsletter.settings import ENV

Status = Dispatch.Status
UNDER_WAY = (Status.PREPARING, Status.SENDING)
RUNNING = {Status.SCHEDULED.value, *(status.value for status in UNDER_WAY)}
PATIENCE = 15.0  # seconds without a step forward before this process takes part in the sending
WAIT_FOR_LATER = 60.0  # seconds to stay once all that is left is mail that the relay put off
SECONDS_BETWEEN_LINES = 5.0  # of progress, where no bar can be drawn
WORDS = {"failed": "refused", "unconfirmed": "in doubt", "skipped": "skipped"}


class Command(commands.Command):
    """`manage.py send_issue ISSUE [--at ISO]`: schedule an issue, and watch it go out when that is now.

    Celery workers do the sending where they answer; otherwise this process does. Ctrl-C (or SIGTERM, or the end of the
    terminal) only stops watching where workers send; otherwise it finishes the chunks in hand; the rest stays queued.
    """

    help = "Send an issue now and watch it go out, or schedule it with --at."
    refusals = (scheduling.NotNow,)

    def add_arguments(self, parser: CommandParser) -> None:
        """ISSUE is an id, or newsletter and number."""
        parser.add_argument("issue", help="Its id (12), or newsletter and number (weekly/3).")
        parser.add_argument("--at", help="ISO date and time, by the newsletter's clock unless it names an offset.")
        parser.add_argument("--sure", action="store_true", help="Send it though it stood in a restored backup.")
        parser.add_argument("--over", type=float, metavar="HOURS", help="Spread the sending over so long, up to 72.")

    def run(self, options: commands.Options) -> Answer:
        """Schedule, then watch until the dispatch ends or pauses; refuses with what preflight finds."""
        issue = commands.find_issue(options["issue"])
        over = options["over"] or 0
        if not 0 <= over <= 72:
            raise CommandError("--over takes hours from 0 to 72.")
        spread = dt.timedelta(hours=over)
        at = _moment(options["at"])
        dispatch = issue.dispatches.filter(status__in=(*UNDER_WAY, Status.PAUSED)).first()
        if dispatch:
            _refuse_what_comes_late(dispatch, options)
        else:
            dispatch = self._schedule(issue, at, spread, sure=options["sure"])
        if at:
            data = {"issue": issue.pk, "dispatch": dispatch.pk, "status": dispatch.status}
            due_at = dispatch.due_at.isoformat() if dispatch.due_at else None
            when = scheduling.when(dispatch)
            text = (
                f"“{issue.title}” is scheduled for {', '.join(filter(None, [when, stats.spread(dispatch)]))}. A worker"
                " must run then: a Celery worker and beat, or `manage.py work`."
            )
            return Answer(text, {**data, "due_at": due_at})
        with commands.stopping() as stop:
            self._watch(issue, dispatch, stop, quiet=options["json"])
        data = stats.full_report(issue)
        if dispatch.status == Status.PAUSED:
            raise CommandError(f"Sending paused: {_how_it_goes_on(dispatch)}")
        return Answer(report_text(data), data)

    def _schedule(self, issue: Issue, at: dt.datetime | None, spread: dt.timedelta, *, sure: bool) -> Dispatch:
        try:
            return scheduling.schedule(issue, at, spread=spread, sure=sure)
        except scheduling.NotSure as error:
            raise CommandError(f"{error} Find out, then send it with --sure.") from error

    def _watch(self, issue: Issue, dispatch: Dispatch, stop: threading.Event, *, quiet: bool) -> None:
        enough = threading.Event()  # of working here: stopped, or there is nothing left to watch
        worker: threading.Thread | None = None
        if not _workers_answer():
            worker = _start_working(enough)
        moved_at, seen, line_at = time.monotonic(), -1, time.monotonic()
        try:
            with commands.progress_bar(remaining=False) as bar:  # the pace says it
                task = bar.add_task(f"Sending “{issue.title}”", total=None, said="")
                while dispatch.status in RUNNING and not stop.is_set():
                    live = _live(dispatch)
                    settled = live["numbers"]["through"]
                    bar.update(task, completed=settled, total=_total(dispatch, live), said=_details(live))
                    if settled != seen:
                        moved_at, seen = time.monotonic(), settled
                    if worker is None and time.monotonic() - moved_at > PATIENCE:
                        self._say("No worker moves it on; sending from this process.", quiet=quiet)
                        worker = _start_working(enough)
                    if not sys.stderr.isatty() and time.monotonic() - line_at > SECONDS_BETWEEN_LINES:
                        line_at = time.monotonic()
                        self._say(_line(dispatch, live, stats.put_off(dispatch)), quiet=quiet)
                    if time.monotonic() - moved_at > WAIT_FOR_LATER and stats.put_off(dispatch)["only"]:
                        break
                    stop.wait(0.1)
                    dispatch.refresh_from_db()
        finally:
            enough.set()
            if worker is not None:
                worker.join()
        if dispatch.status in RUNNING and stop.is_set():
            raise CommandError(
                f"Stopped watching; what is left stays queued. `manage.py send_issue {issue.pk}` goes on with it,"
                f" as workers do; `manage.py issue_report {issue.pk}` shows it; `manage.py cancel_issue {issue.pk}`"
                " ends it."
            )

    def _say(self, text: str, *, quiet: bool) -> None:
        if not quiet:
            self.stderr.write(text)


def _refuse_what_comes_late(dispatch: Dispatch, options: commands.Options) -> None:
    """Raise CommandError where `dispatch`, which has begun, is paused, or is to be sent otherwise than it is."""
    title = dispatch.issue.title if dispatch.issue else ""
    if dispatch.status == Status.PAUSED:
        raise CommandError(f"“{title}” is paused: {_how_it_goes_on(dispatch)}")
    asked = {"--at": options["at"] is not None, "--over": options["over"] is not None, "--sure": options["sure"]}
    given = [option for option, is_given in asked.items() if is_given]
    if given:
        raise CommandError(
            f"“{title}” is under way already, and its time can no longer be changed: without {' and '.join(given)},"
            f" `manage.py send_issue {dispatch.issue_id}` goes on watching it."
        )


def _how_it_goes_on(dispatch: Dispatch) -> str:
    """Why it is paused, and what to do."""
    return f"{dispatch.pause_reason.rstrip('.')}. `manage.py resume_issue {dispatch.issue_id}` goes on with it."


def _moment(text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    try:
        moment = parse_datetime(text)
    except ValueError as error:
        raise CommandError(f"“{text}” is no such moment: {error}.") from error
    if moment is None:
        raise CommandError(f"“{text}” is no date and time; write it like 2026-12-24T08:00.")
    return moment


def _live(dispatch: Dispatch) -> dict[str, Any]:
    """`progress.live`, with what it waits for in place of a pace."""
    live = progress.live(dispatch)
    return {**live, "pace": stats.waits_for(dispatch) or live["pace"]}


def _line(dispatch: Dispatch, live: dict[str, Any], put_off: dict[str, Any]) -> str:
    """Progress in words: `1,200 of 5,000; 3 refused; 310 a second, about 12 seconds left`."""
    total = _total(dispatch, live)
    if total is None:
        return "Preparing …"
    waiting = f"{put_off['deliveries']:,} were put off: {put_off['reply']}" if put_off["deliveries"] else ""
    return "; ".join(filter(None, [f"{live['numbers']['through']:,} of {total:,}", _details(live), waiting]))


def _details(live: dict[str, Any]) -> str:
    """What became of those that are through, where it is not simply sent, and how quickly it goes."""
    numbers = live["numbers"]
    states = [f"{numbers[status]:,} {word}" for status, word in WORDS.items() if numbers[status]]
    return "; ".join(filter(None, [", ".join(states), live["pace"]]))


def _total(dispatch: Dispatch, live: dict[str, Any]) -> int | None:
    """How many deliveries there are; None before the snapshot."""
    total: int = live["numbers"]["deliveries"]
    return None if dispatch.snapshot_at is None else total


def _workers_answer() -> bool:
    if not ENV.redis_url:
        return False
    try:
        answers: dict[str, Any] | None = app.control.inspect(timeout=1.0).ping()
    except (OperationalError, OSError):
        return False
    return bool(answers)


def _start_working(stop: threading.Event) -> threading.Thread:
    thread = threading.Thread(target=tasks.work, args=(stop,), kwargs={"seconds_between_looks": 0.1}, name="work")
    thread.start()
    return thread
