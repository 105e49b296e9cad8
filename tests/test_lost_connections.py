"""The connection to the database is lost at a COMMIT, when only the rows know whether it was done."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Iterator

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.db.models import F
from django.utils import timezone

from newsletter import deliveries, scheduling, sending
from newsletter.models import Attempt, Batch, Delivery, Dispatch, SendingDay
from newsletter.settings import ENV
from subscribers.models import Subscriber
from tests.making import make_dispatch, make_newsletter
from tests.postgres_proxy import Moment, losing
from tests.smtp_sink import SmtpSink
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

READERS = 3
CLAIM = b'INSERT INTO "newsletter_attempt"'
OUTCOME = b"json_to_recordset"
moments = pytest.mark.parametrize("moment", ["before", "after"])


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmtpSink]:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite is no server whose connection could be lost")
    with SmtpSink() as running:
        monkeypatch.setitem(ENV.__dict__, "smtp_url", running.url)
        let_go_of_the_transport()
        yield running
        let_go_of_the_transport()


def let_go_of_the_transport() -> None:
    if hasattr(sending._local, "transport"):
        sending._local.transport.close()
        del sending._local.transport


def send(dispatch: Dispatch) -> None:
    sending.send_batch(Batch.objects.select_related("dispatch").get(dispatch=dispatch))


def states(dispatch: Dispatch) -> set[tuple[str, int]]:
    return set(dispatch.deliveries.values_list("status", "tries"))


def copies(sink: SmtpSink) -> list[int]:
    return [sink.count(address) for address in Subscriber.objects.values_list("address", flat=True)]


def let_the_lease_run_out() -> None:
    """And the tick of another machine see that; in a thread of its own."""
    Batch.objects.update(leased_until=timezone.now() - dt.timedelta(seconds=1))
    scheduling.take_back_expired()
    connections.close_all()


@moments
def test_a_claim_whose_answer_was_lost_goes_back_to_the_queue(moment: Moment, sink: SmtpSink) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=READERS)
    with losing(sign=CLAIM, moment=moment) as proxy, pytest.raises(OperationalError):
        send(dispatch)
    assert proxy.cuts == 1
    assert states(dispatch) == {("queued", 0)}
    assert not Attempt.objects.filter(finished_at=None).exists()
    send(dispatch)
    assert states(dispatch) == {("sent", 1)}
    assert copies(sink) == [1] * READERS


def test_it_does_so_though_the_lease_ran_out_meanwhile(sink: SmtpSink) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=READERS)
    seen: list[set[tuple[str, int]]] = []

    def expire() -> None:
        let_the_lease_run_out()
        seen.append(states(dispatch))
        connections.close_all()

    with losing(sign=CLAIM, moment="after", meanwhile=expire), pytest.raises(OperationalError):
        send(dispatch)
    assert seen == [{("unconfirmed", 1)}]
    assert states(dispatch) == {("queued", 0)}
    send(dispatch)
    assert copies(sink) == [1] * READERS


def test_a_claim_whose_commit_comes_late_goes_back_to_the_queue_all_the_same(sink: SmtpSink) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=READERS)

    def waited_for_or_given_up() -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
            (waited_for,) = cursor.fetchone()
        return waited_for or Batch.objects.filter(lease_token=None).exists()

    def come_late() -> None:
        until(waited_for_or_given_up, "the worker has noticed")
        connections.close_all()

    with losing(sign=CLAIM, moment="late", meanwhile=come_late) as proxy:
        with pytest.raises(OperationalError):
            send(dispatch)
        until(proxy.over.is_set, "the server has had the COMMIT")
    assert states(dispatch) == {("queued", 0)}
    send(dispatch)
    assert states(dispatch) == {("sent", 1)}
    assert copies(sink) == [1] * READERS


def test_a_lease_that_runs_out_in_the_midst_of_a_claim_is_taken_back_after_it(sink: SmtpSink) -> None:
    """Whoever takes it back before the COMMIT sees nothing of the chunk."""
    dispatch = make_dispatch(make_newsletter(), readers=READERS)
    batch = dispatch.batches.get()
    assert sending._take_lease(batch)
    with transaction.atomic():
        attempt = deliveries.begin(batch, worker="frozen", transport="smtp", key=uuid.uuid4())
        assert len(deliveries.claim(batch, attempt=attempt, limit=READERS)) == READERS
        tick = threading.Thread(target=let_the_lease_run_out, daemon=True)
        tick.start()
        tick.join(30)
        assert not tick.is_alive(), "the tick does not wait for it"
    scheduling.take_back_expired()
    assert states(dispatch) == {("unconfirmed", 1)}
    assert not Batch.objects.exclude(lease_token=None).exists()


@moments
def test_an_outcome_is_noted_again_whose_answer_was_lost(moment: Moment, sink: SmtpSink) -> None:
    dispatch = make_dispatch(make_newsletter(), readers=READERS)
    with losing(sign=OUTCOME, moment=moment, meanwhile=let_the_lease_run_out) as proxy:
        send(dispatch)
    assert proxy.cuts == 1
    assert states(dispatch) == {("sent", 1)}
    assert copies(sink) == [1] * READERS


@moments
def test_what_such_a_claim_took_from_the_day_is_given_back(
    moment: Moment, sink: SmtpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    weekly = make_newsletter()
    domain = weekly.from_address.rpartition("@")[2]
    monkeypatch.setitem(ENV.__dict__, "warm_up", {domain: timezone.now().date()})
    dispatch = make_dispatch(weekly, readers=READERS)
    with losing(sign=CLAIM, moment=moment), pytest.raises(OperationalError):
        send(dispatch)
    assert sum(SendingDay.objects.values_list("taken", flat=True)) == 0
    send(dispatch)
    assert SendingDay.objects.get().taken == READERS


def test_a_doubt_that_a_provider_is_asked_about_is_not_put_back_beside_that() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=READERS)
    attempt = Attempt.objects.create(
        batch=dispatch.batches.get(), worker="w", transport="resend", idempotency_key="5" * 32
    )
    dispatch.deliveries.update(status="sending", tries=F("tries") + 1, attempt=attempt)
    deliveries.doubt(attempt.batch)
    assert deliveries.put_back(attempt, dispatch.deliveries.values_list("pk", flat=True)) == 0
    assert set(Delivery.objects.values_list("status", flat=True)) == {"unconfirmed"}
    assert deliveries.to_repeat(attempt.batch) == [attempt]
