"""After a backup was restored nothing that stood in it goes out unasked: what was open, due, refused or a draft."""

from __future__ import annotations

import datetime as dt
import io
import json
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from newsletter import scheduling, stats
from newsletter.models import Delivery, Dispatch, Issue, Newsletter
from newsletter.scheduling import NotNow, NotSure
from subscribers.models import Subscriber
from tests.making import issue_of, make_dispatch, make_issue, make_newsletter, make_reader
from tests.test_admin_issues import page_of, signed_in, text

pytestmark = pytest.mark.django_db

HOUR = dt.timedelta(hours=1)
Status = Dispatch.Status


@pytest.fixture
def weekly() -> Newsletter:
    newsletter = make_newsletter()
    make_reader(newsletter)
    return newsletter


def restore() -> str:
    out = io.StringIO()
    call_command("distrust", "--since", (timezone.now() - HOUR).isoformat(), stdout=out)
    return out.getvalue()


def status_of(dispatch: Dispatch) -> str:
    dispatch.refresh_from_db()
    return dispatch.status


def tick() -> None:
    scheduling.start_due()
    for pk in scheduling.to_prepare():
        scheduling.prepare(Dispatch.objects.get(pk=pk))
    scheduling.finish()
    scheduling.check()


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01T00:00", "2999-01-01T00:00"])
def test_distrust_needs_a_moment_that_has_been(since: str) -> None:
    with pytest.raises(CommandError):
        call_command("distrust", "--since", since)


def test_what_was_open_is_in_doubt_and_its_dispatch_paused() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=3)
    Delivery.objects.filter(pk=dispatch.deliveries.earliest("pk").pk).update(status="sent", tries=1)
    said = restore()
    assert status_of(dispatch) == Status.PAUSED
    report = stats.count(dispatch)
    assert (report["sent"], report["unconfirmed"], report["queued"]) == (1, 2, 0)
    assert stats.sums_agree(report)
    assert "2 deliveries are in doubt" in said
    assert f"Paused in mid-send, to be settled and resumed: “{dispatch.issue}”" in said


def test_what_was_put_back_into_a_dispatch_that_had_ended_is_in_doubt() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    Dispatch.objects.update(status=Status.SENT, finished_at=timezone.now())
    restore()
    tick()
    assert status_of(dispatch) == Status.SENT
    assert stats.count(dispatch)["unconfirmed"] == 2


@pytest.mark.parametrize("ahead", [-3 * HOUR, dt.timedelta(minutes=-5), 50 * HOUR])
def test_a_scheduled_issue_waits_for_somebody_whenever_it_is_due(weekly: Newsletter, ahead: dt.timedelta) -> None:
    dispatch = scheduling.schedule(make_issue(weekly), timezone.now() + HOUR)
    wall = scheduling.wall_time_in(timezone.now() + ahead, "UTC").replace(tzinfo=dt.UTC)
    Dispatch.objects.update(due_at=timezone.now() + ahead, wall_time=wall, time_zone="UTC")
    said = restore()
    tick()
    assert status_of(dispatch) == Status.PAUSED
    assert f"waiting for somebody to resume or cancel them: “{dispatch.issue}”" in said
    shown = text(signed_in("editor").get(f"/admin/newsletter/dispatch/{dispatch.pk}/change/"))
    assert f"if “{dispatch.issue}” went out after it, readers get it twice." in shown
    with pytest.raises(NotNow, match="resume or cancel it first"):
        scheduling.schedule(issue_of(dispatch), timezone.now() + HOUR, sure=True)
    scheduling.resume(dispatch)
    assert status_of(dispatch) == Status.SCHEDULED
    tick()
    assert status_of(dispatch) == {-3 * HOUR: Status.MISSED, 50 * HOUR: Status.SCHEDULED}.get(ahead, Status.SENDING)


def test_a_waiting_issue_that_is_cancelled_is_a_draft_that_is_asked_about(weekly: Newsletter) -> None:
    dispatch = scheduling.schedule(make_issue(weekly), timezone.now() + HOUR)
    restore()
    scheduling.cancel(dispatch)
    with pytest.raises(NotSure):
        scheduling.schedule(issue_of(dispatch))


