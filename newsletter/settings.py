"""Settings, read once from the environment, typed; `docs/settings.md` explains each for operators.

Every setting has a default that serves the embedded case: SQLite, no broker, a mail server on this machine. What must
differ in production is refused by `manage.py check --deploy` (newsletter.checks).
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

import dj_database_url
from celery.schedules import crontab
from kombu import Queue
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

BASE_DIR = Path(__file__).resolve().parent.parent
# RFC 1035 section 2.3.4: with a longer name List-Unsubscribe would fit into no line.
_HOST = r"(?=.{1,253}\Z)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*"


class Environment(BaseSettings):
    """What an operator may set: environment variables of these names in capitals, or lines in `.env`."""

    model_config = SettingsConfigDict(env_file=BASE_DIR / ".env", extra="ignore", frozen=True)

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
    anymail: dict[str, Any] = Field({}, description="The provider's settings for django-anymail, as a JSON object.")
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
    admins: list[str] = Field([], description="Addresses that alerts are mailed to, as a JSON list.")
    hsts_subdomains: bool = Field(False, description="Whether all hosts below SITE_URL's speak https too, for good.")
    behind_proxy: bool = Field(False, description="Whether a proxy in front sets X-Forwarded-Proto and -For.")
    public_proxies: int = Field(
        0, ge=0, description="How many proxies with public addresses, such as a CDN, stand before that proxy."
    )
    lease_seconds: float = Field(
        180, gt=0, description="How long a worker owns a batch before others may take it over."
    )
    batch_size: int = Field(500, gt=0, description="Deliveries that one task sends.")
    chunk_size: int = Field(
        100,
        gt=0,
        le=1000,
        description="Deliveries claimed and noted at once: what one killed worker can leave in doubt.",
    )
    rate_per_second: float = Field(
        0, ge=0, description="Messages a second that all workers together hand over; 0: as many as are taken."
    )
    domain_rates: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="Messages a second to the readers of a domain, as a JSON object."
    )
    warm_up: dict[str, date] = Field(
        {}, description="Sending domains to be warmed up, each with its first day, as a JSON object."
    )
    retain_networks_days: int = Field(
        30, ge=1, description="Days for which the network and the program of a hit are kept."
    )
    # Hits of two weeks are counted anew every night (newsletter.events).
    retain_hits_days: int = Field(
        90, ge=15, description="Days for which each open, click and arrival is kept; counts stay."
    )
    retain_bounces_days: int = Field(180, ge=1, description="Days for which the words of a bounce are kept.")
    retry_seconds: float = Field(20, gt=0, description="First wait before mail that the relay put off is tried again.")
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
        parts = urlsplit(value.get_secret_value())
        try:
            usable = parts.scheme in {"imap", "imaps", "imap+starttls", "pop3", "pop3s", "pop3+starttls"}
            usable = usable and bool(parts.hostname and parts.username and parts.password) and parts.port != 0
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
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError("write it like https://news.example.org")
        # It stands in Message-ID and List-Id, which take neither other letters nor the colons of IPv6.
        if not re.fullmatch(_HOST, parts.hostname or ""):
            raise ValueError("name a host in ASCII letters, an international name in its xn-- form")
        return value.rstrip("/")

    @field_validator("smtp_url")
    @classmethod
    def _smtp_url_is_an_address(cls, value: str) -> str:
        parts = urlsplit(value)
        try:
            (parts.hostname or "").encode("idna")
            usable = parts.scheme in {"smtp", "smtps", "smtp+starttls"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("write it like smtp://user:password@mail.example.org:587")
        return value


def _read_environment() -> Environment:
    try:
        return Environment()
    except ValidationError as error:
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"]).upper()
            print(f"The setting {name} cannot be used: {problem['msg']}.", file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None


def _kept_key(name: str) -> str:
    """A key made at first use and kept in DATA_DIR, for the embedded case; created so that two processes agree."""
    path = ENV.data_dir / name
    made = path.with_name(f"{name}.{os.getpid()}.{secrets.token_hex(4)}")
    if not path.exists():
        made.touch(mode=0o600)
        made.write_text(secrets.token_urlsafe(48), encoding="ascii")
        try:
            os.link(made, path)
        except FileExistsError:
            pass
        finally:
            made.unlink()
    return path.read_text(encoding="ascii")


ENV = _read_environment()
ENV.data_dir.mkdir(parents=True, exist_ok=True)
_site = urlsplit(ENV.site_url)
_https = _site.scheme == "https"

SECRET_KEY = ENV.secret_key.get_secret_value() or _kept_key("secret_key")
TOKEN_KEYS = {number: key.get_secret_value() for number, key in ENV.token_keys.items()} or {1: _kept_key("token_key")}
ADDRESS_HASH_KEY = ENV.address_hash_key.get_secret_value() or _kept_key("address_hash_key")
DEBUG = ENV.debug
SITE_URL, BOUNCE_ADDRESS, REDIS_URL = ENV.site_url, ENV.bounce_address, ENV.redis_url
BEHIND_PROXY, PUBLIC_PROXIES = ENV.behind_proxy, ENV.public_proxies
INTAKE_DIR = ENV.data_dir / "intake"  # what came back, in files, where there is no Redis or it is away
ALLOWED_HOSTS = sorted({_site.hostname or "", "localhost", "127.0.0.1", "[::1]"})
CSRF_TRUSTED_ORIGINS = [f"{_site.scheme}://{_site.netloc}"]

INSTALLED_APPS = [
    "newsletter.apps.NewsletterConfig",
    "subscribers.apps.SubscribersConfig",
    "unfold",  # the admin's theme; before the admin, whose templates it replaces
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "anymail",
]
# What sets headers on every answer, whatever gave it.
HEADER_MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "newsletter.security.SecurityHeaders",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
MIDDLEWARE = [
    *HEADER_MIDDLEWARE,
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "newsletter.urls"
WSGI_APPLICATION = "newsletter.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# The admin's theme asks these for what it shows; `newsletter.admin.base` is the only other place that knows the theme.
UNFOLD = {
    "SITE_TITLE": "Masthead",
    "SITE_HEADER": "Masthead",
    "SITE_SYMBOL": "stacked_email",
    "SITE_URL": "/",
    "STYLES": ["newsletter.admin.site.style"],
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "newsletter.admin.site.icon"}],
    "BORDER_RADIUS": "6px",
    "ENVIRONMENT": "newsletter.admin.site.environment",
    "DASHBOARD_CALLBACK": "newsletter.admin.dashboard.fill",
    "SIDEBAR": {"navigation": "newsletter.admin.site.navigation"},
    "COLORS": {
        "primary": {
            "50": "#eff6ff",
            "100": "#dbeafe",
            "200": "#bfdbfe",
            "300": "#93c5fd",
            "400": "#60a5fa",
            "500": "#3b82f6",
            "600": "#0b57d0",
            "700": "#0a4ab0",
            "800": "#1e40af",
            "900": "#1e3a8a",
            "950": "#172554",
        },
    },
}


def _database() -> dict[str, Any]:
    url = ENV.database_url or f"sqlite:///{ENV.data_dir / 'masthead.sqlite3'}"
    database: dict[str, Any] = dict(dj_database_url.parse(url, conn_max_age=600, conn_health_checks=True))
    if database["ENGINE"] == "django.db.backends.sqlite3":
        path = Path(database["NAME"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # it holds every reader's address
        database["OPTIONS"] = {
            # IMMEDIATE: a transaction that will write takes its lock first, so two workers wait instead of failing.
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            # FULL: what the engine noted as handed over is on the disk before the message leaves.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        }
    else:
        # A worker that froze in a transaction would hold its locks, and with them every tick, for ever. It has no more
        # to say in there than its lease lasts.
        idle = f"-c idle_in_transaction_session_timeout={round(ENV.lease_seconds * 1000)}"
        # A chunk needs a hundred rows by their ids. What PostgreSQL takes that to cost holds for turning disks: while
        # the table is small, it would read the whole of it instead.
        # Compiling a query takes 50 ms, and none of ours is made faster by so much.
        given = database.setdefault("OPTIONS", {})
        given["options"] = f"{idle} -c random_page_cost=1.1 -c jit=off {given.get('options', '')}".strip()
    return database


DATABASES = {"default": _database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = True
FORMAT_MODULE_PATH = "newsletter.formats"
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "static"
WHITENOISE_USE_FINDERS = not STATIC_ROOT.exists()
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if STATIC_ROOT.exists()
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}

# Celery rings the bell and the rows are the queue (newsletter.tasks), so its own settings only keep it honest.
CELERY_BROKER_URL = REDIS_URL
# Batches rung at once may be thousands: what looks at the rows, and what starts an issue, does not queue behind them.
# Webhooks wait for other people's servers, and what readers' mail brings back comes in thousands: workers of their own
# may serve them. One that is told nothing takes from all queues in turn.
CELERY_TASK_QUEUES = [Queue("celery"), Queue("soon"), Queue("hooks"), Queue("intake")]
CELERY_TASK_ROUTES = {f"newsletter.tasks.{name}": {"queue": "soon"} for name in ("tick", "prepare", "tidy")}
# Nobody waits for what a task returns; what it did stands in the rows. So there is no result backend either.
CELERY_TASK_IGNORE_RESULT = True
# A ring is done with when its task is, so that the ring of a worker that dies is another's at once, and not only when
# the rows are looked at again. Without the second Celery takes a killed process for one that has done its work.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
# A task may take half a minute and longer: nobody keeps rings that an idle worker could answer.
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# A connection to the database outlives its task, until it breaks or is CONN_MAX_AGE old (newsletter.celery): making one
# for each task took the database longer than the task's work.
CELERY_DB_REUSE_MAX = sys.maxsize
# SIGTERM waits for tasks as long as they take, and these stop after their chunk. Who has no patience (SIGQUIT, or
# Ctrl-C twice) waits so many seconds. Tasks hear nothing of that, so it is as long as one takes (sending.TASK_SECONDS)
# and a chunk more.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 45
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_REDIRECT_STDOUTS = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # Longer than any task: a ring delivered twice finds the batch leased and does nothing.
    "visibility_timeout": 3600,
    "socket_timeout": 30,
    "socket_connect_timeout": 5,
}
CELERY_BEAT_SCHEDULE = {
    # A tick that waited too long is worth nothing: the next one sees the same rows.
    "tick": {"task": "newsletter.tasks.tick", "schedule": 1.0, "options": {"expires": 5}},
    "judge_late": {
        "task": "newsletter.tasks.judge_late",
        "schedule": 60.0,
        "options": {"expires": 60, "queue": "intake"},
    },
    "forget": {
        "task": "newsletter.tasks.forget",
        "schedule": crontab(hour="4", minute="47"),
        "options": {"expires": 3600, "queue": "intake"},
    },
    "reconcile": {
        "task": "newsletter.tasks.reconcile",
        "schedule": crontab(hour="3", minute="17"),
        "options": {"expires": 3600, "queue": "intake"},
    },
    "tidy": {"task": "newsletter.tasks.tidy", "schedule": 3600.0, "options": {"expires": 3600}},
}
CELERY_BEAT_SCHEDULE_FILENAME = str(ENV.data_dir / "beat-schedule")

# Django's own mail carries only alerts to ADMINS; what readers get goes through newsletter.transports.
_relay = urlsplit(ENV.smtp_url)
ADMINS = [("", address) for address in ENV.admins]
SERVER_EMAIL = DEFAULT_FROM_EMAIL = f"masthead@{_site.hostname}"
if ENV.provider:
    EMAIL_BACKEND = f"anymail.backends.{ENV.provider}.EmailBackend"
EMAIL_HOST, EMAIL_PORT = _relay.hostname, _relay.port or {"smtp": 25, "smtps": 465, "smtp+starttls": 587}[_relay.scheme]
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = unquote(_relay.username or ""), unquote(_relay.password or "")
EMAIL_USE_SSL, EMAIL_USE_TLS = _relay.scheme == "smtps", _relay.scheme == "smtp+starttls"
EMAIL_TIMEOUT = ENV.smtp_timeout
ANYMAIL = {**ENV.anymail, "REQUESTS_TIMEOUT": ENV.smtp_timeout}  # what leases are measured against

SECURE_SSL_REDIRECT = _https
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if ENV.behind_proxy else None
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if _https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _https and ENV.hsts_subdomains
# Whether the domain's other hosts speak https is for the operator to know, not for a check to demand.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
X_FRAME_OPTIONS = "DENY"
LOGIN_URL, LOGIN_REDIRECT_URL = "admin:login", "admin:index"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": ENV.log_level},
    # A tick a second is not worth three lines a second.
    "loggers": {name: {"level": "WARNING"} for name in ("celery.beat", "celery.worker.strategy", "celery.app.trace")},
}
