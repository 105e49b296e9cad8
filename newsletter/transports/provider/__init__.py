"""Hands messages to an e-mail provider by django-anymail, over a session that is kept open.

Where the provider fills in each reader's own values (`merging.BATCHES`), one call carries many readers; elsewhere it is
one call each. The provider builds the messages itself from subject, text, HTML and headers. Its open and click tracking
is switched off where a call can do that; elsewhere it is off unless the provider's own settings turn it on.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from anymail.exceptions import AnymailError, AnymailRecipientsRefused  # type: ignore[import-untyped]
from anymail.message import AnymailMessage  # type: ignore[import-untyped]
from django.core.exceptions import ImproperlyConfigured

from newsletter import clock
from newsletter.message import Compiled, Mail, Reader, Sender
from newsletter.transports.outcomes import Outcome, Result, one_line
from newsletter.transports.provider import answers, backends, mails, merging
from newsletter.transports.provider.answers import Answer
from newsletter.transports.resting import Rest

if TYPE_CHECKING:
    from anymail.backends.base import AnymailBaseBackend  # type: ignore[import-untyped]

PROVIDERS = mails.SWITCHES_TRACKING | mails.CARRIES_METADATA | {"postal"}


class ProviderTransport:
    """The provider `name` of django-anymail, with the settings in ANYMAIL. Not to be shared between threads."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._backend: AnymailBaseBackend | None = None
        self._rest = Rest()

    def hand_over(
        self,
        mail: Mail,
        sender: Sender,
        into: list[Outcome],
        *,
        deadline: float,
        idempotency_key: uuid.UUID | None = None,
    ) -> None:
        """See `transports.Transport.hand_over`."""
        refused: Answer | None = None  # what the others would be told too
        for compiled, readers in mail:
            plan = _Plan(self.name, compiled, sender, readers)
            into += plan.refused
            waiting = deque(plan.groups)
            while waiting:
                group = waiting.popleft()
                said = refused or self._why_not(deadline) or self._ask(plan, group, idempotency_key)
                if isinstance(said, Answer) and said.result == Result.REFUSED and len(group) > 1:
                    # Some refuse a whole call for one reader, and do not say which: found by halves.
                    waiting.extendleft((group[len(group) // 2 :], group[: len(group) // 2]))
                    continue
                if isinstance(said, Answer) and said.result == Result.SENDER_REFUSED:
                    refused = replace(said, tried=False)
                into += _outcomes(group, said)

    def finish(self) -> None:
        """See `transports.Transport.finish`: `hand_over` waits for its answers itself."""

    def together(self, compiled: Compiled, sender: Sender, readers: Sequence[Reader]) -> list[list[int]]:
        """See `keys.Keyed.together`."""
        groups = _Plan(self.name, compiled, sender, readers).groups
        return [[reader.delivery_id for reader in group] for group in groups if len(group) > 1]

    def repeat(
        self,
        compiled: Compiled,
        sender: Sender,
        readers: Sequence[Reader],
        *,
        deadline: float,
        idempotency_key: uuid.UUID,
    ) -> list[Outcome]:
        """See `keys.Keyed.repeat`. A call that is refused is not tried by halves: these would have keys of their own,
        and what the first call said of each reader is not known."""
        plan = _Plan(self.name, compiled, sender, readers)
        if plan.groups != [list(readers)]:
            return []
        said = self._why_not(deadline) or self._ask(plan, readers, idempotency_key)
        return list(_outcomes(readers, said))

    def rests(self) -> float:
        """See `transports.Transport.rests`."""
        return self._rest.left

    def close(self) -> None:
        """Let the session go; the next `hand_over` opens another."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def _why_not(self, deadline: float) -> Answer | None:
        """Why no call should be made now, if so."""
        if clock.now() >= deadline:
            return Answer(Result.LATER, "The lease ran out before this message could leave.", tried=False)
        if rest := self._rest.left:
            reply = f"Not tried, since the provider had just failed: {self._rest.reason}"
            return Answer(Result.LATER, reply, retry_after=rest, tried=False)
        return None

    def _ask(self, plan: _Plan, group: Sequence[Reader], idempotency_key: uuid.UUID | None) -> Answer | list[Answer]:
        """What `_call` brings. A provider that neither takes nor refuses anybody is then left in peace for a while."""
        said = self._call(plan, group, idempotency_key)
        told = [said] if isinstance(said, Answer) else said
        if all(answer.result in {Result.LATER, Result.UNKNOWN} for answer in told):
            self._rest.begin(told[0].reply, told[0].retry_after)
        else:
            self._rest.served()
        return said

    def _call(self, plan: _Plan, group: Sequence[Reader], idempotency_key: uuid.UUID | None) -> Answer | list[Answer]:
        """What the provider answers to one call for `group`: to the call, or for each of them."""
        deliveries = " ".join(str(reader.delivery_id) for reader in group)
        key = uuid.uuid5(idempotency_key, deliveries) if idempotency_key else None
        mail = plan.mail(group, key)
        try:
            if self._backend is None:
                if self.name not in PROVIDERS:
                    raise ImproperlyConfigured(problems(self.name)[0])
                backend = backends.make(self.name)
                backend.open()
                self._backend = backend
            if self.name == "resend" and key:
                self._backend.session.headers["Idempotency-Key"] = str(key)
            self._backend.send_messages([mail])
        except ImproperlyConfigured as error:
            return Answer(Result.SENDER_REFUSED, answers.first_line(error), tried=False)
        except AnymailRecipientsRefused:
            pass  # its status says the same
        except AnymailError as error:
            return answers.of_error(error)
        return answers.of_status(mail.anymail_status, [reader.address for reader in group])


class _Plan:
    """Who goes into which call, and the mail for each. `refused` are the outcomes of readers who can be in none."""

    def __init__(self, name: str, compiled: Compiled, sender: Sender, readers: Sequence[Reader]) -> None:
        self.name, self.compiled, self.sender = name, compiled, sender
        self.headers: dict[int, dict[str, str]] = {}
        self.refused: list[Outcome] = []
        able: list[Reader] = []
        for reader in readers:
            try:
                self.headers[reader.delivery_id] = mails.own_headers(sender, reader)
                able.append(reader)
            except ValueError as error:  # no address, or no link to unsubscribe
                reply = one_line(str(error), reader.address)
                self.refused.append(Outcome(reader.delivery_id, Result.REFUSED, reply, tried=False))
        self.merged = merging.Merged(name, compiled, able) if name in merging.BATCHES and len(able) > 1 else None
        self.groups: list[list[Reader]] = [[reader] for reader in able]
        if self.merged:
            # django-anymail finds a reader's values by the address as it encodes it.
            fits = {each.delivery_id: each.address.isascii() and self.merged.values[each.delivery_id] for each in able}
            together = [reader for reader in able if fits[reader.delivery_id]]
            most = self.merged.batch.most
            self.groups = [together[start : start + most] for start in range(0, len(together), most)]
            self.groups += [[reader] for reader in able if not fits[reader.delivery_id]]

    def mail(self, group: Sequence[Reader], key: uuid.UUID | None) -> AnymailMessage:
        if len(group) == 1 or self.merged is None:
            own = self.headers[group[0].delivery_id]
            return mails.for_one(self.name, self.compiled, self.sender, group[0], own, key)
        return mails.for_many(self.merged, self.sender, group, self.headers, key)


def _outcomes(readers: Sequence[Reader], said: Answer | list[Answer]) -> Iterator[Outcome]:
    """One for each of `readers`, who were told this together or each in turn."""
    answers = [said] * len(readers) if isinstance(said, Answer) else said
    accepted: dict[str, str] = {}  # one call says the same of all its readers
    for reader, answer in zip(readers, answers, strict=True):
        if answer.result == Result.ACCEPTED:
            reply = accepted.get(answer.reply) or accepted.setdefault(answer.reply, one_line(answer.reply))
        else:
            reply = one_line(answer.reply, reader.address)
        yield Outcome(reader.delivery_id, answer.result, reply, answer.provider_id, answer.retry_after, answer.tried)


def problems(name: str) -> list[str]:
    """What is wrong with `name` as PROVIDER and with ANYMAIL, a sentence each; empty when it can be used."""
    if name not in PROVIDERS:
        return [f"PROVIDER is “{name}”, which is none of: {', '.join(sorted(PROVIDERS))}."]
    try:
        backends.make(name)
    except ImproperlyConfigured as error:
        return [f"PROVIDER {name} cannot be used: {answers.first_line(error)}"]
    return []
