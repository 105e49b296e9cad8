"""The only package that talks SMTP or to a provider: hands messages over and says what became of each."""

from __future__ import annotations

import uuid
from typing import Protocol

from newsletter.message import Mail, Sender, dkim
from newsletter.settings import ENV
from newsletter.transports.keys import KEPT, Keyed
from newsletter.transports.outcomes import Outcome, Result, one_line

__all__ = [
    "KEPT",
    "Keyed",
    "Outcome",
    "Result",
    "Transport",
    "hand_over",
    "keyed",
    "longest_wait",
    "one_line",
    "open_transport",
    "problems",
]


class Transport(Protocol):
    """A way out, with connections of its own that are kept open: each thread has its own transport."""

    @property
    def name(self) -> str:
        """What an Attempt notes: `smtp`, or the provider's name."""

    def hand_over(
        self,
        mail: Mail,
        sender: Sender,
        into: list[Outcome],
        *,
        deadline: float,
        idempotency_key: uuid.UUID | None = None,
    ) -> None:
        """Put one outcome per reader of `mail` into `into`. Faults of the network and of the other side are outcomes.

        Each is put there as soon as it is known, so that it stays where the call is cut short. It may return while
        answers are still out, so that more mail can be had meanwhile: they come during the next call, or `finish`.
        `deadline` is on the clock of `clock.now`: no message begins to leave after it; the rest is LATER.
        Where the other side keeps keys against doing the same twice, each call has one of its own, which follows from
        `idempotency_key` and the readers it carries: the same chunk makes the same calls again. SMTP has none.
        """

    def finish(self) -> None:
        """Wait for all answers that are still out."""

    def rests(self) -> float:
        """Seconds until the next `hand_over` is of any use: the other side is away or asked to wait. 0: now.

        Raises a fault of our own that what is under way met since the last call.
        """

    def close(self) -> None:
        """Let the connections go, and what is under way; the next `hand_over` opens others."""


def hand_over(
    transport: Transport, mail: Mail, sender: Sender, *, deadline: float, idempotency_key: uuid.UUID | None = None
) -> list[Outcome]:
    """What `transport` says of each reader of `mail`, in their order."""
    outcomes: list[Outcome] = []
    transport.hand_over(mail, sender, outcomes, deadline=deadline, idempotency_key=idempotency_key)
    transport.finish()
    order = [reader.delivery_id for _, readers in mail for reader in readers]
    return sorted(outcomes, key=lambda outcome: order.index(outcome.delivery_id))


def open_transport() -> Transport:
    """The transport the settings name: a provider's, else SMTP. Opens no connection yet.

    Raises ImproperlyConfigured, AnymailConfigurationError or ValueError where `problems` has something to say.
    """
    if ENV.provider:
        from newsletter.transports import provider

        return provider.ProviderTransport(ENV.provider)
    from newsletter.transports import smtp

    return smtp.SmtpTransport(
        ENV.smtp_url,
        timeout=ENV.smtp_timeout,
        connections=ENV.smtp_connections,
        messages_per_connection=ENV.smtp_messages_per_connection,
        signers=dkim.signers(ENV.dkim_domain, ENV.dkim_keys),
    )


def keyed(transport: Transport) -> Keyed | None:
    """`transport` where the other side keeps keys against doing the same twice."""
    return transport if transport.name in KEPT and isinstance(transport, Keyed) else None


def longest_wait() -> float:
    """Seconds that one message may take once it has begun to leave: what a lease must outlast its deadline by."""
    return 2 * ENV.smtp_timeout


def problems() -> list[tuple[str, str]]:
    """What is wrong with the settings of the way out, a sentence and a hint each; empty when mail can go."""
    way = "Set SMTP_URL, or PROVIDER and ANYMAIL; docs/settings.md has examples."
    if ENV.provider:
        from newsletter.transports import provider

        return [(problem, way) for problem in provider.problems(ENV.provider)]
    from newsletter.transports import smtp

    signing = "Set DKIM_DOMAIN and DKIM_KEYS, or neither where the relay signs; docs/settings.md says how to make keys."
    return [
        *((problem, way) for problem in smtp.problems(ENV.smtp_url)),
        *((problem, signing) for problem in dkim.problems(ENV.dkim_domain, ENV.dkim_keys)),
    ]
