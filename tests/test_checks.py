"""System checks: what is refused always, what before production, and that a sane production is left in peace."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from pytest_django import Settings

from newsletter import checks, message, tracking
from newsletter.settings import ENV, Environment
from tests.conftest import Start
from tests.making import make_newsletter
from tests.test_transports_smtp import make_compiled, make_reader

PRODUCTION = {
    "SITE_URL": "https://news.example.org",
    "DATABASE_URL": "postgres://masthead:secret@127.0.0.1:5432/masthead",
    "REDIS_URL": "redis://127.0.0.1:6379/0",
    "SMTP_URL": "smtp+starttls://masthead:secret@relay.example.org:587",
    "SECRET_KEY": "0pQ7vXn3LkT9sYw2RbJ5hGdF8mZcA6uE1iNoV4xKtWyBqS-and-more",
    "TOKEN_KEYS": "1:kJ8sLq2Wd0Vn5Tz7Xc4Rb9Yp",
    "ADDRESS_HASH_KEY": "hT6uIo1Pa3Sd5Fg7Hj9Kl2Zx",
    "DEBUG": "false",
    "BEHIND_PROXY": "true",
}
EMBEDDED = dict.fromkeys(PRODUCTION, "") | {
    "SITE_URL": "http://127.0.0.1:8000",
    "SMTP_URL": "smtp://127.0.0.1:1025",
    "DEBUG": "false",
    "BEHIND_PROXY": "false",
}
UNSET = ("PROVIDER", "ANYMAIL", "EVENTS_FROM", "LEASE_SECONDS", "SMTP_TIMEOUT", "MAILBOX_PATH", "LOG_LEVEL")


def check(folder: Path, *arguments: str, **changes: str) -> tuple[int, str]:
    """Exit status and output of `manage.py check` in the production environment with `changes`."""
    inherited = {name: value for name, value in os.environ.items() if name not in {*PRODUCTION, *UNSET}}
    environment = inherited | {"DATA_DIR": str(folder)} | PRODUCTION | changes
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--fail-level", "WARNING", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


def found(messages: list[CheckMessage]) -> list[str]:
    return [str(message.id) for message in messages]


def with_settings(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    monkeypatch.setattr(checks, "ENV", ENV.model_copy(update=changes))
    monkeypatch.setattr("newsletter.transports.ENV", ENV.model_copy(update=changes))


def test_a_sane_production_environment_is_clean(tmp_path: Path) -> None:
    status, output = check(tmp_path, "--deploy")
    assert "no issues" in output
    assert status == 0


def test_with_a_provider_no_relay_needs_to_be_named(tmp_path: Path) -> None:
    anymail = '{"MAILGUN_API_KEY": "key", "MAILGUN_WEBHOOK_SIGNING_KEY": "another key"}'
    default = Environment.model_fields["smtp_url"].default
    status, output = check(tmp_path, "--deploy", PROVIDER="mailgun", ANYMAIL=anymail, SMTP_URL=default)
    assert "no issues" in output
    assert status == 0


@pytest.mark.parametrize(
    ("changes", "identifier"),
    [
        ({"SITE_URL": "http://news.example.org"}, "masthead.E010"),
        ({"SECRET_KEY": ""}, "SECRET_KEY is not set"),
        ({"TOKEN_KEYS": ""}, "TOKEN_KEYS is not set"),
        ({"ADDRESS_HASH_KEY": ""}, "ADDRESS_HASH_KEY is not set"),
        ({"DEBUG": "true"}, "masthead.E012"),
        ({"MAILBOX_PATH": "mailbox.sqlite3"}, "masthead.E013"),
        ({"DATABASE_URL": ""}, "masthead.W001"),
        ({"SMTP_URL": "smtp://127.0.0.1:1025"}, "masthead.W002"),
        ({"LEASE_SECONDS": "80"}, "masthead.E001"),
        ({"PROVIDER": "pigeon"}, "masthead.E002"),
        ({"EVENTS_FROM": "pigeon"}, "masthead.E003"),
        ({"EVENTS_FROM": "postmark"}, "WEBHOOK_SECRET is not set"),
        ({"EVENTS_FROM": "mailgun", "ANYMAIL": '{"MAILGUN_API_KEY": "key"}'}, "MAILGUN_WEBHOOK_SIGNING_KEY is not set"),
    ],
)
def test_an_environment_that_is_not_fit_for_production_is_refused(
    tmp_path: Path, changes: dict[str, str], identifier: str
) -> None:
    status, output = check(tmp_path, "--deploy", **changes)
    assert identifier in output
    assert "HINT" in output
    assert status == 1


def test_without_deploy_one_machine_needs_no_settings(tmp_path: Path) -> None:
    status, output = check(tmp_path, **EMBEDDED)
    assert status == 0, output


@pytest.mark.parametrize(
    ("changes", "identifier"),
    [
        ({"SMTP_URL": "smtp://user:secret@relay.example"}, "masthead.E002"),
        ({"LEASE_SECONDS": "80", "SMTP_TIMEOUT": "30"}, "masthead.E001"),
    ],
)
@pytest.mark.django_db(transaction=True)
def test_a_worker_does_not_start_with_settings_that_would_lose_or_leak_mail(
    start: Start, tmp_path: Path, changes: dict[str, str], identifier: str
) -> None:
    worker = start(sys.executable, "-m", "celery", "-A", "newsletter", "worker", "--pool", "solo", **changes)
    assert worker.wait(60) == 1
    said = (tmp_path / "output-0.log").read_text()
    assert identifier in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("lease", "timeout", "wanted"), [(90, 30, []), (89, 30, ["masthead.E001"]), (180, 76, ["masthead.E001"])]
)
def test_a_lease_must_outlast_the_longest_wait_and_leave_time_to_send(
    monkeypatch: pytest.MonkeyPatch, lease: float, timeout: float, wanted: list[str]
) -> None:
    with_settings(monkeypatch, lease_seconds=lease, smtp_timeout=timeout)
    assert found(checks.leases_outlast_the_transport()) == wanted


LONGEST_HOST = ".".join(["a" * 62] * 4) + "a"  # 252 characters, 63 between the dots at most


def test_the_longest_names_fit_into_a_mail(settings: Settings) -> None:
    longest = {"site_url": f"https://{LONGEST_HOST}", "bounce_address": f"bounces.by.m1@{LONGEST_HOST}"}
    accepted = Environment(**longest)  # type: ignore[arg-type]
    settings.SITE_URL, settings.BOUNCE_ADDRESS = accepted.site_url, accepted.bounce_address
    assert b"List-Unsubscribe: <https://" in one_mail()
    assert max(len(line) for line in one_mail().split(b"\r\n")) <= 998


@pytest.mark.parametrize("host", [LONGEST_HOST + "aa", "a" * 64 + ".example.org"])
def test_a_host_longer_than_names_can_be_is_refused(host: str) -> None:
    for setting in ({"site_url": f"https://{host}"}, {"bounce_address": f"bounces@{host}"}):
        with pytest.raises(ValueError, match=r"write it like|name a host"):
            Environment(**setting)  # type: ignore[arg-type]


def one_mail() -> bytes:
    """What a reader is sent, with the links of the settings."""
    links = tracking.Links(7)
    reader = replace(
        make_reader(),
        message_id=links.message_id(1),
        values=links.urls(2, 1),
        unsubscribe_address=links.unsubscribe_address(2, 1),
    )
    return message.assemble(make_compiled(), reader)


def test_an_unknown_provider_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with_settings(monkeypatch, provider="pigeon")
    assert found(checks.the_transport_can_be_used()) == ["masthead.E002"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("editor@news.example.org", False),
        ("editor@gmail.com", True),
        ("editor@GMAIL.com", True),
        ("newsletter@localhost.localdomain", True),
        ("editor@notgmail.com", False),
    ],
)
def test_a_newsletter_must_not_send_from_somebody_elses_domain(address: str, *, refused: bool) -> None:
    make_newsletter(from_address=address)
    messages = run_checks(tags=["database"], include_deployment_checks=True, databases=["default"])
    assert ("masthead.E014" in found(messages)) == refused


def test_senders_are_not_looked_at_without_a_database() -> None:
    assert checks.senders_are_domains_of_ours(databases=None) == []
