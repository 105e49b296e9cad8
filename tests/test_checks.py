"""System checks: what is refused always, what before production, and that a sane production is left in peace."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from pydantic import ValidationError
from pytest_django import Settings

from newsletter import checks, environment, message, tracking
from newsletter.deliveries.noting import LONGEST_WAIT
from newsletter.environment import Environment
from newsletter.settings import ENV
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
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--fail-level", "WARNING", *arguments],
        env=inherited | {"DATA_DIR": str(folder)} | PRODUCTION | changes,
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


PORT = "its port is no number from 1 to 65535"
RATES = '{{"gmail.com": {}}}'


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("DOMAIN_RATES", "gmail.com:5", 'write it as JSON, like {"gmail.com": 5}'),
        ("DOMAIN_RATES", '["gmail.com", 5]', 'write it as JSON, like {"gmail.com": 5}'),
        ("DOMAIN_RATES", RATES.format("Infinity"), "gmail.com: Input should be a finite number"),
        ("DOMAIN_RATES", RATES.format("NaN"), "gmail.com: Input should be a finite number"),
        ("DOMAIN_RATES", RATES.format("1e12"), "gmail.com: Input should be less than or equal to 1000000"),
        ("DOMAIN_RATES", RATES.format("1e-300"), "gmail.com: a rate is 0.0001 a second or more"),
        ("DOMAIN_RATES", RATES.format("0"), "gmail.com: Input should be greater than 0"),
        ("RATE_PER_SECOND", "inf", "Input should be a finite number"),
        ("RATE_PER_SECOND", "1e12", "Input should be less than or equal to 1000000"),
        ("RATE_PER_SECOND", "1e-300", "a rate is 0.0001 a second or more"),
        ("WARM_UP", "news.example.org", 'write it as JSON, like {"news.example.org": "2026-12-01"}'),
        ("WARM_UP", '{"news.example.org": "soon"}', "news.example.org: write dates like 2026-12-01"),
        ("WARM_UP", '{"news.example.org": "2026-13-01"}', "news.example.org: write dates like 2026-12-01"),
        ("WARM_UP", '{"news.example.org": 1}', "news.example.org: write dates like 2026-12-01"),
        ("WARM_UP", '{"desk@example.org": "2026-12-01"}', "name domains, like example.org"),
        ("ADMINS", "me@example.org", 'write it as JSON, like ["me@example.org"]'),
        ("ADMINS", '"me@example.org"', 'write it as JSON, like ["me@example.org"]'),
        ("ANYMAIL", "MAILGUN_API_KEY=secret", 'write it as JSON, like {"MAILGUN_API_KEY": "key"}'),
        ("LEASE_SECONDS", "inf", "Input should be a finite number"),
        ("LEASE_SECONDS", "1e12", "Input should be less than or equal to 86400"),
        ("RETRY_SECONDS", "1e12", "Input should be less than or equal to 3600"),
        ("SMTP_TIMEOUT", "nan", "Input should be a finite number"),
        ("RETAIN_NETWORKS_DAYS", "1000000000", "Input should be less than or equal to 36500"),
        ("RETAIN_HITS_DAYS", "1000000000", "Input should be less than or equal to 36500"),
        ("RETAIN_BOUNCES_DAYS", "1000000000", "Input should be less than or equal to 36500"),
        ("DKIM_KEYS", "a:rsa.pem,a:ed.pem", "give each key a selector of its own"),
        ("DKIM_KEYS", "a:rsa.pem,A:ed.pem", "give each key a selector of its own"),
        ("TOKEN_KEYS", "1:kJ8sLq2Wd0Vn5Tz7,01:hT6uIo1Pa3Sd5Fg7", "give each key a number of its own"),
        ("SMTP_URL", "mail.example.org", "write it like smtp://user:password@mail.example.org:587"),
        ("SMTP_URL", "smtp://[::1", "write it like smtp://user:password@mail.example.org:587"),
        ("SITE_URL", "https://[::1", "write it like https://news.example.org"),
        ("SITE_URL", "https://news.example.org:99999", PORT),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match="1"):
        environment.read()
    assert capsys.readouterr().err == f"The setting {name} cannot be used: {reason}.\n"


@pytest.mark.parametrize("url", ["smtp://127.0.0.1:99999", "smtp://127.0.0.1:0", "smtp://user:se/cret@127.0.0.1:25"])
def test_a_relays_port_that_is_none_is_said_to_be_wrong(tmp_path: Path, url: str) -> None:
    status, output = check(tmp_path, SMTP_URL=url)
    assert output.startswith(f"The setting SMTP_URL cannot be used: {PORT}; write it like smtp://")
    assert "%2F" in output
    assert "cret" not in output
    assert output.count("\n") == status == 1


@pytest.mark.parametrize("port", ["99999", "0", "many"])
def test_a_mailboxs_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(ValidationError, match="write it like imaps://"):
        Environment(bounce_mailbox=f"imaps://user:password@mail.example.org:{port}/INBOX")


def refused() -> set[int | str]:
    """The settings that cannot be used."""
    try:
        Environment()
    except ValidationError as error:
        return {problem["loc"][0] for problem in error.errors()}
    return set()


@pytest.mark.parametrize("name", Environment.model_fields)
def test_nonsense_in_any_setting_is_taken_as_it_is_or_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name.upper(), "{nonsense")
    assert refused() <= {name}


def test_settings_in_json_may_be_empty_or_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ADMINS", "ANYMAIL", "DOMAIN_RATES", "WARM_UP"):
        monkeypatch.setenv(name, "")
    empty = Environment()
    assert (empty.admins, empty.anymail, empty.domain_rates, empty.warm_up) == ([], {}, {}, {})
    monkeypatch.setenv("ADMINS", '["me@example.org"]')
    monkeypatch.setenv("ANYMAIL", '{"SEND_DEFAULTS": {"tags": ["news"]}}')
    monkeypatch.setenv("DOMAIN_RATES", '{"gmail.com": 5, "example.org": 0.5}')
    monkeypatch.setenv("WARM_UP", '{"news.example.org": "2026-12-01"}')
    given = Environment()
    assert given.admins == ["me@example.org"]
    assert given.anymail == {"SEND_DEFAULTS": {"tags": ["news"]}}
    assert given.domain_rates == {"gmail.com": 5, "example.org": 0.5}
    assert given.warm_up == {"news.example.org": dt.date(2026, 12, 1)}


def test_the_first_wait_may_be_as_long_as_the_longest() -> None:
    longest = LONGEST_WAIT.total_seconds()
    assert Environment(retry_seconds=longest).retry_seconds == longest
    with pytest.raises(ValidationError):
        Environment(retry_seconds=longest + 1)


def test_a_dkim_key_that_cannot_be_used_is_no_matter_of_the_relay(tmp_path: Path) -> None:
    status, output = check(tmp_path, DKIM_DOMAIN="example.org", DKIM_KEYS=f"news1:{tmp_path}/gone.pem")
    assert "masthead.E002" in output
    assert "HINT: Set DKIM_DOMAIN and DKIM_KEYS" in output
    assert "SMTP_URL" not in output
    assert status == 1


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
