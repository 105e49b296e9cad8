"""Hands messages to a relay by SMTP, over one connection that is kept open.

One transaction per reader. What an error means depends on how far the message had got: until the last byte was given to
the system nothing was sent and another try is safe; after that only the relay's answer tells.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Sequence

from newsletter import message
from newsletter.message import Compiled, Reader, Sender
from newsletter.transports.outcomes import Outcome, Result, one_line
from newsletter.transports.smtp.connection import Connection, Refused, Relay
from newsletter.transports.smtp.transaction import TOO_LATE, Verdict, can_take, transact

MESSAGES_PER_CONNECTION = 100  # what large receivers take; more brings 421 from many
# Connections lost one after the other; then the rest of a chunk waits, or it would wait out a timeout per reader.
GIVE_UP_AFTER = 3


class SmtpTransport:
    """One connection to the relay of `url`, opened when first needed and again when it was lost.

    Not to be shared between threads. Raises ValueError where `url` is not the address of a relay.
    """

    name = "smtp"

    def __init__(self, url: str, *, timeout: float) -> None:
        self._relay = Relay.from_url(url)
        self._timeout = timeout
        self._connection: Connection | None = None
        self._lost_in_a_row = 0

    def hand_over(
        self, compiled: Compiled, sender: Sender, readers: Sequence[Reader], *, deadline: float
    ) -> list[Outcome]:
        """See `transports.Transport.hand_over`."""
        self._lost_in_a_row = 0
        outcomes: list[Outcome] = []
        for reader in readers:
            if time.monotonic() >= deadline:
                verdict = Verdict(Result.LATER, TOO_LATE)
            elif outcomes and outcomes[-1].result == Result.SENDER_REFUSED:
                verdict = Verdict(Result.SENDER_REFUSED, outcomes[-1].reply)
            elif self._lost_in_a_row >= GIVE_UP_AFTER:
                verdict = Verdict(Result.LATER, f"Not tried: the relay was lost {GIVE_UP_AFTER} times running.")
            else:
                verdict = self._deliver(compiled, sender, reader, deadline)
            outcomes.append(Outcome(reader.delivery_id, verdict.result, one_line(verdict.reply, reader.address)))
        return outcomes

    def close(self) -> None:
        """Say QUIT and let the connection go; the next `hand_over` opens another."""
        self._drop(politely=True)

    def _deliver(self, compiled: Compiled, sender: Sender, reader: Reader, deadline: float) -> Verdict:
        try:
            octets = message.assemble(compiled, reader)
        except ValueError as error:
            return Verdict(Result.REFUSED, str(error))
        verdict = self._try(sender, reader.address, octets, deadline)
        if verdict is None:  # a kept connection that the relay had given up meanwhile: a new one is worth a try
            verdict = self._try(sender, reader.address, octets, deadline)
        assert verdict is not None, "a new connection always has a verdict"  # noqa: S101
        self._lost_in_a_row = self._lost_in_a_row + 1 if self._connection is None else 0
        return verdict

    def _try(self, sender: Sender, address: str, octets: bytes, deadline: float) -> Verdict | None:
        """The verdict of one transaction; None where nothing was sent and the connection had served before."""
        connection = self._connection
        if connection is not None and connection.answered >= MESSAGES_PER_CONNECTION:
            self._drop(politely=True)
            connection = None
        try:
            if connection is None:
                connection = Connection(self._relay, name=_greeting_name(sender.domain), timeout=self._timeout)
                self._connection = connection
            if not can_take(connection, address):
                return Verdict(Result.REFUSED, "The address is not supported by this route: it needs SMTPUTF8.")
            verdict = transact(connection, sender.address, address, octets, deadline=deadline)
        except Refused as error:
            return Verdict(Result.SENDER_REFUSED, str(error))
        except OSError as error:
            self._drop()
            had_served = connection is not None and connection.answered > 0
            if had_served and isinstance(error, ConnectionError):
                return None
            return Verdict(Result.LATER, str(error) or type(error).__name__)
        if verdict.close:
            self._drop()
        return verdict

    def _drop(self, *, politely: bool = False) -> None:
        if self._connection is not None:
            self._connection.close(politely=politely)
            self._connection = None


def problems(url: str) -> list[str]:
    """What is wrong with `url` as SMTP_URL, a sentence each; empty when it can be used."""
    try:
        relay = Relay.from_url(url)
    except ValueError as error:
        return [str(error)]
    if relay.user and not relay.security and not _is_this_machine(relay.host):
        return ["SMTP_URL would send its password in the clear: write smtps:// or smtp+starttls://."]
    return []


def _greeting_name(domain: str) -> str:
    """`domain` as EHLO wants it (RFC 5321 section 4.1.3): a name, or an address literal."""
    try:
        address = ipaddress.ip_address(domain)
    except ValueError:
        return domain.encode("idna").decode("ascii")
    return f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
