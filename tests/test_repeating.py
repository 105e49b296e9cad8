"""What a provider left in doubt is asked about again, by the same calls under their keys; nobody gets a second mail."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import sys
from collections.abc import Iterator
from email.utils import parseaddr
from typing import Any

import pytest
from django.db import connections
from django.db.models import F
from django.utils import timezone

from newsletter import deliveries, invariants, scheduling, sending, stats
from newsletter.models import Attempt, Batch, Delivery, Dispatch, Halt
from newsletter.transports import KEPT, Outcome, Result, resting
from subscribers import consent, tiers
from subscribers.models import Membership, Subscriber, Subscription, Tier
from tests.conftest import Start
from tests.making import make_dispatch, make_issue, make_newsletter, make_reader
from tests.provider_double import Call, Double, Keeping, running
from tests.sending import let_go_of_the_transport, use_provider
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = dt.timedelta(hours=1)


@pytest.fixture
def double() -> Iterator[Double]:
    with running() as made:
        made.answer = Keeping()
        yield made


@pytest.fixture
def keeping(double: Double) -> Keeping:
    assert isinstance(double.answer, Keeping)
    return double.answer


@pytest.fixture(params=["resend", "brevo"])
def provider(
    double: Double, settings: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[str]:
    name: str = request.param
    monkeypatch.setattr(resting, "FIRST", 0.0)  # one lost answer does not keep the others waiting here
    use_provider(monkeypatch, settings, double, name)
    yield name
    let_go_of_the_transport()


only_brevo = pytest.mark.parametrize("provider", ["brevo"], indirect=True)
only_resend = pytest.mark.parametrize("provider", ["resend"], indirect=True)


def addresses() -> list[str]:
    return list(Subscriber.objects.order_by("pk").values_list("address", flat=True))


def one_each() -> dict[str, int]:
    return dict.fromkeys(addresses(), 1)


def send(dispatch: Dispatch) -> None:
    sending.send_batch(Batch.objects.get(dispatch=dispatch))


def send_again(dispatch: Dispatch) -> None:
    """Let the time come that a call may be made again, and let the batch be rung if it is."""
    Attempt.objects.filter(repeat_at__isnull=False).update(repeat_at=timezone.now() - dt.timedelta(seconds=1))
    Batch.objects.update(rung_at=None)
    for pk in scheduling.to_ring():
        sending.send_batch(Batch.objects.get(pk=pk))


def statuses(dispatch: Dispatch) -> dict[str, int]:
    report = stats.count(dispatch)
    assert stats.sums_agree(report)
    return {
        status: report[status] for status in ("queued", "sending", "sent", "failed", "unconfirmed") if report[status]
    }


def in_doubt(dispatch: Dispatch, keeping: Keeping) -> None:
    """Send it; the first reader's call is taken and left without an answer."""
    keeping.lost = {addresses()[0]}
    send(dispatch)
    assert statuses(dispatch)["unconfirmed"]
    assert keeping.mails == one_each()


def test_a_call_without_an_answer_is_made_again_and_settled_by_the_answer(provider: str, keeping: Keeping) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=5)
    in_doubt(dispatch, keeping)
    doubts = statuses(dispatch)["unconfirmed"]
    assert doubts == (1 if provider == "resend" else 5)
    send_again(dispatch)
    assert statuses(dispatch) == {"sent": 5}
    assert keeping.mails == one_each()
    assert keeping.again == 1
    assert invariants.accepted(dispatch) == 5
    assert invariants.breaches(dispatch) == []
    send_again(dispatch)
    assert keeping.again == 1


def test_a_call_that_the_provider_is_slow_with_is_settled_later(provider: str, keeping: Keeping) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    keeping.slow, keeping.patience = {addresses()[0]}, 0.5
    send(dispatch)
    assert statuses(dispatch)["unconfirmed"]
    send_again(dispatch)
    assert statuses(dispatch) == {"sent": 2}
    assert keeping.mails == one_each()


def test_a_dispatch_that_is_sent_but_for_its_doubts_asks_on(provider: str, keeping: Keeping) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    in_doubt(dispatch, keeping)
    scheduling.finish()
    dispatch.refresh_from_db()
    assert dispatch.status == Dispatch.Status.SENT
    send_again(dispatch)
    scheduling.finish()
    dispatch.refresh_from_db()
    assert (dispatch.status, statuses(dispatch)) == (Dispatch.Status.SENT, {"sent": 2})


