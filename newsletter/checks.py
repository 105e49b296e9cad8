"""System checks: settings that would lose or leak mail are errors always, what production must not have with --deploy.

masthead.E001  a lease ends before the transport is sure to have answered
masthead.E002  the transport's settings cannot be used
masthead.E004  the mailbox for bounces cannot be used
masthead.E010  SITE_URL is not https
masthead.E011  a key is not set in the environment
masthead.E012  DEBUG is on
masthead.E013  the mailbox page is open
masthead.E014  a newsletter's mail comes from an address that relays or mail services refuse (needs --database)
masthead.E003  events of a provider can never be taken as it is set
masthead.E020  webhooks may go to private addresses
masthead.E021  nothing proves whose a provider's events are
masthead.W001  workers share a SQLite file
masthead.W002  mail goes to the relay of a development machine
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections

from newsletter import fetching, freemail, incoming, transports
from newsletter.environment import Environment
from newsletter.models import Newsletter
from newsletter.settings import ENV

TAG = "masthead"

LEASE_IN_WAITS = 1.5  # how many of the transport's longest waits a lease holds at the least, to leave time for sending

_LOCAL_NAMES = ("localhost", "localdomain", "local", "internal", "invalid", "test")
_KEYS = {
    "secret_key": "sessions and one-time links",
    "token_keys": "the links in sent mail",
    "address_hash_key": "the hashes that keep suppressed addresses away",
}


@register(TAG)
def leases_outlast_the_transport(**_: Any) -> list[CheckMessage]:
    """A worker may be waiting for an answer when its lease ends, and another would send the same chunk again."""
    longest = transports.longest_wait()
    least = LEASE_IN_WAITS * longest
    if ENV.lease_seconds >= least:
        return []
    return [
        Error(
            f"LEASE_SECONDS is {ENV.lease_seconds:g}, and a message may wait {longest:g} s for its answer.",
            hint=f"Set LEASE_SECONDS to {least:g} or more, or SMTP_TIMEOUT to less.",
            id="masthead.E001",
        )
    ]


@register(TAG)
def the_transport_can_be_used(**_: Any) -> list[CheckMessage]:
    """PROVIDER and SMTP_URL name something that mail can be handed to, and what DKIM_KEYS names can sign it."""
    return [Error(problem, hint=hint, id="masthead.E002") for problem, hint in transports.problems()]


@register(TAG)
def the_provider_of_events_is_known(**_: Any) -> list[CheckMessage]:
    """EVENTS_FROM names a provider that tells anything."""
    return [Error(problem, hint=hint, id="masthead.E003") for problem, hint in incoming.unknown()]


@register(TAG, deploy=True)
def events_prove_whose_they_are(**_: Any) -> list[CheckMessage]:
    """Whoever could send events in the provider's name could end anybody's subscription."""
    return [Error(problem, hint=hint, id="masthead.E021") for problem, hint in incoming.problems()]


@register(TAG)
def the_mailbox_for_bounces_can_be_used(**_: Any) -> list[CheckMessage]:
    """BOUNCE_MAILBOX names a mailbox, and its password does not go in the clear."""
    hint = "Set BOUNCE_MAILBOX; docs/operators.md has examples."
    return [
        Error(problem, hint=hint, id="masthead.E004")
        for problem in fetching.problems(ENV.bounce_mailbox.get_secret_value())
    ]


@register(TAG, deploy=True)
def the_environment_is_fit_for_production(**_: Any) -> list[CheckMessage]:
    """What is handy on one machine and unsafe or unsure where readers are."""
    found: list[CheckMessage] = []
    if not ENV.site_url.startswith("https://"):
        found.append(
            Error(
                f"SITE_URL is {ENV.site_url}: one-click unsubscribe needs https (RFC 8058 section 3.1).",
                hint="Set SITE_URL to the https address at which readers reach this site.",
                id="masthead.E010",
            )
        )
    for name, use in _KEYS.items():
        if not _is_set(name):
            found.append(
                Error(
                    f"{name.upper()} is not set: the key of {use} stands only in a file in DATA_DIR.",
                    hint=f"Set {name.upper()} and keep a copy; to go on with the key in use, take it from that file.",
                    id="masthead.E011",
                )
            )
    if ENV.debug:
        hint = "Take DEBUG out of the environment."
        found.append(Error("DEBUG shows settings and code to visitors.", hint=hint, id="masthead.E012"))
    if ENV.mailbox_path:
        hint = "Take MAILBOX_PATH out of the environment: it belongs to the demo."
        found.append(Error("The mailbox page shows every mail to any visitor.", hint=hint, id="masthead.E013"))
    if ENV.hooks_private:
        hint = "Take HOOKS_PRIVATE out of the environment."
        found.append(Error("Webhooks may call what listens inside your network.", hint=hint, id="masthead.E020"))
    if ENV.redis_url and connections["default"].vendor == "sqlite":
        found.append(
            Warning(
                "Celery workers share a SQLite file: it takes one writer at a time, and workers on one machine only.",
                hint="Set DATABASE_URL to a PostgreSQL database.",
                id="masthead.W001",
            )
        )
    if not ENV.provider and ENV.smtp_url == Environment.model_fields["smtp_url"].default:
        found.append(
            Warning(
                f"Mail goes to {ENV.smtp_url}, the default for a development machine.",
                hint="Set SMTP_URL to your relay, or PROVIDER to your provider.",
                id="masthead.W002",
            )
        )
    return found


@register(Tags.database, deploy=True)
def senders_are_domains_of_ours(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Every newsletter's mail comes from a domain that its author can vouch for (SPF, DKIM, DMARC)."""
    if "default" not in (databases or ()):
        return []
    if Newsletter._meta.db_table not in connections["default"].introspection.table_names():
        return []
    return [
        Error(
            f"The newsletter {slug} sends from {address}: other mail services refuse that from your server.",
            hint="In the admin, give it an address at a domain of yours, with SPF and DKIM for your relay or provider.",
            id="masthead.E014",
        )
        for slug, address in Newsletter.objects.order_by("slug").values_list("slug", "from_address")
        if _is_foreign(address.rpartition("@")[2].lower())
    ]


def _is_set(name: str) -> bool:
    value = getattr(ENV, name)
    return bool(value if isinstance(value, dict) else value.get_secret_value())


def _is_foreign(domain: str) -> bool:
    return domain in freemail.REFUSING_OTHERS or domain.rpartition(".")[2] in _LOCAL_NAMES
