"""What stops a send: the switch, the invariants, too many failures, a restored backup; and what spreads one."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import logging
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.core import mail
from django.core.cache import cache
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.utils import timezone

from newsletter import deliveries, invariants, scheduling, sending, stats, tasks
from newsletter.admin.dispatches import progress
from newsletter.management.commands import issue_report, send_issue
from newsletter.models import Attempt, Batch, Delivery, Dispatch, Halt
from newsletter.settings import ENV
from newsletter.transports import Outcome, Result
from tests.making import issue_of, make_dispatch, make_issue, make_newsletter, make_reader
from tests.test_admin_issues import signed_in, text

pytestmark = pytest.mark.django_db

Status = Dispatch.Status


def attempt_on(batch: Batch, **fields: object) -> Attempt:
    number = Attempt.objects.count() + 1
    defaults = {"worker": "w", "transport": "smtp", "idempotency_key": f"{number:032x}"}
    return Attempt.objects.create(batch=batch, **{**defaults, **fields})


def claim(dispatch: Dispatch, *, limit: int = 10) -> tuple[Batch, list[deliveries.Claimed]]:
    batch = Batch.objects.filter(dispatch=dispatch).earliest("number")
    assert sending._take_lease(batch)
    return batch, deliveries.claim(batch, attempt=attempt_on(batch), limit=limit)


def status_of(dispatch: Dispatch) -> str:
    dispatch.refresh_from_db()
    return dispatch.status


def test_a_halted_site_claims_and_rings_nothing_until_the_halt_ends() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    call_command("halt_sending", "--reason", "The relay was sold.")
    assert scheduling.to_ring() == []
    batch, claimed = claim(dispatch)
    assert not claimed
    call_command("halt_sending", "--reason", "Too many complaints.")
    call_command("halt_sending", "--end")
    assert len(deliveries.claim(batch, attempt=attempt_on(batch), limit=10)) == 2
    with pytest.raises(CommandError, match="Nothing is halted"):
        call_command("halt_sending", "--end")


def test_two_accepts_for_one_delivery_stop_the_dispatch_and_alert(
    caplog: pytest.LogCaptureFixture, settings: object
) -> None:
    settings.ADMINS = [("", "desk@weekly.example")]  # type: ignore[attr-defined]
    dispatch = make_dispatch(make_newsletter(), readers=2)
    batch = Batch.objects.get()
    row = Delivery.objects.earliest("pk")
    for attempt in (attempt_on(batch), attempt_on(batch)):
        Delivery.objects.filter(pk=row.pk).update(status="sending", tries=1, attempt=attempt)
        answer = Outcome(delivery_id=row.pk, result=Result.ACCEPTED, reply="250 ok")
        deliveries.note(attempt, [answer], tries={row.pk: 1}, retry_seconds=1)
    with caplog.at_level(logging.ERROR):
        scheduling.check()
    assert status_of(dispatch) == Status.PAUSED
    assert dispatch.pause_reason == "1 mail was accepted for readers who had it already: they got it twice."
    assert "got it twice" in caplog.text
    assert [message.to for message in mail.outbox] == [["desk@weekly.example"]]


def test_an_honest_dispatch_breaches_nothing() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=3)
    _, rows = claim(dispatch, limit=2)
    attempt = Attempt.objects.get()
    answers = [Outcome(delivery_id=row.pk, result=Result.ACCEPTED, reply="250 ok") for row in rows]
    deliveries.note(attempt, answers, tries={row.pk: 1 for row in rows}, retry_seconds=1)
    assert invariants.accepted(dispatch) == 2
    assert invariants.breaches(dispatch) == []


@pytest.mark.parametrize("statements", [1, 2])
def test_a_chunk_that_is_noted_while_they_look_is_no_breach(statements: int) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=3)
    _, rows = claim(dispatch, limit=3)
    attempt = Attempt.objects.get()
    answers = [Outcome(delivery_id=row.pk, result=Result.ACCEPTED, reply="250 ok") for row in rows]
    asked = []

    def note_after(execute: Callable[..., Any], *statement: Any) -> Any:
        found = execute(*statement)
        asked.append(statement)
        if len(asked) == statements:
            deliveries.note(attempt, answers, tries={row.pk: 1 for row in rows}, retry_seconds=1)
        return found

    with connection.execute_wrapper(note_after):
        assert invariants.breaches(dispatch) == []
    assert invariants.breaches(dispatch) == []


def test_what_the_author_took_as_sent_is_no_breach() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    dispatch.deliveries.update(status="unconfirmed", tries=1)
    scheduling.accept_unconfirmed(dispatch)
    assert invariants.breaches(dispatch) == []


def test_invariants_are_checked_at_once_and_then_every_minute() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    scheduling.check()
    Delivery.objects.all().delete()
    scheduling.check()
    assert status_of(dispatch) == Status.SENDING
    Dispatch.objects.update(checked_at=timezone.now() - dt.timedelta(minutes=2))
    scheduling.check()
    assert status_of(dispatch) == Status.PAUSED


def test_too_many_failures_pause_and_a_resumed_dispatch_goes_on_until_as_many_more() -> None:
    weekly = make_newsletter()
    dispatch = make_dispatch(weekly, readers=60)
    rows = list(dispatch.deliveries.order_by("pk").values_list("pk", flat=True))

    def fail(pks: list[int]) -> None:
        Delivery.objects.filter(pk__in=pks).update(status="failed", tries=1)

    fail(rows[:19])
    scheduling.check()
    assert status_of(dispatch) == Status.SENDING
    fail(rows[:21])
    scheduling.check()
    assert status_of(dispatch) == Status.PAUSED
    assert "21 of 21 mails tried were refused" in dispatch.pause_reason
    scheduling.resume(dispatch)
    scheduling.check()
    assert status_of(dispatch) == Status.SENDING
    fail(rows[:42])
    scheduling.check()
    assert status_of(dispatch) == Status.PAUSED


def test_a_spread_send_rings_its_batches_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENV.__dict__, "batch_size", 1)
    weekly = make_newsletter()
    for _ in range(4):
        make_reader(weekly)
    dispatch = scheduling.schedule(make_issue(weekly), spread=dt.timedelta(hours=2))
    scheduling.start_due()
    scheduling.prepare(Dispatch.objects.get(pk=dispatch.pk))
    assert len(scheduling.to_ring()) == 1
    starts = list(Batch.objects.order_by("number").values_list("due_at", flat=True))
    assert starts[-1] is not None
    assert starts[0] is not None
    assert dt.timedelta(minutes=85) < starts[-1] - starts[0] < dt.timedelta(minutes=95)
    Batch.objects.update(due_at=timezone.now() - dt.timedelta(seconds=1))
    assert len(scheduling.to_ring()) == 3


def spread_over_two_hours(monkeypatch: pytest.MonkeyPatch, readers: int = 4) -> Dispatch:
    """A dispatch of a batch for each reader, which is SENDING."""
    monkeypatch.setitem(ENV.__dict__, "batch_size", 1)
    weekly = make_newsletter()
    for _ in range(readers):
        make_reader(weekly)
    dispatch = scheduling.schedule(make_issue(weekly), spread=dt.timedelta(hours=2))
    scheduling.start_due()
    dispatch.refresh_from_db()
    scheduling.prepare(dispatch)
    dispatch.refresh_from_db()
    cache.clear()
    return dispatch


def test_what_is_left_of_a_spread_send_is_said_by_its_plan_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatch = spread_over_two_hours(monkeypatch)
    last = Batch.objects.latest("number").due_at
    assert last is not None
    spread = re.compile(rf"spread over 2 hours, until about (\w+ \d+ \w+, )?{last:%H:%M} UTC")
    attempt_on(Batch.objects.earliest("number"), accepted=200, finished_at=timezone.now())
    Dispatch.objects.update(started_at=timezone.now() - dt.timedelta(minutes=5))
    dispatch.refresh_from_db()
    line = send_issue._line(dispatch, send_issue._live(dispatch), stats.put_off(dispatch))
    assert re.fullmatch(rf"0 of 4; 10 a second, about (90 minutes|2 hours) left; {spread.pattern}", line)
    report = issue_report.report_text(stats.full_report(issue_of(dispatch)))
    assert re.search(rf"It is {spread.pattern}\.", report)
    assert spread.search(text(signed_in("editor").get(f"/admin/newsletter/dispatch/{dispatch.pk}/change/")))
    assert progress.pace(dispatch, 0) == "10 a second"


def test_a_spread_send_takes_as_long_as_its_rate_says_where_that_is_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatch = spread_over_two_hours(monkeypatch)
    attempt_on(Batch.objects.earliest("number"), accepted=200, finished_at=timezone.now())
    Dispatch.objects.update(started_at=timezone.now() - dt.timedelta(minutes=5))
    dispatch.refresh_from_db()
    assert progress.pace(dispatch, 360_000) == "10 a second, about 10 hours left"


def test_the_plan_of_a_spread_send_ends_with_the_start_of_its_last_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatch = spread_over_two_hours(monkeypatch)
    Batch.objects.update(due_at=timezone.now() + dt.timedelta(days=1))
    ends = stats.plan_ends(dispatch)
    assert ends is not None
    assert ends < timezone.now() + dt.timedelta(hours=2), "what is put off beyond it is none of the plan"
    Batch.objects.update(due_at=timezone.now() - dt.timedelta(seconds=1))
    assert stats.spread(dispatch) == stats.count(dispatch)["spread"] == ""


@pytest.mark.parametrize(
    ("hours", "said"),
    [(1, "1 hour"), (2.5, "2.5 hours"), (72, "72 hours"), (0.5, "30 minutes"), (0.02, "1 minute")],
)
def test_a_schedule_says_over_how_long_it_is_spread(
    capsys: pytest.CaptureFixture[str], hours: float, said: str
) -> None:
    issue = make_issue(make_newsletter(time_zone="Europe/Berlin"))
    call_command("send_issue", str(issue.pk), "--at", "2099-11-30T08:00", "--over", str(hours))
    ends = dt.datetime(2099, 11, 30, 8) + dt.timedelta(hours=hours)
    phrase = f"spread over {said}, until about {ends:%a} {ends.day} {ends:%b, %H:%M} CET"
    assert f"is scheduled for Mon 30 Nov 2099, 08:00 CET, {phrase}. A worker must run then" in capsys.readouterr().out
    dispatch = Dispatch.objects.get()
    shown = text(signed_in("editor").get(f"/admin/newsletter/dispatch/{dispatch.pk}/change/"))
    assert f"It goes out on Mon 30 Nov 2099, 08:00 CET, {phrase}. Nothing has been sent yet." in shown


@pytest.mark.parametrize("late", [("--over", "5"), ("--over", "0"), ("--sure",), ("--at", "2099-01-01T08:00")])
def test_what_comes_too_late_for_an_issue_under_way_is_refused(late: tuple[str, ...]) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    with pytest.raises(CommandError, match=f"is under way already, and its time can no .* without {late[0]},"):
        call_command("send_issue", str(dispatch.issue_id), *late)


@pytest.mark.django_db(transaction=True)
def test_an_issue_under_way_is_watched_on_in_a_terminal_with_one_time_that_is_left(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatch = spread_over_two_hours(monkeypatch)
    Batch.objects.update(due_at=timezone.now() + dt.timedelta(hours=1))
    terminal, far_end = pty.openpty()
    fcntl.ioctl(far_end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "manage.py", "send_issue", str(dispatch.issue_id)]
    with subprocess.Popen(command, env=environment | {"TERM": "xterm"}, stdout=far_end, stderr=far_end) as watching:
        os.close(far_end)
        # The bar keeps what it said of the time for half a second.
        seen, deadline = "", time.monotonic() + 30
        while seen.count("UTC") < 15 and time.monotonic() < deadline:
            if select.select([terminal], [], [], 1)[0]:
                seen += os.read(terminal, 65536).decode(errors="replace")
        watching.terminate()
        with contextlib.suppress(OSError):  # it has hung up
            while os.read(terminal, 65536):
                pass
        assert watching.wait(30) == 1
    os.close(terminal)
    assert "0/4" in seen
    assert "about 60 minutes left; spread over 2 hours, until about" in " ".join(seen.split())
    assert not re.search(r"\d:\d\d:\d\d|-:--", seen)


@pytest.mark.parametrize("options", [(), ("--over", "5")])
def test_who_sends_a_paused_issue_hears_why_it_is_paused_and_how_it_goes_on(options: tuple[str, ...]) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    scheduling.pause(dispatch, "A wrong link")
    with pytest.raises(CommandError) as refused:
        call_command("send_issue", str(dispatch.issue_id), *options)
    title = issue_of(dispatch).title
    resume = f"`manage.py resume_issue {dispatch.issue_id}` goes on with it."
    assert str(refused.value) == f"“{title}” is paused: A wrong link. {resume}"


def test_a_ring_lives_until_its_batch_is_rung_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a send that takes longer than its rings live would stand still until then."""
    rings: list[dict[str, object]] = []
    monkeypatch.setattr(tasks.send_batch, "apply_async", lambda _, **how: rings.append(how))
    make_dispatch(make_newsletter(), readers=1)
    tasks.tick()
    assert [ring["expires"] for ring in rings] == [ENV.lease_seconds]


