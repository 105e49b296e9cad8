"""How a rule about wording is written down."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from newsletter.bounces.verdicts import Cause
from newsletter.bounces.wording import fold


class Strength(Enum):
    """How far the words are believed."""

    CLEAR = "clear"
    VAGUE = "vague"


@dataclass(frozen=True)
class Rule:
    """Text in which `pattern` is found speaks of `cause`."""

    cause: Cause
    pattern: re.Pattern[str]
    strength: Strength = Strength.CLEAR


def rule(cause: Cause, *patterns: str, strength: Strength = Strength.CLEAR) -> Rule:
    """One rule out of several wordings of the same thing, accents or not."""
    return Rule(cause, any_of(*map(fold, patterns)), strength)


def any_of(*patterns: str) -> re.Pattern[str]:
    """One pattern that fits where any of `patterns` does."""
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