def test_one_that_was_being_prepared_is_sent_only_once_somebody_resumes_it(weekly: Newsletter) -> None:
    dispatch = scheduling.schedule(make_issue(weekly))
    scheduling.start_due()
    restore()
    tick()
    assert status_of(dispatch) == Status.PAUSED
    assert "readers get it twice" in dispatch.pause_reason
    scheduling.resume(dispatch)
    tick()
    assert status_of(dispatch) == Status.SENDING


def test_a_draft_is_asked_about_once(weekly: Newsletter) -> None:
    issue = make_issue(weekly)
    restore()
    with pytest.raises(NotSure, match="restored from a backup of"):
        scheduling.schedule(issue, timezone.now() + HOUR)
    scheduling.unschedule(scheduling.schedule(issue, timezone.now() + HOUR, sure=True))
    for _ in range(2):
        scheduling.unschedule(scheduling.schedule(issue, timezone.now() + HOUR))
    restore()
    with pytest.raises(NotSure):
        scheduling.schedule(issue, timezone.now() + HOUR)


def test_the_oldest_backup_is_named_that_it_may_have_gone_out_after(weekly: Newsletter) -> None:
    issue = make_issue(weekly)
    for days in (3, 9, 1):
        scheduling.distrust(timezone.now() - dt.timedelta(days=days))
    oldest = (timezone.now() - dt.timedelta(days=9)).astimezone(dt.UTC)
    assert f"a backup of {oldest:%Y-%m-%d}" in scheduling.unsure(issue)


def test_what_is_made_after_the_restoration_is_nobody_s_doubt(weekly: Newsletter) -> None:
    restore()
    dispatch = scheduling.schedule(make_issue(weekly))
    tick()
    assert status_of(dispatch) == Status.SENDING
    Delivery.objects.update(status="failed", tries=1, settled_at=timezone.now())
    assert scheduling.retry_failed(dispatch) == 1


def test_what_was_refused_before_is_asked_about_and_what_is_refused_since_is_not(weekly: Newsletter) -> None:
    dispatch = make_dispatch(weekly, readers=1)
    Delivery.objects.update(status="failed", tries=1, settled_at=timezone.now())
    Dispatch.objects.update(status=Status.SENT, finished_at=timezone.now())
    restore()
    with pytest.raises(NotSure, match="tried again after it"):
        scheduling.retry_failed(dispatch)
    with pytest.raises(CommandError, match="--sure"):
        call_command("settle_issue", str(dispatch.issue_id), "--retry-failed")
    question = signed_in("editor").get(f"/admin/newsletter/dispatch/{dispatch.pk}/retry/")
    assert "readers may get it twice" in text(question)
    call_command("settle_issue", str(dispatch.issue_id), "--retry-failed", "--sure", stdout=io.StringIO())
    assert status_of(dispatch) == Status.SENDING
    Delivery.objects.update(status="failed", settled_at=timezone.now())
    assert scheduling.retry_failed(dispatch) == 2


def test_the_admin_warns_at_both_buttons_and_takes_nothing_without_the_tick(weekly: Newsletter) -> None:
    issue = make_issue(weekly)
    desk = signed_in("editor")
    assert "restored from a backup" not in text(desk.get(page_of(issue, "send")))
    restore()
    day = (timezone.now() + dt.timedelta(days=3)).date().isoformat()
    time = {"day": day, "time": "08:00"}
    for page in (desk.get(page_of(issue, "send")), desk.get(page_of(issue, "send"), time)):
        assert f"if “{issue}” went out after it, readers get it twice." in text(page)
        assert page.content.count(b'name="sure" required') == 1
    for form in ({"do": "now"}, {"do": "schedule", **time}):
        assert_asked(desk, issue, form)


def assert_asked(desk: Client, issue: Issue, form: dict[str, Any]) -> None:
    assert "readers get it twice" in text(desk.post(page_of(issue, "send"), form, follow=True))
    assert not Dispatch.objects.filter(status=Status.SCHEDULED).exists()
    desk.post(page_of(issue, "send"), {**form, "sure": "on"})
    dispatch = Dispatch.objects.get(status=Status.SCHEDULED)
    scheduling.unschedule(dispatch)
    Dispatch.objects.all().delete()