def fill(dispatch: Dispatch, statuses: dict[str, tuple[int, str]]) -> None:
    """Give so many of its queued deliveries each status, and their readers addresses at that domain."""
    for status, (number, domain) in statuses.items():
        rows = dispatch.deliveries.filter(status="queued").order_by("pk")[:number]
        for row in rows.select_related("subscriber"):
            assert row.subscriber is not None
            row.subscriber.address_key = f"reader{row.pk}@{domain}"
            row.subscriber.save(update_fields=["address_key"])
            Delivery.objects.filter(pk=row.pk).update(status=status, tries=1, settled_at=timezone.now())
    sent = dispatch.deliveries.filter(status="sent").count()
    Attempt.objects.filter(batch__dispatch=dispatch).delete()
    attempt_on(Batch.objects.filter(dispatch=dispatch).earliest("number"), accepted=sent)


def test_a_domain_that_refuses_pauses_though_the_rest_goes_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling.ticking, "FAILURES_TO_PAUSE", 3)
    dispatch = make_dispatch(make_newsletter(), readers=90)
    fill(dispatch, {"failed": (2, "big.example"), "sent": (80, "other.example")})
    scheduling.check()
    assert status_of(dispatch) == Status.SENDING, "too few to tell"
    fill(dispatch, {"failed": (1, "big.example")})
    scheduling.check()
    assert status_of(dispatch) == Status.PAUSED
    assert dispatch.pause_reason.startswith("big.example refuses this: 3 of 3 mails tried there, more than 5%.")
    scheduling.resume(dispatch)
    fill(dispatch, {"sent": (1, "big.example")})
    scheduling.check()
    assert status_of(dispatch) == Status.SENDING, "the author took note of these"


