"""Webhooks: what happened is written down in its own transaction, told at least once, and given up in the end."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from newsletter import scheduling, tasks
from newsletter.hooks import calling, destinations, occurring, payload, tidying, turns
from newsletter.models import Call, Dispatch, Hook, Newsletter, Occurrence
from newsletter.settings import ENV
from subscribers import consent, importing
from subscribers.models import Membership, Subscription, Suppression, Tier
from tests.conftest import Start
from tests.hook_receiver import Answer, Receiver, receiving, say, wait_for_release
from tests.making import make_dispatch, make_hook, make_newsletter, make_reader, make_subscriber
from tests.waiting import until

pytestmark = pytest.mark.django_db

Status = Call.Status
Kind = Occurrence.Kind
HOUR = dt.timedelta(hours=1)


@pytest.fixture(autouse=True)
def _private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destinations, "ENV", ENV.model_copy(update={"hooks_private": True}))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def newsletter() -> Newsletter:
    return make_newsletter()


def told() -> list[str]:
    """What is written down to be told, in order."""
    return list(Occurrence.objects.order_by("pk").values_list("kind", flat=True))


def data() -> dict[str, Any]:
    """The data of the latest occurrence, as it would be sent."""
    latest = Occurrence.objects.select_related("newsletter", "subscriber").order_by("-pk")[0]
    parsed: dict[str, Any] = json.loads(payload.body(latest))["data"]
    return parsed


def make_due(**fields: Any) -> None:
    """Time passes, for every hook and call; `fields` are the hooks'."""
    Hook.objects.update(rests_until=None, rung_at=None, **fields)
    Call.objects.update(due_at=Now() - HOUR)


# --- What is written down


def test_a_subscription_is_told_from_asking_to_leaving(newsletter: Newsletter) -> None:
    make_hook()
    reader = make_subscriber("ada@readers.example", name="Ada", tier="paid")
    requested = consent.request(reader, newsletter, source="subscribe form", evidence=consent.Evidence())
    consent.confirm(requested, source="confirmation page", evidence=consent.Evidence())
    subscription = Subscription.objects.get()
    consent.pause(subscription, source="preferences")
    consent.resume(subscription, source="preferences")
    consent.unsubscribe(subscription, source="one click")
    assert told() == [Kind.UPGRADED, Kind.REQUESTED, Kind.CONFIRMED, Kind.PAUSED, Kind.RESUMED, Kind.UNSUBSCRIBED]
    assert data() == {
        "newsletter": "weekly",
        "subscriber": {"id": str(reader.public_id), "address": "ada@readers.example", "name": "Ada"},
        "status": "unsubscribed",
        "tier": {"slug": "paid", "level": 1},
        "source": "one click",
    }


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (Suppression.Reason.HARD_BOUNCE, Kind.BOUNCED),
        (Suppression.Reason.SOFT_BOUNCE, Kind.BOUNCED),
        (Suppression.Reason.COMPLAINT, Kind.COMPLAINED),
        (Suppression.Reason.MANUAL, Kind.SUPPRESSED),
    ],
)
def test_a_suppression_is_told_by_its_reason_and_once(
    newsletter: Newsletter, reason: Suppression.Reason, kind: Kind
) -> None:
    make_hook()
    reader = make_reader(newsletter).subscriber
    for _ in range(2):
        consent.suppress(reader.fingerprint, reason=reason, source="bounce mail")
    assert told() == [kind]
    assert data()["reason"] == reason.value


def test_lifting_and_a_new_address_are_told(newsletter: Newsletter) -> None:
    make_hook()
    reader = make_reader(newsletter).subscriber
    consent.suppress(reader.fingerprint, reason=Suppression.Reason.MANUAL, source="staff 1")
    consent.lift(Suppression.objects.get(), reason="She wrote.", source="staff 1")
    consent.change_address(reader, make_subscriber("new@readers.example"), source="account")
    assert told() == [Kind.SUPPRESSED, Kind.UNSUPPRESSED, Kind.ADDRESS_CHANGED]
    assert data()["subscriber"]["address"] == "new@readers.example"


def test_what_does_not_commit_is_not_told(newsletter: Newsletter) -> None:
    make_hook()
    reader = make_reader(newsletter)
    with transaction.atomic():
        consent.unsubscribe(reader, source="one click")
        assert told() == [Kind.UNSUBSCRIBED]
        transaction.set_rollback(True)
    assert told() == []


