"""Providers' webhooks all the way: whatever comes, however often and in whatever order, ends in the same rows."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections.abc import Sequence
from typing import Any

import hypothesis
import pytest
from django.test import Client
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from newsletter import intake, tasks
from newsletter.intake import Channel
from newsletter.models import Delivery, Dispatch, Event, Occurrence
from newsletter.settings import ENV
from newsletter.tracking import delivery_token, message_id
from subscribers.models import Subscription, Suppression
from tests.making import make_dispatch, make_hook, make_newsletter, make_subscriber
from tests.provider_events import PROVIDERS, Call, Told

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore:django-anymail has dropped official support for SendGrid"),
]

Status = Delivery.Status
KINDS = ("accepted", "delivered", "deferred", "hard", "soft", "block", "complaint", "unsubscribe")
# One that tells many at once, one that tells each alone, two that give their events no id.
FOUR = ("sparkpost", "mailgun", "mandrill", "unisender_go")


@pytest.fixture
def dispatch() -> Dispatch:
    """Eight readers whose mail was handed over an hour ago, nobody knows how."""
    dispatch = make_dispatch(make_newsletter(), readers=8)
    hour_ago = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    Delivery.objects.update(status=Status.UNCONFIRMED, tries=1, settled_at=hour_ago)
    return dispatch


@pytest.fixture(params=FOUR)
def provider(request: pytest.FixtureRequest, settings: Any) -> str:
    name: str = request.param
    hear(name, settings)
    return name


def hear(name: str, settings: Any) -> None:
    settings.ENV = ENV.model_copy(update={"events_from": name})
    settings.ANYMAIL = PROVIDERS[name].settings


def told(kind: str, delivery: Delivery, **changes: Any) -> Told:
    assert delivery.subscriber is not None
    fields: dict[str, Any] = {
        "kind": kind,
        "token": delivery_token(delivery.pk),
        "address": delivery.subscriber.address,
        "at": (dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5)).replace(microsecond=0),
        "message_id": f"mail-{delivery.pk}",
        "own_message_id": message_id(delivery.pk),
    }
    return Told(**fields | changes)


def rows() -> list[Delivery]:
    return list(Delivery.objects.select_related("subscriber").order_by("pk"))


def tell(name: str, calls: Sequence[Call]) -> None:
    for call in calls:
        headers: dict[str, Any] = call.headers
        answer = Client().post(f"/webhooks/{name}/", call.body, content_type=call.content_type, headers=headers)
        assert answer.status_code == 200


def write_down() -> None:
    tasks.take_in(Channel.NOTICE.value)


def state() -> dict[str, Any]:
    """All that follows, without row numbers and the clock."""
    return {
        "deliveries": list(Delivery.objects.order_by("pk").values_list("pk", "status", "verdict")),
        "subscriptions": list(Subscription.objects.order_by("pk").values_list("pk", "status")),
        "suppressions": sorted(Suppression.objects.values_list("fingerprint", "reason", "newsletter")),
        "events": sorted(map(str, Event.objects.values_list("key", "kind", "verdict", "delivery", "at"))),
    }


def begin_anew() -> None:
    Event.objects.all().delete()
    Suppression.objects.all().delete()
    Occurrence.objects.all().delete()
    Subscription.objects.update(status=Subscription.Status.ACTIVE)
    Delivery.objects.update(status=Status.UNCONFIRMED, verdict=None, unsubscribed_at=None)


@pytest.mark.parametrize(("kind", "settled"), [("accepted", True), ("delivered", True), ("deferred", True)])
@pytest.mark.usefixtures("dispatch")
def test_a_provider_that_has_a_mail_settles_the_doubt(kind: str, settled: bool, settings: Any) -> None:
    hear("sparkpost", settings)
    one, *others = rows()
    tell("sparkpost", PROVIDERS["sparkpost"].calls([told(kind, one)]))
    assert rows()[0].status == Status.UNCONFIRMED, "the answer waits for no row"
    write_down()
    assert (rows()[0].status == Status.SENT) == settled
    assert {row.status for row in rows()[1:]} == {Status.UNCONFIRMED}
    assert len(others) == 7


@pytest.mark.usefixtures("dispatch")
def test_every_provider_settles_a_doubt_by_what_it_tells_first(settings: Any) -> None:
    for name, double in PROVIDERS.items():
        begin_anew()
        hear(name, settings)
        (one, *_) = rows()
        Delivery.objects.filter(pk=one.pk).update(provider_id=f"mail-{one.pk}")
        first = next(kind for kind in ("accepted", "delivered") if double.event(told(kind, one)) is not None)
        tell(name, double.calls([told(first, one)]))
        write_down()
        assert rows()[0].status == Status.SENT, name


@pytest.mark.usefixtures("dispatch")
def test_each_verdict_has_its_consequence(provider: str) -> None:
    kinds = [kind for kind in KINDS if PROVIDERS[provider].event(told(kind, rows()[0])) is not None]
    by_kind = dict(zip(kinds, rows(), strict=False))
    tell(provider, PROVIDERS[provider].calls([told(kind, row) for kind, row in by_kind.items()]))
    write_down()
    people = {kind: row.subscriber for kind, row in by_kind.items()}
    suppressed = dict(Suppression.objects.values_list("fingerprint", "reason"))
    reasons = {kind: suppressed.get(person.fingerprint) for kind, person in people.items() if person}
    assert reasons["hard"] == Suppression.Reason.HARD_BOUNCE
    assert reasons["complaint"] == Suppression.Reason.COMPLAINT
    assert {reasons[kind] for kind in reasons if kind not in ("hard", "complaint")} == {None}
    left = {sub.subscriber for sub in Subscription.objects.filter(status=Subscription.Status.UNSUBSCRIBED)}
    assert left == {people["complaint"], people["unsubscribe"]}


@hypothesis.settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pick=st.randoms(use_true_random=False))
@pytest.mark.usefixtures("dispatch")
def test_repeated_and_shuffled_calls_end_in_the_same_rows(provider: str, pick: random.Random) -> None:
    begin_anew()
    double = PROVIDERS[provider]
    what = [told(kind, row) for row in rows() for kind in pick.sample(KINDS, 3)]
    what = [each for each in what if double.event(each) is not None]
    tell(provider, double.calls(what))
    write_down()
    once = state()
    assert len(once["events"]) == len(what)
    begin_anew()
    for _ in range(3):
        again = pick.sample(what, len(what)) + pick.choices(what, k=5)
        for start in range(0, len(again), size := pick.randint(1, 9)):
            tell(provider, double.calls(again[start : start + size]))
            if pick.random() < 0.5:
                write_down()
    write_down()
    assert state() == once


# What no provider's documents have, and a database or a clock may not take.
STRANGE: tuple[Any, ...] = (
    None, True, -1, 2**64, 1e308, float("inf"), float("nan"), 253402300800, "", "a\0b", "x\ud800", "é" * 9000,
    "9" * 4300, "a@b" * 999, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-11-26 08:30",
    [], [None], {}, {"a": "b"},
)  # fmt: skip


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to all that stands in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(way for name, each in inner for way in leaves(each, (*path, name)))]


@pytest.mark.parametrize("name", sorted(PROVIDERS))
@hypothesis.settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.usefixtures("dispatch")
def test_strange_values_cost_neither_an_answer_of_500_nor_an_entry(
    name: str, settings: Any, data: st.DataObject
) -> None:
    hear(name, settings)
    double = PROVIDERS[name]
    one = told(data.draw(st.sampled_from(KINDS)), rows()[0])
    event = double.event(one)
    if event is None:
        return
    inside = json.loads(event["Message"]) if name == "amazon_ses" else event
    *way, last = data.draw(st.sampled_from(leaves(inside)[1:]))
    place = inside
    for step in way:
        place = place[step]
    place[last] = data.draw(st.sampled_from(STRANGE))
    payload = double.together([event | {"Message": json.dumps(inside)} if name == "amazon_ses" else inside])[0]
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    headers: dict[str, Any] = double.sign(body, one)
    answer = Client(raise_request_exception=False).post(
        f"/webhooks/{name}/", body, content_type=double.content_type, headers=headers
    )
    assert answer.status_code in (200, 400, 403)
    write_down()
    assert [found.aside for found in intake.look() if found.aside] == []
    assert intake.waiting() == {}


@pytest.mark.usefixtures("dispatch")
def test_a_bounce_is_told_to_the_author_s_systems_once(provider: str) -> None:
    make_hook()
    one = rows()[0]
    for _ in range(3):
        tell(provider, PROVIDERS[provider].calls([told("hard", one), told("hard", one, at=told("hard", one).at)]))
        write_down()
    assert Occurrence.objects.filter(kind=Occurrence.Kind.BOUNCED).count() == 1


def test_mail_that_is_not_known_is_answered_and_logged(provider: str, caplog: pytest.LogCaptureFixture) -> None:
    make_subscriber("ada@readers.example")
    at = dt.datetime(2026, 11, 26, tzinfo=dt.UTC)
    stranger = Told("delivered" if provider != "mandrill" else "accepted", "", "who@readers.example", at)
    tell(provider, PROVIDERS[provider].calls([stranger]))
    write_down()
    assert Event.objects.count() == 0
    assert "no delivery or reader that is known here" in caplog.text
    assert "who@" not in caplog.text


@pytest.mark.usefixtures("dispatch")
def test_a_provider_without_our_metadata_is_understood_by_its_own_id(settings: Any) -> None:
    hear("mailersend", settings)
    Delivery.objects.update(provider_id="of the whole call")
    one, two, *_ = rows()
    tell("mailersend", PROVIDERS["mailersend"].calls([told("hard", one, message_id="of the whole call")]))
    write_down()
    assert [row.verdict for row in rows()[:2]] == [Delivery.Verdict.HARD, None]
    # Of one that is no longer at that address nobody knows which mail of the call it was: it is nobody else's.
    gone = told("hard", two, message_id="of the whole call", address="moved@readers.example")
    tell("mailersend", PROVIDERS["mailersend"].calls([gone, told("delivered", one, message_id="of the whole call")]))
    write_down()
    assert Event.objects.filter(kind=Event.Kind.BOUNCE).count() == 1


@pytest.mark.usefixtures("dispatch")
def test_a_complaint_about_mail_to_an_earlier_address_is_still_the_reader_s(settings: Any) -> None:
    hear("mailersend", settings)
    one = rows()[0]
    Delivery.objects.filter(pk=one.pk).update(provider_id="of this mail")
    before = told("complaint", one, message_id="of this mail", address="before@readers.example")
    tell("mailersend", PROVIDERS["mailersend"].calls([before]))
    write_down()
    left = Subscription.objects.get(subscriber=one.subscriber)
    assert left.status == Subscription.Status.UNSUBSCRIBED