def test_a_domain_that_takes_nearly_everything_does_not_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling.ticking, "FAILURES_TO_PAUSE", 3)
    dispatch = make_dispatch(make_newsletter(), readers=70)
    fill(dispatch, {"failed": (3, "big.example"), "sent": (57, "big.example")})
    scheduling.check()
    assert status_of(dispatch) == Status.SENDING
    fill(dispatch, {"failed": (1, "big.example"), "sent": (5, "other.example")})
    scheduling.check()
    assert status_of(dispatch) == Status.PAUSED


def test_refusals_are_told_apart_by_domain_only_when_there_are_more_of_them() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    assert scheduling.ticking._have_grown(dispatch, 20)
    assert not scheduling.ticking._have_grown(dispatch, 20)
    assert not scheduling.ticking._have_grown(dispatch, 21)
    assert scheduling.ticking._have_grown(dispatch, 23)


def test_the_first_page_and_the_dispatch_say_that_it_does_not_add_up() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    desk = signed_in("editor")
    assert "does not add up" not in text(desk.get("/admin/"))
    Delivery.objects.filter(pk=Delivery.objects.earliest("pk").pk).delete()
    scheduling.check()
    for page in ("/admin/", f"/admin/newsletter/dispatch/{dispatch.pk}/change/"):
        shown = text(desk.get(page))
        assert "does not add up" in shown
        assert "2 candidates only 1 deliveries" in shown
    scheduling.resume(dispatch)
    assert "does not add up" not in text(desk.get("/admin/"))


