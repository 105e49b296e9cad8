"""A provider that fails or asks to wait: nothing that is known gets lost, and not the whole audience runs into it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from newsletter import stats
from newsletter.models import Dispatch
from newsletter.settings import ENV
from tests.making import make_dispatch, make_newsletter
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
