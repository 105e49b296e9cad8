"""Django's and Celery's settings, which follow from what an operator set (newsletter.environment), read once."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import dj_database_url
from celery.schedules import crontab
from kombu import Queue

from newsletter import environment
from newsletter.environment import BASE_DIR


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


ENV = environment.read()
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