def test_a_pause_by_hand_is_no_breach() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    scheduling.pause(dispatch, "A wrong link.")
    assert "does not add up" not in text(signed_in("editor").get("/admin/"))


def test_the_first_page_says_that_all_sending_is_halted() -> None:
    make_newsletter()
    scheduling.halt("The relay was sold.")
    shown = text(signed_in("editor").get("/admin/"))
    assert "All sending is halted." in shown
    assert f"The relay was sold (since {Halt.objects.get().since:%Y-%m-%d %H:%M} UTC)." in shown


def test_who_halts_what_is_halted_hears_since_when_and_why_and_adds_a_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def said(*words: str) -> str:
        call_command("halt_sending", *words)
        return capsys.readouterr().out

    assert said("--reason", "The relay was sold.").startswith("Halted: ")
    since = f"(since {Halt.objects.get().since:%Y-%m-%d %H:%M} UTC)"
    again = f"Sending is halted already: The relay was sold {since}. Nothing has changed"
    assert said().startswith(again)
    assert said("--reason", "The relay was sold.").startswith(again)
    added = said("--reason", "Too many complaints")
    assert added.startswith(f"Sending was halted already: The relay was sold {since}. Your reason stands beside that")
    data = json.loads(said("--json"))
    assert [halt["reason"] for halt in data["reasons"]] == ["The relay was sold.", "Too many complaints"]
    both = re.compile(r"The relay was sold \(since [^)]+\); Too many complaints \(since [^)]+\)\.")
    make_newsletter()
    shown = text(signed_in("editor").get("/admin/"))
    assert shown.count("All sending is halted.") == 1
    assert both.search(shown)
    assert both.search(said("--end"))
    assert not Halt.objects.exists()