def test_a_tier_gained_and_lost_is_told_with_both(newsletter: Newsletter) -> None:
    make_hook()
    reader = make_subscriber(tier="paid")
    founding = Membership.objects.create(subscriber=reader, tier=Tier.objects.get(slug="founding"))
    assert (data()["previous_tier"]["slug"], data()["tier"]["slug"]) == ("paid", "founding")
    founding.ends_at = Membership.objects.values_list(Now(), flat=True)[0]
    founding.save(update_fields=["ends_at"])
    assert (data()["previous_tier"]["slug"], data()["tier"]["slug"]) == ("founding", "paid")
    founding.delete()  # it had ended: nothing changes
    Membership.objects.get().delete()
    assert told() == [Kind.UPGRADED, Kind.UPGRADED, Kind.DOWNGRADED, Kind.DOWNGRADED]
    assert (data()["previous_tier"]["slug"], data()["tier"]["slug"]) == ("paid", "free")


def test_a_membership_beside_a_higher_one_changes_nothing() -> None:
    reader = make_subscriber(tier="founding")
    make_hook()
    Membership.objects.create(subscriber=reader, tier=Tier.objects.get(slug="paid"))
    assert told() == []


def test_a_membership_given_to_somebody_else_is_told_of_both() -> None:
    first, second = make_subscriber(tier="paid"), make_subscriber()
    make_hook()
    membership = Membership.objects.get()
    membership.subscriber = second
    membership.save()
    rows = dict(Occurrence.objects.values_list("subscriber", "kind"))
    assert rows == {first.pk: Kind.DOWNGRADED, second.pk: Kind.UPGRADED}


def test_a_tier_that_time_takes_away_is_told_once(newsletter: Newsletter) -> None:
    reader = make_reader(newsletter, tier="paid").subscriber
    elsewhere = make_newsletter(slug="other", name="Other")
    hooks = [make_hook(), make_hook(newsletter=newsletter), make_hook(newsletter=elsewhere)]
    make_hook(kinds=[Kind.SENT])
    Hook.objects.update(looked_at=Now() - HOUR)
    Membership.objects.update(ends_at=Now() - HOUR / 2, starts_at=Now() - 2 * HOUR)  # as if it had run out
    for _ in range(2):
        tasks.tidy()
    assert told() == [Kind.DOWNGRADED] * 2
    assert {call.hook_id for call in Call.objects.all()} == {hooks[0].pk, hooks[1].pk}
    assert data()["subscriber"]["id"] == str(reader.public_id)


def test_an_end_that_was_told_when_it_was_set_is_not_told_again(newsletter: Newsletter) -> None:
    make_reader(newsletter, tier="paid")
    make_hook()
    membership = Membership.objects.get()
    membership.starts_at -= HOUR
    membership.ends_at = membership.starts_at + HOUR
    membership.save()
    Hook.objects.update(looked_at=Now() - HOUR)
    tasks.tidy()
    assert told() == [Kind.DOWNGRADED]


def test_erasing_is_told_without_an_address_and_takes_it_from_what_was_told(newsletter: Newsletter) -> None:
    make_hook(newsletter=newsletter)
    reader = make_reader(newsletter, "ada@readers.example", tier="paid")
    public_id = str(reader.subscriber.public_id)
    consent.pause(reader, source="preferences")
    assert data()["subscriber"]["address"] == "ada@readers.example"
    consent.erase(reader.subscriber, source="account")
    assert told() == [Kind.PAUSED, Kind.ERASED]
    for occurrence in Occurrence.objects.all():
        body = payload.body(occurrence).decode()
        assert public_id in body
        assert "ada@" not in body
    assert Call.objects.count() == 2


def test_a_wish_that_is_tidied_away_is_not_told(newsletter: Newsletter) -> None:
    make_hook(kinds=[Kind.ERASED])
    reader = make_reader(newsletter, status=Subscription.Status.PENDING)
    reader.subscriber.delete()
    assert told() == []


def test_an_issue_that_is_sent_is_told_once(newsletter: Newsletter) -> None:
    make_hook(newsletter=newsletter)
    dispatch = make_dispatch(newsletter, readers=1, title="The Harbour")
    dispatch.deliveries.all().delete()
    Dispatch.objects.update(candidates=0)
    for _ in range(2):
        scheduling.finish()
    assert told() == [Kind.SENT]
    assert data()["issue"]["title"] == "The Harbour"


