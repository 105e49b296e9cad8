"""Sending in tests: the engine against a mail server inside this process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from newsletter import sending
from newsletter.models import Batch, Dispatch
from newsletter.settings import ENV
from tests.provider_double import Double
from tests.smtp_sink import SmtpSink


def let_go_of_the_transport() -> None:
    """The next message opens a transport by the settings of then."""
    if hasattr(sending._local, "transport"):
        sending._local.transport.close()
        del sending._local.transport


def use(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Hand over to the relay at `url` from here on."""
    monkeypatch.setitem(ENV.__dict__, "smtp_url", url)
    let_go_of_the_transport()


def use_provider(monkeypatch: pytest.MonkeyPatch, settings: Any, double: Double, name: str) -> None:
    """Hand over to provider `name` at the double from here on."""
    settings.ANYMAIL = {
        "POSTMARK_SERVER_TOKEN": "token",
        f"{name.upper()}_API_KEY": "key",
        f"{name.upper()}_API_URL": double.url,
        "REQUESTS_TIMEOUT": (5, 0.3),
    }
    monkeypatch.setitem(ENV.__dict__, "provider", name)
    let_go_of_the_transport()


@contextlib.contextmanager
def sinking(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Iterator[SmtpSink]:
    """A sink that mail is handed over to."""
    with SmtpSink(**options) as running:
        use(monkeypatch, running.url)
        yield running
        let_go_of_the_transport()


def send(dispatch: Dispatch) -> sending.Sent:
    """Send what is due of the dispatch's only batch."""
    return sending.send_batch(Batch.objects.get(dispatch=dispatch))