def test_what_a_dead_worker_held_is_asked_about_and_what_it_had_not_begun_is_sent(
    provider: str, keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker ends with nothing noted, like one that was killed, after the provider took its calls or before."""
    weekly = make_newsletter()
    dispatch = make_dispatch(weekly, readers=4)

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(sending._Chunk, "note", killed)
        dying.setattr(sending._Lease, "give_back", lambda *_, **__: None)
        with pytest.raises(Killed):
            send(dispatch)
    assert keeping.mails == one_each()
    if provider == "resend":  # the last call never reached it
        _, (fields, _) = keeping.keys.popitem()
        keeping.mails.subtract(parseaddr(each)[1] for each in fields["to"])
    Batch.objects.update(leased_until=timezone.now() - HOUR)
    scheduling.take_back_expired()
    assert statuses(dispatch) == {"unconfirmed": 4}
    send_again(dispatch)
    assert statuses(dispatch) == {"sent": 4}
    assert keeping.mails == one_each()


@only_resend
def test_nothing_is_asked_outside_the_window(provider: str, keeping: Keeping, double: Double) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    in_doubt(dispatch, keeping)
    calls = len(double.calls)
    Attempt.objects.update(started_at=F("started_at") - KEPT[provider])
    send_again(dispatch)
    assert (len(double.calls), statuses(dispatch)) == (calls, {"sent": 1, "unconfirmed": 1})
    assert not Attempt.objects.filter(repeat_at__isnull=False).exists()


def test_a_transport_without_keys_is_never_asked(provider: str, keeping: Keeping) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    in_doubt(dispatch, keeping)
    Attempt.objects.update(transport="smtp")
    deliveries.repeat_later(Attempt.objects.get(), seconds=0)
    send_again(dispatch)
    assert keeping.again == 0
    assert statuses(dispatch) == {"unconfirmed": 1}


@only_resend
@pytest.mark.parametrize("why", ["paused", "cancelled", "halted"])
def test_nothing_is_asked_while_it_is_stopped(provider: str, keeping: Keeping, double: Double, why: str) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    in_doubt(dispatch, keeping)
    calls = len(double.calls)
    if why == "paused":
        scheduling.pause(dispatch, "Wait.")
    elif why == "cancelled":
        scheduling.cancel(dispatch)
    else:
        scheduling.halt("Wait.")
    Attempt.objects.update(repeat_at=timezone.now() - HOUR)
    Batch.objects.update(rung_at=None)
    assert scheduling.to_ring() == []
    send(dispatch)
    assert (len(double.calls), statuses(dispatch)) == (calls, {"sent": 1, "unconfirmed": 1})
    if why == "halted":
        Halt.objects.all().delete()
        send_again(dispatch)
        assert statuses(dispatch) == {"sent": 2}


@only_resend
@pytest.mark.parametrize("why", ["paused", "halted"])
def test_no_further_call_is_made_again_once_it_is_stopped(
    provider: str, keeping: Keeping, double: Double, why: str
) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=4)

    def take_and_hang_up(call: Call) -> None:
        keeping(call)

    def stop_and_answer(call: Call) -> Any:
        if why == "paused":
            scheduling.pause_if_running(dispatch, "Wait.")
        else:
            scheduling.halt("Wait.")
        connections.close_all()
        return keeping(call)

    double.answer = take_and_hang_up
    send(dispatch)
    assert statuses(dispatch) == {"unconfirmed": 4}
    double.answer = stop_and_answer
    send_again(dispatch)
    assert keeping.again == 1
    assert statuses(dispatch) == {"sent": 1, "unconfirmed": 3}
    double.answer = keeping
    scheduling.resume(dispatch) if why == "paused" else scheduling.end_halt()
    send_again(dispatch)
    assert statuses(dispatch) == {"sent": 4}


@pytest.mark.parametrize("how", ["left", "erased"])
def test_a_call_with_a_reader_who_has_gone_is_not_made_again(
    provider: str, keeping: Keeping, double: Double, how: str
) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=2)
    in_doubt(dispatch, keeping)
    calls, before = len(double.calls), statuses(dispatch)
    first = Subscription.objects.earliest("pk")
    if how == "left":
        consent.unsubscribe(first, source="test")
    else:
        consent.erase(first.subscriber, source="test")
    send_again(dispatch)
    assert len(double.calls) == calls
    assert statuses(dispatch) == before


@only_brevo
def test_a_call_of_which_one_is_settled_is_not_made_again(provider: str, keeping: Keeping, double: Double) -> None:
    """It went by halves, or an event told of one: then the whole call is not what left the rest in doubt."""
    dispatch = make_dispatch(make_newsletter(), readers=3)
    in_doubt(dispatch, keeping)
    calls = len(double.calls)
    Delivery.objects.filter(pk=Delivery.objects.earliest("pk").pk).update(status="sent")
    send_again(dispatch)
    assert len(double.calls) == calls
    assert statuses(dispatch) == {"sent": 1, "unconfirmed": 2}


@only_brevo
def test_a_call_that_would_be_another_one_today_is_not_made_again(
    provider: str, keeping: Keeping, double: Double
) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=3)
    in_doubt(dispatch, keeping)
    calls = len(double.calls)
    Subscriber.objects.filter(address=addresses()[1]).update(name="Smith & <Sons>")  # which Brevo gets in a call alone
    send_again(dispatch)
    assert len(double.calls) == calls
    assert statuses(dispatch) == {"unconfirmed": 3}


@only_brevo
def test_a_call_whose_readers_no_longer_get_the_same_is_not_made_again(
    provider: str, keeping: Keeping, double: Double
) -> None:
    tiers.ensure_default()
    dispatch = make_dispatch(make_newsletter(), readers=3, paid="Gold under the oak")
    in_doubt(dispatch, keeping)
    calls = len(double.calls)
    Membership.objects.create(subscriber=Subscriber.objects.earliest("pk"), tier=Tier.objects.get(slug="paid"))
    send_again(dispatch)
    assert len(double.calls) == calls
    assert statuses(dispatch) == {"unconfirmed": 3}


def test_other_bytes_under_the_key_stay_in_doubt_and_are_not_tried_by_halves(
    provider: str, keeping: Keeping, double: Double
) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=4)
    in_doubt(dispatch, keeping)
    before, calls = statuses(dispatch), len(double.calls)
    Subscriber.objects.update(name="Jo")
    send_again(dispatch)
    assert len(double.calls) == calls + 1
    assert keeping.mails == one_each()
    assert statuses(dispatch) == before


def test_an_answer_that_does_not_come_is_asked_for_after_twice_the_time(
    provider: str, keeping: Keeping, double: Double
) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    in_doubt(dispatch, keeping)
    Attempt.objects.update(started_at=F("started_at") - dt.timedelta(minutes=5))
    double.answer = lambda call: (502, {}, {})
    send_again(dispatch)
    attempt = Attempt.objects.get()
    assert attempt.repeat_at is not None
    assert dt.timedelta(minutes=9) < attempt.repeat_at - attempt.started_at < dt.timedelta(minutes=11)
    assert statuses(dispatch) == {"unconfirmed": 1}
    double.answer = lambda call: (429, {"Retry-After": "1200"}, {})
    send_again(dispatch)
    attempt.refresh_from_db()
    assert attempt.repeat_at is not None
    assert attempt.repeat_at > timezone.now() + dt.timedelta(minutes=19)
    assert statuses(dispatch) == {"unconfirmed": 1}, "later is no reason to queue what may have arrived"


def test_only_the_holder_of_the_lease_asks_and_only_once(provider: str, keeping: Keeping) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    in_doubt(dispatch, keeping)
    Attempt.objects.update(repeat_at=timezone.now() - HOUR)
    attempt, batch = Attempt.objects.get(), Batch.objects.get()
    assert not deliveries.may_repeat(attempt, batch)
    assert sending._take_lease(batch)
    assert not sending._take_lease(Batch.objects.get())
    assert deliveries.may_repeat(attempt, batch)
    assert not deliveries.may_repeat(attempt, batch)


def test_after_a_restored_backup_nothing_is_asked(provider: str, keeping: Keeping) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    in_doubt(dispatch, keeping)
    scheduling.distrust(timezone.now() - HOUR)
    scheduling.resume(dispatch)
    send_again(dispatch)
    assert keeping.again == 0


def test_what_the_author_took_as_sent_is_not_asked_about(provider: str, keeping: Keeping) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=1)
    in_doubt(dispatch, keeping)
    scheduling.accept_unconfirmed(dispatch)
    send_again(dispatch)
    assert keeping.again == 0
    assert statuses(dispatch) == {"sent": 1}


def test_what_a_repeated_call_had_accepted_stays_counted_whichever_answer_is_noted_last(
    provider: str, keeping: Keeping
) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=3)
    in_doubt(dispatch, keeping)
    Attempt.objects.update(finished_at=None, accepted=0)  # whoever made it is frozen before it noted anything
    Delivery.objects.update(status="unconfirmed", accepted_by=None)
    attempt = Attempt.objects.get()
    send_again(dispatch)
    assert invariants.accepted(dispatch) == 3
    row = Delivery.objects.earliest("pk")
    deliveries.note(attempt, [Outcome(row.pk, Result.ACCEPTED, "200 sent")], tries={row.pk: 1}, retry_seconds=1)
    assert invariants.accepted(dispatch) == 3
    assert invariants.breaches(dispatch) == []


@pytest.mark.parametrize("name", ["resend", "brevo"])
def test_a_worker_killed_in_the_middle_of_a_call_leaves_nothing_in_doubt(
    start: Start, double: Double, keeping: Keeping, name: str
) -> None:
    weekly = make_newsletter()
    for _ in range(6):
        make_reader(weekly)
    keeping.slow, keeping.patience = {addresses()[3]}, 60
    settings = {
        "PROVIDER": name,
        "ANYMAIL": json.dumps({f"{name.upper()}_API_KEY": "key", f"{name.upper()}_API_URL": double.url}),
        "SMTP_TIMEOUT": "1",
        "LEASE_SECONDS": "3",
        "RETRY_SECONDS": "0.5",
    }
    work = (sys.executable, "manage.py", "work")
    dispatch = scheduling.schedule(make_issue(weekly))
    worker = start(*work, **settings)
    until(lambda: keeping.mails[addresses()[3]], "the call that is not answered")
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    start(*work, **settings)
    until(lambda: dispatch.deliveries.filter(status="sent").count() == 6, "all are sent")
    assert keeping.mails == one_each()
    assert keeping.again
    until(lambda: Dispatch.objects.filter(status=Dispatch.Status.SENT).exists(), "the dispatch is sent")
    assert invariants.breaches(Dispatch.objects.get()) == []