def test_a_file_is_told_a_chunk_at_a_time(newsletter: Newsletter, tmp_path: Path) -> None:
    make_hook()
    make_reader(newsletter, "known@readers.example")
    file = tmp_path / "readers.csv"
    rows = "".join(f"reader{number}@import.example,Reader,free\n" for number in range(1500))
    file.write_text(f"email,name,tier\n{rows}known@readers.example,,paid\n")
    importing.import_file(file, newsletter)
    assert told() == [Kind.ENTERED] * 2
    people = data()["subscribers"]
    assert len(people) == 501
    assert people[0]["tier"] == {"slug": "paid", "level": 1}  # known before, the lowest id
    assert {person["address"] for person in people} >= {"reader1499@import.example", "known@readers.example"}


def test_somebody_entered_by_hand_is_told_like_a_file(newsletter: Newsletter) -> None:
    make_hook()
    consent.enrol(make_subscriber("ada@readers.example"), newsletter, source="staff 1")
    assert told() == [Kind.ENTERED]
    assert [person["address"] for person in data()["subscribers"]] == ["ada@readers.example"]


def test_a_hook_gets_what_it_chose_of_its_own_newsletter(newsletter: Newsletter) -> None:
    other = make_newsletter(slug="other", name="Other")
    site, own = make_hook(), make_hook(newsletter=newsletter)
    for unwanted in ({"newsletter": other}, {"kinds": [Kind.SENT]}, {"enabled": False}):
        make_hook(**unwanted)
    reader = make_reader(newsletter)
    consent.pause(reader, source="preferences")  # of the newsletter
    consent.suppress(reader.subscriber.fingerprint, reason=Suppression.Reason.MANUAL, source="staff 1")  # of the site
    for occurrence in Occurrence.objects.all():
        assert {call.hook_id for call in occurrence.calls.all()} == {site.pk, own.pk}


def test_without_a_hook_nothing_is_written_and_little_asked(newsletter: Newsletter) -> None:
    reader = make_reader(newsletter)
    with CaptureQueriesContext(connection) as captured:
        consent.pause(reader, source="preferences")
    assert told() == []
    assert len([query for query in captured.captured_queries if "newsletter_hook" in query["sql"]]) == 1


# --- What is called


def test_a_call_is_signed_and_accepted(receiver: Receiver, newsletter: Newsletter) -> None:
    hook = make_hook(receiver.url)
    consent.pause(make_reader(newsletter), source="preferences")
    assert turns.to_ring() == [hook.pk]
    assert turns.take(hook) == 1
    call, request = Call.objects.get(), receiver.received[0]
    assert (call.status, call.status_code, call.tries) == (Status.ACCEPTED, 204, 1)
    assert call.took is not None
    assert request.signed_by(hook.secret)
    assert request.told["id"] == request.headers["webhook-id"]
    assert request.told["type"] == "subscription.paused"
    assert abs(int(request.headers["webhook-timestamp"]) - dt.datetime.now().timestamp()) < 60
    assert turns.to_ring() == []


def test_calls_go_in_order(receiver: Receiver, newsletter: Newsletter) -> None:
    hook = make_hook(receiver.url)
    reader = make_reader(newsletter)
    for _ in range(3):
        consent.pause(reader, source="x")
        consent.resume(reader, source="x")
    assert turns.take(hook) == 6
    assert receiver.kinds() == ["subscription.paused", "subscription.resumed"] * 3


def test_a_call_that_fails_waits_and_comes_with_the_same_id(receiver: Receiver) -> None:
    hook = make_hook(receiver.url)
    call = occurring.try_out(hook)
    receiver.answer = say(500, b"Broken for ada@readers.example")
    assert turns.take(hook) == 1
    call.refresh_from_db()
    assert (call.status, call.tries, call.status_code) == (Status.WAITING, 1, 500)
    assert call.answer == "Broken for (address)"
    assert turns.to_ring() == []
    make_due()
    receiver.answer = say(200)
    turns.take(hook)
    assert len({request.headers["webhook-id"] for request in receiver.received}) == 1
    call.refresh_from_db()
    assert (call.status, call.tries) == (Status.ACCEPTED, 2)