def test_a_halt_without_a_reason_says_that_somebody_did_it(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("halt_sending")
    call_command("halt_sending")
    assert "By hand (since " in capsys.readouterr().out
    assert Halt.objects.count() == 1


def test_whoever_watches_a_send_is_told_that_the_site_is_halted() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    scheduling.halt("The relay was sold.")
    assert "All sending of this site is halted: The relay was sold (since " in stats.count(dispatch)["waits_for"]
    assert "halted: The relay was sold (since " in send_issue._line(
        dispatch, send_issue._live(dispatch), stats.put_off(dispatch)
    )
    assert "The relay was sold (" in text(signed_in("editor").get(f"/admin/newsletter/dispatch/{dispatch.pk}/change/"))
    scheduling.end_halt()
    assert stats.count(dispatch)["waits_for"] == ""


def test_progress_says_how_many_how_quickly_and_what_went_wrong() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=4)
    fill(dispatch, {"sent": (2, "readers.example"), "failed": (1, "readers.example")})
    Attempt.objects.update(accepted=200, finished_at=timezone.now())
    Dispatch.objects.update(started_at=timezone.now() - dt.timedelta(seconds=10))
    dispatch.refresh_from_db()
    cache.clear()
    said = send_issue._line(dispatch, progress.live(dispatch), stats.put_off(dispatch))
    assert re.fullmatch(r"3 of 4; 1 refused; (19|20) a second, about a second left", said)
