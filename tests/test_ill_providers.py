"""A provider that fails or asks to wait: nothing that is known gets lost, and not the whole audience runs into it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from newsletter import stats
from newsletter.models import Dispatch, Newsletter
from newsletter.settings import ENV
from tests.making import make_dispatch, make_newsletter, make_reader
from tests.provider_double import Double, running
from tests.sending import let_go_of_the_transport, send, use_provider

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def double(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    """Mailgun, which takes a whole chunk in one call; chunks are of ten."""
    monkeypatch.setitem(ENV.__dict__, "chunk_size", 10)
    with running() as made:
        use_provider(monkeypatch, settings, made, "mailgun")
        yield made
        let_go_of_the_transport()


def statuses(dispatch: Dispatch) -> dict[str, int]:
    report = stats.count(dispatch)
    assert stats.sums_agree(report)
    return {
        status: report[status] for status in ("queued", "sending", "sent", "failed", "unconfirmed") if report[status]
    }


@pytest.mark.parametrize("asked", ["9" * 400, "99999999999999", "1767225600000", "Fri, 31 Dec 9999 23:59:59 -2359"])
def test_however_long_a_provider_asks_to_wait_nothing_is_in_doubt(double: Double, asked: str) -> None:
    double.answer = lambda call: (429, {"Retry-After": asked}, {"message": "slow down"})
    dispatch = make_dispatch(make_newsletter(), readers=4)
    send(dispatch)
    assert statuses(dispatch) == {"queued": 4}


@pytest.mark.parametrize(
    ("status", "headers", "queued", "retried_at_once"),
    [(429, {"Retry-After": "60"}, 6, 0), (401, {}, 6, 6)],
)
def test_what_one_variant_was_told_holds_for_the_others_of_its_chunk(
    double: Double, status: int, headers: dict[str, str], queued: int, retried_at_once: int
) -> None:
    double.answer = lambda call: (status, headers, {"message": "no"})
    dispatch = make_dispatch(_with_three_variants(), paid="Members only")
    send(dispatch)
    assert len(double.calls) == 1
    assert statuses(dispatch) == {"queued": queued}
    assert dispatch.deliveries.due().count() == retried_at_once


def _with_three_variants() -> Newsletter:
    """A newsletter with six readers: two see the free view, two the paid one, two text alone."""
    weekly = make_newsletter()
    for _ in range(2):
        make_reader(weekly)
        make_reader(weekly, tier="paid")
        subscriber = make_reader(weekly).subscriber
        subscriber.text_only = True
        subscriber.save(update_fields=["text_only"])
    return weekly