def test_the_command_asks_too(weekly: Newsletter) -> None:
    issue = make_issue(weekly)
    restore()
    at = (timezone.now() + HOUR).isoformat()
    with pytest.raises(CommandError, match="send it with --sure"):
        call_command("send_issue", str(issue.pk), "--at", at)
    call_command("send_issue", str(issue.pk), "--at", at, "--sure", stdout=io.StringIO())
    assert Dispatch.objects.get().status == Status.SCHEDULED


def test_the_command_says_in_json_what_waits_for_whom(weekly: Newsletter) -> None:
    running = make_dispatch(weekly, readers=1)
    waiting = scheduling.schedule(make_issue(weekly), timezone.now() + HOUR)
    out = io.StringIO()
    call_command("distrust", "--since", (timezone.now() - HOUR).isoformat(), "--json", stdout=out)
    assert json.loads(out.getvalue()) == {
        "unconfirmed": 2,
        "cancelled": 0,
        "paused": [running.pk],
        "waiting": [waiting.pk],
    }


def test_single_messages_go_out_no_more_and_whoever_misses_one_asks_again(weekly: Newsletter) -> None:
    reader = Subscriber.objects.get()
    single = scheduling.send_single(reader, weekly, subject="Please confirm", body="Hello.")
    said = restore()
    assert "Single messages cancelled, since whoever misses one asks again: 1." in said
    assert "Paused" not in said
    tick()
    assert status_of(single) == Status.CANCELLED
    assert (single.deliveries.get().status, single.deliveries.get().reason) == ("skipped", "cancelled")
    again = scheduling.send_single(reader, weekly, subject="Please confirm", body="Hello.")
    tick()
    assert status_of(again) == Status.SENDING


# Whatever stood in it, and whatever is done without anybody being sure

STANDS = ("draft", "undone", "soon", "later", "missed", "preparing", "sending", "paused", "refused", "cancelled")
ACTS = ("tick", "schedule", "unschedule", "retry", "new")


def put(weekly: Newsletter, state: str) -> Issue:
    issue = make_issue(weekly)
    if state == "draft":
        return issue
    dispatch = scheduling.schedule(issue, None if state not in ("later", "undone") else timezone.now() + HOUR)
    if state in ("undone", "cancelled"):
        (scheduling.unschedule if state == "undone" else scheduling.cancel)(dispatch)
    if state == "missed":
        Dispatch.objects.filter(pk=dispatch.pk).update(status=Status.MISSED)
    if state in ("preparing", "sending", "paused", "refused"):
        Dispatch.objects.filter(pk=dispatch.pk).update(status=Status.PREPARING, started_at=timezone.now())
    if state in ("sending", "paused", "refused"):
        scheduling.prepare(Dispatch.objects.get(pk=dispatch.pk))
    if state == "paused":
        scheduling.pause(dispatch, "A wrong link.")
    if state == "refused":
        dispatch.deliveries.update(status="failed", tries=1, settled_at=timezone.now())
        Dispatch.objects.filter(pk=dispatch.pk).update(status=Status.SENT, finished_at=timezone.now())
    return issue


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    states=st.lists(st.sampled_from(STANDS), min_size=1, max_size=4),
    acts=st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 3)), max_size=10),
)
def test_nothing_that_stood_in_the_backup_goes_out_unless_somebody_is_sure(
    weekly: Newsletter, states: list[str], acts: list[tuple[str, int]]
) -> None:
    issues = [put(weekly, state) for state in states]
    scheduling.distrust(timezone.now() - HOUR)
    young = []
    for act, index in acts:
        issue = issues[index % len(issues)]
        dispatch = issue.dispatches.order_by("-pk").first()
        try:
            if act == "tick":
                tick()
            elif act == "schedule":
                scheduling.schedule(issue)
            elif act == "unschedule" and dispatch:
                scheduling.unschedule(dispatch)
            elif act == "retry" and dispatch:
                scheduling.retry_failed(dispatch)
            elif act == "new":
                young.append(scheduling.schedule(make_issue(weekly)))
        except NotNow:
            continue
    tick()
    old = Dispatch.objects.filter(issue__in=issues)
    assert not old.filter(status__in=(Status.SCHEDULED, Status.PREPARING, Status.SENDING)).exists()
    assert not Delivery.objects.filter(dispatch__in=old, status__in=("queued", "sending")).exists()
    assert {status_of(dispatch) for dispatch in young} <= {Status.SENDING}