def test_an_answer_with_bytes_that_no_text_column_takes_is_noted_without_them(receiver: Receiver) -> None:
    hook = make_hook(receiver.url)
    call = occurring.try_out(hook)
    receiver.answer = say(500, b"\x00No\x00pe\x00 \xff\x07")
    assert turns.take(hook) == 1
    call.refresh_from_db()
    hook.refresh_from_db()
    assert (call.status, call.answer) == (Status.WAITING, "Nope \ufffd")
    assert hook.last_failure == "status 500: Nope \ufffd"


def test_a_call_is_given_up_after_its_last_try(receiver: Receiver) -> None:
    hook = make_hook(receiver.url)
    occurring.try_out(hook)
    receiver.answer = say(500)
    waits = []
    for _ in range(len(turns.BACK_OFF)):
        make_due()
        turns.take(hook)
        call = Call.objects.get()
        assert call.tried_at is not None
        waits.append(call.due_at - call.tried_at)
        assert call.status == Status.WAITING
    make_due()
    turns.take(hook)
    assert Call.objects.get().status == Status.GIVEN_UP
    for wait, least in zip(waits, turns.BACK_OFF, strict=True):
        assert least <= wait <= least * (1 + turns.JITTER) + dt.timedelta(seconds=5)


def test_a_failing_hook_rests_longer_and_longer_and_costs_its_calls_no_try(receiver: Receiver) -> None:
    hook = make_hook(receiver.url)
    for _ in range(3):
        occurring.try_out(hook)
    receiver.answer = say(500)
    assert turns.take(hook) == 1
    assert sorted(Call.objects.values_list("tries", flat=True)) == [0, 0, 1]
    assert turns.take(hook) == 0
    rests = [turns._rest(failures).total_seconds() for failures in range(9)]
    assert rests == [5, 10, 20, 40, 80, 160, 300, 300, 300]


@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_that_is_asked_for_is_kept(receiver: Receiver, status: int) -> None:
    hook = make_hook(receiver.url)
    occurring.try_out(hook)
    receiver.answer = say(status, Retry_After="7200")
    turns.take(hook)
    hook.refresh_from_db()
    call = Call.objects.get()
    assert call.tried_at is not None
    assert hook.rests_until is not None
    assert call.due_at - call.tried_at >= 2 * HOUR
    assert hook.rests_until - call.tried_at >= 2 * HOUR


