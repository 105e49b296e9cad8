"""A notice: what a provider, a mail server or a mailbox says of one delivery or one address."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Any

from newsletter.bounces import Cause, Judgement, Verdict
from newsletter.models import Event

Kind = Event.Kind
KINDS = frozenset({Kind.ACCEPTED, Kind.DELIVERED, Kind.DEFERRED, Kind.BOUNCE, Kind.COMPLAINT, Kind.UNSUBSCRIBE})
VERDICTS = frozenset({Verdict.HARD, Verdict.SOFT, Verdict.BLOCK})

# For keys that are made of what a notice is about, where the other side gives none.
_NAMESPACE = uuid.UUID("8d1c7a1e-5f0b-4c0e-9a54-0b6f0c3e7d21")


def key_of(*parts: object) -> uuid.UUID:
    """The key of what `parts` name: the same parts, the same notice."""
    return uuid.uuid5(_NAMESPACE, "\x1f".join(str(part) for part in parts))


@dataclass(frozen=True)
class Notice:
    """One notice. `key` is the same whenever it comes again, and `at` (aware) is when it happened.

    It names what it is about in one of these ways; the first that leads to a delivery counts. `delivery_id` from our
    own metadata or a signed return address; `message_id`, with or without brackets, of the mail we sent; `provider_id`,
    the provider's own id of the message; `fingerprint` of the address that we wrote to, by which alone a reader is
    found but no mail. Leave `fingerprint` out where a report names an address that mail was forwarded to.

    `newsletter_id` says what somebody leaves by an unsubscribe that names no delivery; without it, everything.
    `verdict` and `cause` are those of a bounce (`Notice.bounced` makes them of a Judgement), `status` is an enhanced
    status code. `detail` is what the other side said; addresses are taken out of it when it is written down.
    """

    kind: Event.Kind
    key: uuid.UUID
    at: dt.datetime
    source: str
    delivery_id: int | None = None
    message_id: str = ""
    provider_id: str = ""
    fingerprint: str = ""
    newsletter_id: int | None = None
    verdict: str = ""
    cause: str = ""
    status: str = ""
    detail: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError with a sentence where the fields do not go together."""
        if self.kind not in KINDS:
            raise ValueError(f"“{self.kind}” is no kind of notice.")
        if self.at.tzinfo is None:
            raise ValueError("A notice says when it happened with its time zone.")
        if self.kind == Kind.BOUNCE and self.verdict not in VERDICTS:
            raise ValueError(f"A bounce is {', '.join(sorted(VERDICTS))}, not “{self.verdict}”.")
        if self.cause and self.cause not in Cause.__members__:
            raise ValueError(f"“{self.cause}” is no cause of a bounce.")

    @classmethod
    def bounced(cls, judgement: Judgement, **fields: Any) -> Notice:
        """A bounce as `judgement` has it."""
        return cls(
            kind=Kind.BOUNCE,
            verdict=judgement.verdict.value,
            cause=judgement.cause.name,
            status=judgement.status,
            detail=judgement.diagnostic,
            **fields,
        )

    def as_json(self) -> dict[str, Any]:
        """An entry for `intake.put(Channel.NOTICE, …)`: what JSON can hold, and only what is known."""
        known = {name: value for name, value in vars(self).items() if value not in ("", None)}
        return known | {"kind": str(self.kind.value), "key": str(self.key), "at": self.at.isoformat()}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Notice:
        """What `as_json` wrote. Raises ValueError, TypeError or KeyError where it did not."""
        return cls(
            **{
                **entry,
                "kind": Kind(entry["kind"]),
                "key": uuid.UUID(entry["key"]),
                "at": dt.datetime.fromisoformat(entry["at"]),
            }
        )
