"""What is known of a hit, and what is made of it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum

from newsletter.judging.reasons import Reason

OPEN, CLICK = "open", "click"


class Judged(StrEnum):
    """Who made a hit."""

    PERSON = "person"
    MACHINE = "machine"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Judgement:
    """Who made a hit, and why."""

    judged: Judged
    reasons: tuple[Reason, ...]

    @property
    def codes(self) -> str:
        """The reasons with commas between, as they are stored."""
        return ",".join(self.reasons)


@dataclass(frozen=True, slots=True)
class Facts:
    """A hit as it came.

    `kind` is OPEN or CLICK, `at` when it came, `since_sent` the seconds since the mail was handed over (None: not
    known), `network` a /24 or /48 ("": not known), `url` where a click led. `delivery` says whose mail it was by
    anything that can be compared (None for anonymous tracking: such a hit belongs to no mail), `domain` that of the
    reader's address ("": not known), `links` how many different links the mail has (0: not known).
    `forged`: its link came with a token that is none of ours.
    """

    kind: str
    at: dt.datetime
    method: str = "GET"
    agent: str = ""
    network: str = ""
    prefetch: bool = False
    since_sent: float | None = None
    url: str = ""
    delivery: int | str | None = None
    domain: str = ""
    links: int = 0
    forged: bool = False
