"""The page of a dispatch: its state as it happens, its sums, and what may be done about it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext

from newsletter import scheduling
from newsletter.admin.dispatches import progress
from newsletter.models import Attempt, Batch, Delivery, Dispatch
from tests.making import issue_of, make_dispatch, make_issue, make_newsletter, make_reader
from tests.test_admin_issues import signed_in, text

pytestmark = pytest.mark.django_db

Status = Delivery.Status
ACTS = ("unschedule", "pause", "resume", "cancel", "note", "resend", "accept", "retry")


@pytest.fixture(autouse=True)
def _nothing_counted_before() -> None:
    """Counts are kept for a second, and ids come again in each test."""
    cache.clear()


def page_of(dispatch: Dispatch, name: str = "change") -> str:
    return f"/admin/newsletter/dispatch/{dispatch.pk}/{name}/"


def settle(dispatch: Dispatch, **numbers: int) -> None:
    """Give as many of the queued deliveries each status as `numbers` says."""
    for status, number in numbers.items():
        rows = Delivery.objects.filter(dispatch=dispatch, status=Status.QUEUED).order_by("pk")[:number]
        Delivery.objects.filter(pk__in=list(rows.values_list("pk", flat=True))).update(
            status=status, tries=1, reply="550 no such (address)" if status == Status.FAILED else ""
        )


def act(client: Client, dispatch: Dispatch, name: str, **posted: str) -> str:
    """Post that act; the page it comes back to."""
    cache.clear()
    answer: HttpResponse = client.post(page_of(dispatch, name), posted, follow=True)  # type: ignore[assignment]
    dispatch.refresh_from_db()
    return text(answer)


class TestPage:
    def test_accounts_for_everybody(self) -> None:
        newsletter = make_newsletter()
        make_reader(newsletter, status="paused")
        make_reader(newsletter, status="unsubscribed")
        make_reader(newsletter, status="unsubscribed")
        dispatch = make_dispatch(newsletter, readers=5)
        shown = text(signed_in("analyst").get(page_of(dispatch)))
        assert "Of 8 candidates: 5 deliveries + 3 left out (2 left, 1 paused)." in shown
        assert "The sums agree" in shown

    def test_says_when_the_sums_do_not_agree(self) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=2)
        Dispatch.objects.filter(pk=dispatch.pk).update(candidates=3)
        assert "The sums do not agree" in text(signed_in("analyst").get(page_of(dispatch)))

    def test_lists_what_is_in_doubt_without_an_address(self) -> None:
        newsletter = make_newsletter()
        make_reader(newsletter, "somebody@readers.example")
        dispatch = make_dispatch(newsletter)
        settle(dispatch, failed=1)
        shown = text(signed_in("editor").get(page_of(dispatch)))
        delivery = Delivery.objects.get()
        assert "550 no such (address)" in shown
        assert f"/admin/subscribers/subscriber/{delivery.subscriber_id}/change/" in shown
        assert "somebody@readers.example" not in shown

    def test_leads_to_the_reader_only_those_who_may_see_people(self) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=1)
        settle(dispatch, failed=1)
        assert "/admin/subscribers/subscriber/" not in text(signed_in("author").get(page_of(dispatch)))

    def test_turns_the_pages_of_a_long_list_by_key(self) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=60)
        settle(dispatch, unconfirmed=60)
        client = signed_in("analyst")
        first: Any = client.get(page_of(dispatch))
        assert len(first.context["listed"]["rows"]) == 50
        second: Any = client.get(page_of(dispatch) + first.context["listed"]["next"])
        assert len(second.context["listed"]["rows"]) == 10
        rows = [row.pk for page in (first, second) for row, _, _ in page.context["listed"]["rows"]]
        assert len(set(rows)) == 60

    def test_says_why_it_is_paused(self) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=1)
        scheduling.pause(dispatch, "The mail server refuses this sender.")
        assert "The mail server refuses this sender." in text(signed_in("analyst").get(page_of(dispatch)))

    def test_says_how_much_still_goes_out_of_what_is_paused(self) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=3)
        settle(dispatch, sending=2)
        client = signed_in("analyst")
        assert "still go out" not in text(client.get(page_of(dispatch)))
        scheduling.pause(dispatch, "A wrong link.")
        shown = client.get(page_of(dispatch))
        assert "2 mails in hand still go out." in text(shown)
        assert shown.context["live"]["moving"]
        Delivery.objects.filter(status=Status.SENDING).update(status=Status.SENT)
        cache.clear()
        settled = client.get(page_of(dispatch))
        assert "in hand still" not in text(settled)
        assert not settled.context["live"]["moving"]

    def test_never_rests_on_what_was_counted_before_it_was_paused(self) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=3)
        client = signed_in("editor")
        client.get(page_of(dispatch))
        settle(dispatch, sending=2)
        shown = client.post(page_of(dispatch, "pause"), follow=True)
        assert "2 mails in hand still go out." in text(shown)
        assert shown.context["live"]["moving"]

    def test_reloads_itself_without_a_script_while_it_runs_and_only_then(self) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=1)
        client = signed_in("analyst")
        assert 'http-equiv="refresh"' in text(client.get(page_of(dispatch)))
        settle(dispatch, sent=1)
        scheduling.finish()
        cache.clear()
        assert 'http-equiv="refresh"' not in text(client.get(page_of(dispatch)))

    def test_asks_few_questions(self) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=30)
        settle(dispatch, unconfirmed=20)
        client = signed_in("editor")
        with CaptureQueriesContext(connection) as captured:
            client.get(page_of(dispatch))
        assert len(captured) <= 17

    def test_of_a_single_message_is_none(self) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=1)
        Dispatch.objects.filter(pk=dispatch.pk).update(kind="single", issue=None)
        assert signed_in("editor").get(page_of(dispatch)).status_code == 404


class TestLive:
    def test_tells_the_numbers(self) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=10)
        settle(dispatch, sent=4, skipped=1)
        state = signed_in("analyst").get(page_of(dispatch, "live")).json()
        assert state["percent"] == 50
        assert state["numbers"] == {
            **dict.fromkeys(("sending", "failed", "unconfirmed"), 0),
            "queued": 5,
            "sent": 4,
            "skipped": 1,
            "deliveries": 10,
            "through": 5,
        }
        assert state["moving"]

    def test_counts_the_rows_once_however_many_watch(self) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=3)
        progress.counts(dispatch)
        with CaptureQueriesContext(connection) as captured:
            progress.counts(dispatch)
        assert len(captured) == 0

    def test_has_ended_when_nothing_moves(self) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=1)
        settle(dispatch, sent=1)
        scheduling.finish()
        state = signed_in("analyst").get(page_of(dispatch, "live")).json()
        assert (state["status"], state["percent"], state["moving"]) == ("sent", 100, False)

    def test_counts_down_to_the_start(self) -> None:
        issue = make_issue(make_newsletter())
        dispatch = scheduling.schedule(issue, dt.datetime.now(dt.UTC) + scheduling.UNDO_WINDOW)
        state = signed_in("analyst").get(page_of(dispatch, "live")).json()
        assert 5 <= state["starts_in"] <= 10
        assert state["moving"]

    def test_says_the_pace_and_what_is_left(self) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=1)
        Dispatch.objects.filter(pk=dispatch.pk).update(started_at=dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5))
        dispatch.refresh_from_db()
        batch = Batch.objects.get(dispatch=dispatch)
        Attempt.objects.create(
            batch=batch,
            worker="w",
            transport="smtp",
            idempotency_key="0" * 32,
            accepted=200,
            finished_at=dt.datetime.now(dt.UTC),
        )
        assert progress.pace(dispatch, 600) == "10 a second, about 60 seconds left"
        assert progress.pace(dispatch, 0) == "10 a second"


class TestActs:
    def test_pause_and_resume(self) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=1)
        client = signed_in("editor")
        assert "A wrong link." in act(client, dispatch, "pause", reason="A wrong link.")
        assert dispatch.status == "paused"
        act(client, dispatch, "resume")
        assert dispatch.status == "sending"

    def test_a_pause_without_a_reason_names_who_paused(self) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=1)
        assert "Paused by editor." in act(signed_in("editor"), dispatch, "pause")

    def test_cancel_asks_first_and_says_what_happens(self) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=3)
        settle(dispatch, sent=1)
        client = signed_in("editor")
        asked = text(client.get(page_of(dispatch, "cancel")))
        assert "2 readers still waiting for it will not get it." in asked
        assert "1 reader got it already" in asked
        dispatch.refresh_from_db()
        assert dispatch.status == "sending"
        act(client, dispatch, "cancel")
        assert dispatch.status == "cancelled"
        assert Delivery.objects.filter(status=Status.SKIPPED, reason="cancelled").count() == 2

    def test_what_is_in_doubt_is_sent_again_or_taken_as_sent(self) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=2)
        settle(dispatch, unconfirmed=2)
        client = signed_in("editor")
        assert "Some may get it twice." in text(client.get(page_of(dispatch, "resend")))
        assert "2 mails are sent again." in act(client, dispatch, "resend")
        assert Delivery.objects.filter(status=Status.QUEUED).count() == 2
        settle(dispatch, unconfirmed=2)
        assert "2 mails are taken as sent." in act(client, dispatch, "accept")
        assert Delivery.objects.filter(status=Status.SENT).count() == 2
        for name in ("resend", "accept"):  # by a page that is older than that
            assert "Nothing is in doubt any more." in act(client, dispatch, name)
        assert "No mail that was refused is left." in act(client, dispatch, "retry")

    def test_what_was_refused_is_tried_again(self) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=1)
        settle(dispatch, failed=1)
        assert "1 mail is tried again." in act(signed_in("editor"), dispatch, "retry")

    def test_what_can_no_longer_be_done_is_said_in_a_sentence(self) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=1)
        client = signed_in("editor")
        assert "It has started: pause or cancel it." in act(client, dispatch, "unschedule")
        assert "It is not paused." in act(client, dispatch, "resume")

    def test_shows_only_what_can_be_done_now(self) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=1)
        client = signed_in("editor")
        shown = text(client.get(page_of(dispatch)))
        assert page_of(dispatch, "pause") in shown
        assert page_of(dispatch, "resume") not in shown
        assert page_of(dispatch, "retry") not in shown


class TestRoles:
    @pytest.mark.parametrize("role", ["author", "analyst"])
    @pytest.mark.parametrize("name", ACTS)
    def test_only_an_editor_acts(self, role: str, name: str) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=1)
        client = signed_in(role)
        assert client.post(page_of(dispatch, name)).status_code == 403
        assert client.get(page_of(dispatch, name)).status_code == 403
        dispatch.refresh_from_db()
        assert dispatch.status == "sending"

    @pytest.mark.parametrize("role", ["author", "analyst"])
    def test_who_only_reads_sees_no_button(self, role: str) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=1)
        shown = text(signed_in(role).get(page_of(dispatch)))
        assert issue_of(dispatch).title in shown
        assert all(page_of(dispatch, name) not in shown for name in ACTS)

    @pytest.mark.parametrize("name", ["unschedule", "pause", "resume", "note"])
    def test_looking_changes_nothing(self, name: str) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=1)
        assert signed_in("editor").get(page_of(dispatch, name)).status_code == 405

    def test_a_forged_post_is_refused(self) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=1)
        strict = Client(enforce_csrf_checks=True)
        strict.cookies = signed_in("editor").cookies
        assert strict.post(page_of(dispatch, "pause")).status_code == 403

    def test_nobody_edits_or_deletes_a_dispatch(self) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=1)
        client = signed_in("editor")
        assert client.get(page_of(dispatch, "delete")).status_code == 403
        assert client.get("/admin/newsletter/dispatch/add/").status_code == 403

    def test_who_is_not_signed_in_sees_nothing(self) -> None:
        dispatch = make_dispatch(make_newsletter(), readers=1)
        for name in ("change", "live", "cancel"):
            assert "/admin/login/" in Client().get(page_of(dispatch, name))["Location"]