def nonsense(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\0\xff is no HTTP\r\n\r\n")


NO_DATE = "Wed, 21 Oct 2015 07:28:00 +99999999999999999999"


@pytest.mark.parametrize(
    ("answer", "code"),
    [(say(503, b"a\0b \xff\xed\xa0\x80\r\n", Retry_After=NO_DATE), 503), (nonsense, None)],
    ids=["text", "status"],
)
def test_an_answer_that_no_database_holds_is_noted_and_the_call_made_again(
    receiver: Receiver, answer: Answer, code: int | None
) -> None:
    hook = make_hook(receiver.url)
    occurring.try_out(hook)
    receiver.answer = answer
    assert turns.take(hook) == 1
    call = Call.objects.get()
    assert (call.status, call.status_code, call.tries) == (Status.WAITING, code, 1)
    assert call.answer
    assert call.tried_at is not None
    assert call.due_at - call.tried_at < dt.timedelta(minutes=1)
    make_due()
    receiver.answer = say(204)
    assert turns.take(hook) == 1
    assert Call.objects.get().status == Status.ACCEPTED


def test_a_hook_that_is_gone_is_switched_off_at_once_and_keeps_what_waits(receiver: Receiver, settings: Any) -> None:
    settings.ADMINS = [("", "operator@desk.example")]
    hook = make_hook(receiver.url)
    occurring.try_out(hook)
    receiver.answer = say(410)
    turns.take(hook)
    make_due()
    hook.refresh_from_db()
    assert "410 Gone" in hook.disabled_reason
    assert len(mail.outbox) == 1
    assert "switched off" in mail.outbox[0].subject
    assert turns.to_ring() == []
    assert turns.take(hook) == 0
    occurring.try_out(hook)  # what happens meanwhile waits
    receiver.answer = say(204)
    assert turns.enable(hook)
    assert not turns.enable(hook)
    make_due()
    assert turns.take(hook) == 2


def test_a_hook_that_fails_for_days_is_switched_off_and_one_success_in_between_saves_it(receiver: Receiver) -> None:
    hook = make_hook(receiver.url)
    occurring.try_out(hook)
    receiver.answer = say(500)
    turns.take(hook)
    make_due(failing_since=Now() - turns.DISABLED_AFTER + HOUR)
    turns.take(hook)
    hook.refresh_from_db()
    assert hook.disabled_at is None
    make_due(failing_since=Now() - turns.DISABLED_AFTER)
    turns.take(hook)
    hook.refresh_from_db()
    assert hook.disabled_at is not None
    assert "5 days" in hook.disabled_reason
    turns.enable(hook)
    make_due()
    receiver.answer = say(200)
    turns.take(hook)
    hook.refresh_from_db()
    assert (hook.failing_since, hook.failures) == (None, 0)


def test_an_old_secret_signs_for_a_day_beside_the_new_one(receiver: Receiver) -> None:
    hook = make_hook(receiver.url)
    old = hook.secret
    turns.rotate(hook)
    hook.refresh_from_db()
    assert hook.secret != old
    occurring.try_out(hook)
    turns.take(hook)
    Hook.objects.update(old_secret_until=Now())
    occurring.try_out(hook)
    turns.take(hook)
    assert [request.signed_by(hook.secret) for request in receiver.received] == [True, True]
    assert [request.signed_by(old) for request in receiver.received] == [True, False]


def test_of_two_who_rotate_at_once_one_does() -> None:
    hook = make_hook()
    turns.rotate(hook)
    turns.rotate(hook)
    assert Hook.objects.get().old_secret == hook.secret


def test_what_was_given_up_goes_again_by_the_authors_word(receiver: Receiver) -> None:
    hook = make_hook(receiver.url)
    calls = [occurring.try_out(hook) for _ in range(3)]
    Call.objects.exclude(pk=calls[0].pk).update(status=Status.GIVEN_UP, tries=8, number=8)
    assert not turns.again(calls[0])  # it waits already
    assert turns.all_again(hook) == 2
    assert turns.take(hook) == 3
    assert turns.again(calls[1])
    assert turns.take(hook) == 1
    ids = [request.headers["webhook-id"] for request in receiver.received]
    assert len(set(ids)) == 3
    assert len(ids) == 4


def test_a_hook_that_waits_for_nothing_rings_nobody_and_only_so_many_ring_at_once(receiver: Receiver) -> None:
    hooks = [make_hook(receiver.url, name=f"Hook {number}") for number in range(turns.AT_ONCE + 2)]
    assert turns.to_ring() == []
    for hook in hooks:
        occurring.try_out(hook)
    first = turns.to_ring()
    assert first == [hook.pk for hook in hooks[: turns.AT_ONCE]]
    assert turns.to_ring() == []
    turns.take(hooks[0])
    assert turns.to_ring() == [hooks[turns.AT_ONCE].pk]


def test_old_occurrences_are_forgotten_with_their_calls() -> None:
    hook = make_hook()
    old, new = occurring.try_out(hook), occurring.try_out(hook)
    Occurrence.objects.filter(pk=old.occurrence_id).update(at=Now() - tidying.KEPT_FOR)
    tasks.tidy()
    assert list(Call.objects.values_list("pk", flat=True)) == [new.pk]
    assert Occurrence.objects.count() == 1


# --- Several workers, and workers that die


@pytest.mark.django_db(transaction=True)
def test_of_two_workers_one_calls_a_hook(receiver: Receiver) -> None:
    hook = make_hook(receiver.url)
    for _ in range(20):
        occurring.try_out(hook)
    made: list[int] = []

    def work() -> None:
        made.append(turns.take(hook))
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(made) == len(receiver.received) == 20
    assert len({request.headers["webhook-id"] for request in receiver.received}) == 20
    assert receiver.most_open == 1


@pytest.mark.django_db(transaction=True)
def test_a_call_whose_worker_was_killed_is_made_again_with_the_same_id(receiver: Receiver, start: Start) -> None:
    hook = make_hook(receiver.url)
    occurring.try_out(hook)
    receiver.answer = wait_for_release(receiver)
    program = start(sys.executable, "manage.py", "work", HOOKS_PRIVATE="true", REDIS_URL="")
    until(lambda: receiver.received, "the call is in the air")
    os.killpg(program.pid, signal.SIGKILL)
    program.wait()
    assert Call.objects.get().status == Status.CALLING
    assert turns.take(hook) == 0  # its lease still runs
    receiver.answer = say(204)
    Hook.objects.update(leased_until=Now() - HOUR, rung_at=None)
    assert turns.to_ring() == [hook.pk]
    turns.take(hook)
    make_due()
    assert turns.take(hook) == 1
    assert Call.objects.get().status == Status.ACCEPTED
    assert len({request.headers["webhook-id"] for request in receiver.received}) == 1
    assert len(receiver.received) == 2


def test_a_worker_that_comes_back_late_notes_nothing(receiver: Receiver) -> None:
    hook = make_hook(receiver.url)
    occurring.try_out(hook)
    Hook.objects.update(lease_token="00000000-0000-0000-0000-000000000001", leased_until=Now() + HOUR)
    token = Hook.objects.values_list("lease_token", flat=True).get()
    assert token is not None
    late = turns._claim(hook.pk, token)
    assert late is not None
    Hook.objects.update(leased_until=Now() - HOUR)
    turns.take(hook)  # puts it back
    make_due()
    Hook.objects.update(lease_token=token, leased_until=Now() + HOUR)
    current = turns._claim(hook.pk, token)
    assert current is not None
    turns._note(late, calling.Answer(500, "late"))
    assert Call.objects.get().status == Status.CALLING
    turns._note(current, calling.Answer(204, ""))
    turns._note(late, calling.Answer(500, "late"))
    assert Call.objects.get().status == Status.ACCEPTED


@pytest.mark.django_db(transaction=True)
def test_the_embedded_worker_calls_while_a_dead_receiver_hangs(receiver: Receiver, start: Start) -> None:
    with receiving() as dead:
        dead.answer = wait_for_release(dead)
        occurring.try_out(make_hook(dead.url, name="Dead"))
        occurring.try_out(make_hook(receiver.url))
        start(sys.executable, "manage.py", "work", HOOKS_PRIVATE="true", REDIS_URL="")
        until(lambda: dead.received, "the dead receiver is called")
        until(lambda: receiver.received, "the other one is called")
        assert dead.open == 1


# --- The states, whatever happens in whatever order


def _answer(
    answer: calling.Answer, called: list[str], url: str, body: bytes, headers: dict[str, str]
) -> calling.Answer:
    called.append(json.loads(body)["id"])
    return answer


ACTS = st.sampled_from(["ok", "fail", "gone", "wait", "die", "enable", "again", "tick", "rotate", "happen"])
END = {Status.ACCEPTED, Status.GIVEN_UP}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=st.lists(ACTS, max_size=25))
def test_whatever_happens_no_call_is_lost_and_none_is_called_after_its_end(
    acts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {
        "ok": calling.Answer(200, ""),
        "fail": calling.Answer(500, "no"),
        "gone": calling.Answer(410, ""),
        "wait": calling.Answer(429, "", HOUR),
    }
    with transaction.atomic():
        hook = make_hook()
        wanted = 0
        for act in acts:
            before = dict(Call.objects.filter(hook=hook).values_list("pk", "status"))
            off = Hook.objects.exclude(pk__in=Hook.objects.working()).filter(pk=hook.pk).exists()
            called: list[str] = []
            if act == "happen":
                occurring.try_out(hook)
                wanted += 1
            elif act == "die":
                Hook.objects.filter(pk=hook.pk).update(
                    lease_token="00000000-0000-0000-0000-000000000001", leased_until=Now() + HOUR
                )
                turns._claim(hook.pk, Hook.objects.values_list("lease_token", flat=True).get(pk=hook.pk))  # type: ignore[arg-type]
                Hook.objects.filter(pk=hook.pk).update(leased_until=Now() - HOUR)
            elif act == "enable":
                turns.enable(hook)
            elif act == "again":
                for call in Call.objects.filter(hook=hook):
                    assert turns.again(call) is (call.status in END)
            elif act == "rotate":
                turns.rotate(Hook.objects.get(pk=hook.pk))
            elif act == "tick":
                make_due()
            else:
                monkeypatch.setattr(calling, "post", partial(_answer, answers[act], called))
                turns.take(hook)
            after = dict(Call.objects.filter(hook=hook).values_list("pk", "status"))
            assert len(after) == wanted
            if called:
                assert not off
                ended = {
                    f"msg_{call.occurrence.public_id.hex}"
                    for call in Call.objects.filter(hook=hook)
                    if before[call.pk] in END
                }
                assert not ended & set(called)
                assert act == "ok" or len(called) == 1
            if act != "again":
                assert all(after[pk] == status for pk, status in before.items() if status in END)
            assert all(call.tries <= len(turns.BACK_OFF) + 1 for call in Call.objects.filter(hook=hook, status__in=END))
        transaction.set_rollback(True)
