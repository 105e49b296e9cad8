"""From what the other side said to a cause: words first, then the enhanced code, then the reply code and the step."""

from __future__ import annotations

import re

from newsletter.bounces import redaction, statuses
from newsletter.bounces.phrases import RULES, Strength
from newsletter.bounces.verdicts import Cause, Judgement, Verdict
from newsletter.bounces.wording import simplify

# A reply code stands at the start of a line or after what a mail server puts before it.
_CODE = re.compile(r"(?:^|[\s:;,(\[\"'>-])([45]\d\d)(?=[\s,:;.)\]\"'-]|$)", re.MULTILINE)

# Causes that a code names without saying anything: words found elsewhere are better.
_HOLLOW = frozenset({Cause.UNCLEAR, Cause.POLICY, Cause.SYSTEM, Cause.NETWORK, Cause.PROTOCOL, Cause.TRY_LATER})

_EARLY_STEPS = frozenset({"connect", "banner", "helo", "ehlo", "starttls", "auth", "mail"})
_DATA_STEPS = frozenset({"data", "bdat", "content", "dot"})


def judge(text: str, *, code: int | None = None, status: str | None = None, step: str | None = None) -> Judgement:
    """What a refusal means.

    `text` is a server's reply or a provider's words, in any language, with or without codes. `code` (550) and `status`
    ("5.1.1") are those already known apart from it, `step` the SMTP command refused: connect, helo, auth, mail, rcpt,
    data. A temporary code never gives a hard verdict. Never raises.
    """
    code = code if code is not None else _reply_code(text)
    status = _best_status(status, text)
    temporary = code // 100 == 4 if code else status.startswith("4")
    return weigh(text, code=code, status=status, step=step, temporary=temporary)


def weigh(
    text: str, *, code: int | None = None, status: str | None = None, step: str | None = None, temporary: bool = False
) -> Judgement:
    """Like `judge`, but what is `temporary` is for the caller to say: after days of trying nothing is any more."""
    code = code if code is not None else _reply_code(text)
    status = _best_status(status, text)
    cause = _cause(simplify(text), code, status, (step or "").lower())
    if temporary and cause.verdict is Verdict.HARD:
        cause = Cause.TRY_LATER
    return Judgement(cause, status, redaction.without_addresses(text))


def is_hollow(judgement: Judgement) -> bool:
    """Whether other words about the same failure would be worth more."""
    return judgement.cause in _HOLLOW


def says_why(text: str) -> bool:
    """Whether `text` has words that name a cause clearly."""
    return _by_words(simplify(text), Strength.CLEAR) is not None


def _cause(plain: str, code: int | None, status: str, step: str) -> Cause:
    clear = _by_words(plain, Strength.CLEAR)
    if clear is not None:
        # Under x.7.x a server speaks of security: where it also says what it holds against the sender, that is meant.
        if clear.verdict is Verdict.HARD and status[1:].startswith(".7."):
            against_sender = _by_words(plain, Strength.CLEAR, Verdict.BLOCK)
            return against_sender or clear
        return clear
    meant = statuses.cause(status)
    if meant is not None and meant not in _HOLLOW:
        return meant
    vague = _by_words(plain, Strength.VAGUE)
    if vague is not None and (vague.verdict is not Verdict.HARD or _may_be_hard(code, status)):
        return vague
    if meant is not None:
        return meant
    if code and code // 100 == 4:
        return Cause.TRY_LATER
    if step in _EARLY_STEPS or step in _DATA_STEPS:
        return Cause.POLICY  # refused before, or after, the reader was named: not because of the reader
    return Cause.UNCLEAR


def _by_words(plain: str, strength: Strength, verdict: Verdict | None = None) -> Cause | None:
    for rule in RULES:
        fits = rule.strength is strength and (verdict is None or rule.cause.verdict is verdict)
        if fits and rule.pattern.search(plain):
            return rule.cause
    return None


def _may_be_hard(code: int | None, status: str) -> bool:
    if code and code // 100 == 4:
        return False
    return statuses.says_nothing(status) or status.startswith(("5.1.", "5.5."))


def _best_status(status: str | None, text: str) -> str:
    """The known status, unless the text has one that says more."""
    given = statuses.find(status or "")
    if given and not statuses.says_nothing(given):
        inner = statuses.find(text)
        # Postfix and others pass on 5.0.0 or the first digit they know; the server's own words carry the real one.
        return inner if not statuses.says_nothing(inner) else given
    return statuses.find(text) or given


def _reply_code(text: str) -> int | None:
    match = _CODE.search(text[:4000])
    return int(match[1]) if match else None
