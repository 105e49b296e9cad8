"""What an operator may set, read from the environment and typed; `docs/settings.md` explains each for operators.

Every setting has a default that serves the embedded case: SQLite, no broker, a mail server on this machine. What means
nothing is refused here; what must differ in production is refused by `manage.py check --deploy` (newsletter.checks).
"""

from __future__ import annotations

import json
import re
import sys
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

BASE_DIR = Path(__file__).resolve().parent.parent
# RFC 1035 section 2.3.4: with a longer name List-Unsubscribe would fit into no line.
_HOST = r"(?=.{1,253}\Z)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*"
_NO_PORT = "its port is no number from 1 to 65535"
_LONGEST_KEPT = 36_500  # days, a hundred years: databases know no date very long ago
_LEAST_RATE = 0.0001  # one message in three hours: windows of a rate must end while somebody waits for them


def _as_json(example: dict[str, Any] | list[str]) -> BeforeValidator:
    """Reads a setting from JSON of the shape of `example`, which is shown where it is something else."""

    def read(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if not value.strip():
            return type(example)()
        try:
            found = json.loads(value)
        except ValueError:
            found = None
        if type(found) is not type(example):
            raise ValueError(f"write it as JSON, like {json.dumps(example)}")
        return found

    return BeforeValidator(read)


def _day(value: object) -> date:
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise ValueError("write dates like 2026-12-01") from None


def _not_too_slow(rate: float) -> float:
    if 0 < rate < _LEAST_RATE:
        raise ValueError(f"a rate is {_LEAST_RATE} a second or more")
    return rate


def _parts(value: str, written: str) -> SplitResult:
    """The parts of a URL; raises ValueError that shows how it is `written` where it is none."""
    try:
        return urlsplit(value)
    except ValueError:
        raise ValueError(written) from None


def _port_can_be(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False


_Rate = Annotated[float, Field(ge=0, le=1_000_000), AfterValidator(_not_too_slow)]


class Environment(BaseSettings):
    """What an operator may set: environment variables of these names in capitals, or lines in `.env`."""

    model_config = SettingsConfigDict(env_file=BASE_DIR / ".env", extra="ignore", frozen=True, allow_inf_nan=False)

    data_dir: Path = Field(BASE_DIR / "var", description="Folder for the SQLite file and generated keys.")
    database_url: str = Field("", description="Database; a SQLite file in DATA_DIR without it.")
    redis_url: str = Field("", description="Redis, Celery's broker; without it `manage.py work` polls the rows.")
    smtp_url: str = Field(
        "smtp://127.0.0.1:1025",
        description="The relay: smtp://user:password@host:port, smtps:// for TLS, smtp+starttls:// for STARTTLS.",
    )
    smtp_timeout: float = Field(30, gt=0, le=300, description="Seconds to wait for the relay at each step.")
    smtp_connections: int = Field(
        4, gt=0, le=100, description="Connections to the relay that each sending thread keeps."
    )
    smtp_messages_per_connection: int = Field(
        100, gt=0, description="Messages handed over on one connection before another is opened."
    )
    dkim_domain: str = Field("", description="Domain that mail is signed for by DKIM, where the relay does not sign.")
    dkim_keys: Annotated[dict[str, Path], NoDecode] = Field(
        {}, description="DKIM keys, files in PEM form by selector: `news1:/keys/rsa.pem,news2:/keys/ed25519.pem`."
    )
    bounce_address: str = Field(
        "", description="Where bounces go, like `bounces@news.example.org`; each mail gets an address of its own there."
    )
    bounce_mailbox: SecretStr = Field(
        SecretStr(""),
        description="The mailbox that bounces arrive in: imaps://user:password@host/INBOX, or pop3s:// …",
    )
    provider: str = Field("", description="An e-mail provider of django-anymail by name, in place of SMTP: mailgun …")
    anymail: Annotated[dict[str, Any], NoDecode, _as_json({"MAILGUN_API_KEY": "key"})] = Field(
        {}, description="The provider's settings for django-anymail, as a JSON object."
    )
    events_from: str = Field(
        "",
        description="The provider whose events are taken, where mail goes to its relay by SMTP; else PROVIDER's are.",
    )
    site_url: str = Field("http://127.0.0.1:8000", description="Where readers reach this site; https in production.")
    secret_key: SecretStr = Field(SecretStr(""), description="Django's secret; kept in DATA_DIR without it.")
    token_keys: Annotated[dict[int, SecretStr], NoDecode] = Field(
        {}, description="Keys of the links in sent mail: `1:key,2:key`. The highest signs, all verify. Never drop one."
    )
    address_hash_key: SecretStr = Field(
        SecretStr(""), description="Key of the hashes that suppress an address. Never change it."
    )
    debug: bool = Field(False, description="Show errors in the browser; never in production.")
    admins: Annotated[list[str], NoDecode, _as_json(["me@example.org"])] = Field(
        [], description="Addresses that alerts are mailed to, as a JSON list."
    )
    hsts_subdomains: bool = Field(False, description="Whether all hosts below SITE_URL's speak https too, for good.")
    behind_proxy: bool = Field(False, description="Whether a proxy in front sets X-Forwarded-Proto and -For.")
    public_proxies: int = Field(
        0, ge=0, description="How many proxies with public addresses, such as a CDN, stand before that proxy."
    )
    lease_seconds: float = Field(
        180, gt=0, le=86_400, description="How long a worker owns a batch before others may take it over."
    )
    batch_size: int = Field(500, gt=0, description="Deliveries that one task sends.")
    chunk_size: int = Field(
        100,
        gt=0,
        le=1000,
        description="Deliveries claimed and noted at once: what one killed worker can leave in doubt.",
    )
    rate_per_second: _Rate = Field(
        0, description="Messages a second that all workers together hand over; 0: as many as are taken."
    )
    domain_rates: Annotated[dict[str, Annotated[_Rate, Field(gt=0)]], NoDecode, _as_json({"gmail.com": 5})] = Field(
        {}, description="Messages a second to the readers of a domain, as a JSON object."
    )
    warm_up: Annotated[
        dict[str, Annotated[date, BeforeValidator(_day)]], NoDecode, _as_json({"news.example.org": "2026-12-01"})
    ] = Field({}, description="Sending domains to be warmed up, each with its first day, as a JSON object.")
    retain_networks_days: int = Field(
        30, ge=1, le=_LONGEST_KEPT, description="Days for which the network and the program of a hit are kept."
    )
    # Hits of two weeks are counted anew every night (newsletter.events).
    retain_hits_days: int = Field(
        90, ge=15, le=_LONGEST_KEPT, description="Days for which each open, click and arrival is kept; counts stay."
    )
    retain_bounces_days: int = Field(
        180, ge=1, le=_LONGEST_KEPT, description="Days for which the words of a bounce are kept."
    )
    # No wait is longer than an hour (newsletter.deliveries.noting).
    retry_seconds: float = Field(
        20, gt=0, le=3600, description="First wait before mail that the relay put off is tried again."
    )
    hooks_private: bool = Field(
        False, description="Whether webhooks may go to http and to private addresses; for trials, never in production."
    )
    mailbox_path: Path | None = Field(None, description="Store of the local mail server; shows the mailbox page.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="What is worth logging.")

    @field_validator("domain_rates", "warm_up")
    @classmethod
    def _domains_are_lower_case(cls, value: dict[str, Any]) -> dict[str, Any]:
        if any("@" in domain or "." not in domain for domain in value):
            raise ValueError("name domains, like example.org")
        return {domain.lower(): setting for domain, setting in value.items()}

    @field_validator("token_keys", mode="before")
    @classmethod
    def _split_token_keys(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        pairs = [item.partition(":") for item in value.split(",") if item.strip()]
        if any(not number.strip().isdigit() or not 0 < int(number) < 256 or len(key) < 16 for number, _, key in pairs):
            raise ValueError("write it as 1:key,2:key with numbers from 1 to 255 and keys of at least 16 characters")
        if len({int(number) for number, _, _ in pairs}) < len(pairs):
            raise ValueError("give each key a number of its own")
        return {int(number): key for number, _, key in pairs}

    @field_validator("dkim_domain")
    @classmethod
    def _dkim_domain_is_one(cls, value: str) -> str:
        if value and not re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", value):
            raise ValueError("write it like example.org, an international name in its xn-- form")
        return value.lower()

    @field_validator("dkim_keys", mode="before")
    @classmethod
    def _split_dkim_keys(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        pairs = [item.strip().partition(":") for item in value.split(",") if item.strip()]
        if any(not re.fullmatch(r"[A-Za-z0-9.-]+", selector) or not path for selector, _, path in pairs):
            raise ValueError("write it as selector:file,selector:file")
        # Names in the DNS are the same in capitals.
        if len({selector.lower() for selector, _, _ in pairs}) < len(pairs):
            raise ValueError("give each key a selector of its own")
        return {selector: path for selector, _, path in pairs}

    @field_validator("bounce_address")
    @classmethod
    def _bounce_address_leaves_room(cls, value: str) -> str:
        # With a token of 50 characters and a plus sign the local part has 64 octets at most.
        local, _, host = value.partition("@")
        if value and not (re.fullmatch(r"[A-Za-z0-9._-]{1,13}", local) and re.fullmatch(_HOST, host)):
            raise ValueError("write it like bounces@news.example.org, with at most 13 ASCII characters before the @")
        return value

    @field_validator("bounce_mailbox")
    @classmethod
    def _bounce_mailbox_is_an_address(cls, value: SecretStr) -> SecretStr:
        try:
            parts = urlsplit(value.get_secret_value())
            usable = parts.scheme in {"imap", "imaps", "imap+starttls", "pop3", "pop3s", "pop3+starttls"}
            usable = usable and bool(parts.hostname and parts.username and parts.password) and _port_can_be(parts)
        except ValueError:
            usable = False
        if value.get_secret_value() and not usable:
            raise ValueError(
                "write it like imaps://user:password@mail.example.org/INBOX, signs like @ and / in user and password as"
                " %40 and %2F"
            )
        return value

    @field_validator("site_url")
    @classmethod
    def _site_url_is_an_address(cls, value: str) -> str:
        written = "write it like https://news.example.org"
        parts = _parts(value, written)
        if parts.scheme not in {"http", "https"} or parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(written)
        if not _port_can_be(parts):
            raise ValueError(_NO_PORT)
        # It stands in Message-ID and List-Id, which take neither other letters nor the colons of IPv6.
        if not re.fullmatch(_HOST, parts.hostname or ""):
            raise ValueError("name a host in ASCII letters, an international name in its xn-- form")
        return value.rstrip("/")

    @field_validator("smtp_url")
    @classmethod
    def _smtp_url_is_an_address(cls, value: str) -> str:
        written = "write it like smtp://user:password@mail.example.org:587"
        parts = _parts(value, written)
        if parts.scheme not in {"smtp", "smtps", "smtp+starttls"} or not parts.hostname:
            raise ValueError(written)
        try:
            parts.hostname.encode("idna")
        except UnicodeError:
            raise ValueError(written) from None
        if not _port_can_be(parts):
            raise ValueError(f"{_NO_PORT}; {written}, signs like @ and / in user and password as %40 and %2F")
        return value


def read() -> Environment:
    """What is set; ends the program, with a sentence for each setting that cannot be used."""
    try:
        return Environment()
    except ValidationError as error:
        for problem in error.errors():
            name, *inside = (str(part) for part in problem["loc"])
            reason = ": ".join([*inside, problem["msg"].removeprefix("Value error, ")])
            print(f"The setting {name.upper()} cannot be used: {reason}.", file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None
