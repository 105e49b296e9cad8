"""Alerts reach the operator's mailbox the way that readers' mail goes, and never stop who alerts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.provider_double import Double, postmark_takes, running
from tests.smtp_sink import SmtpSink

ALERT = """
import django
django.setup()
from newsletter import alerts
alerts.alert("Dispatch 7 is paused", "See why in the report.")
print("It went on.")
"""
ADMIN = "operator@desk.example"


@pytest.fixture
def double() -> Iterator[Double]:
    with running() as made:
        made.answer = postmark_takes
        yield made


def alert(**settings: str) -> str:
    """What a program says that alerts with these settings and no others of the way out."""
    inherited = {name: value for name, value in os.environ.items() if name not in {"SMTP_URL", "PROVIDER", "ANYMAIL"}}
    done = subprocess.run(
        [sys.executable, "-c", ALERT],
        cwd=ROOT,
        env=inherited | {"ADMINS": json.dumps([ADMIN]), "SITE_URL": "https://news.example.org"} | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stdout + done.stderr
    assert "ERROR newsletter.alerts: Dispatch 7 is paused: See why in the report." in said
    assert "It went on." in said
    return said


def postmark_at(double: Double) -> dict[str, str]:
    anymail = {"POSTMARK_SERVER_TOKEN": "token", "POSTMARK_API_URL": double.url}
    return {"PROVIDER": "postmark", "ANYMAIL": json.dumps(anymail)}


def test_with_a_provider_an_alert_goes_by_it_and_needs_no_relay(double: Double) -> None:
    assert "could not be mailed" not in alert(**postmark_at(double))
    [call] = double.calls
    assert (call.fields["To"], call.fields["From"]) == (ADMIN, "masthead@news.example.org")
    assert "Dispatch 7 is paused" in call.fields["Subject"]
    assert "See why in the report." in call.fields["TextBody"]


def test_without_a_provider_an_alert_goes_to_the_relay() -> None:
    with SmtpSink() as sink:
        assert "could not be mailed" not in alert(SMTP_URL=sink.url)
        [mail] = sink.messages(ADMIN)
    assert "Dispatch 7 is paused" in str(mail.parsed()["Subject"])


@pytest.mark.parametrize("trouble", ["refuses", "fails", "hangs up", "has no key", "is not one"])
def test_a_provider_that_takes_no_alert_stops_nobody(double: Double, trouble: str) -> None:
    unknown = {"ErrorCode": 400, "Message": "Sender signature not found"}
    answers: dict[str, tuple[int, dict[str, str], Any]] = {"refuses": (422, {}, unknown), "fails": (500, {}, {})}
    double.answer = lambda call: answers.get(trouble)
    changes = {"has no key": {"ANYMAIL": "{}"}, "is not one": {"PROVIDER": "postmrak"}}.get(trouble, {})
    assert "The alert could not be mailed" in alert(**postmark_at(double) | changes)
