"""From what the other side said to a cause: words first, then the enhanced code, then the reply code and the step."""

from __future__ import annotations

import re
from functools import lru_cache

from newsletter.bounces import redaction, statuses
from newsletter.bounces.phrases import RULES, Strength
from newsletter.bounces.verdicts import Cause, Judgement, Verdict
from newsletter.bounces.wording import simplify

# A reply code stands at the start of a line or after what a mail server puts before it.
_CODE = re.compile(r"(?:^|[\s:;,(\[\"'>-])([45]\d\d)(?=[\s,:;.)\]\"'-]|$)", re.MULTILINE)

# At which step a server refused, as mail systems tell: Sendmail and Courier by a transcript, Postfix, Exim and qmail in
# words.
_STEPS = re.compile(
    r">>> ?(?P<transcript>[A-Za-z]{4})\b[^\n]{0,300}\n\s*<<< ?[45]\d\d|in reply to (?:end of )?(?P<postfix>[A-Za-z]{4})"
    r"|(?:after|in response to)(?: the| initial)? (?:end of |sending )?(?P<exim>data|mail from|rcpt to|helo"
    r"|ehlo|connection)\b"
    r"|(?P<qmail>does not like recipient|failed after i sent the message|but sender was rejected|but greeting failed)",
    re.IGNORECASE,
)
_QMAIL_STEPS = {"does": "rcpt", "failed": "data", "but sender": "mail", "but greeting": "connect"}

_COME_BACK = re.compile(r"temporar|(?:re-?try|try (?:it )?(?:again )?)(?: ?later| ?tomorrow| ?in )|later time")
_ABOUT_SENDER = frozenset({".1.7", ".1.8"})
# Whose domain it is that a reply cannot find: ours. "Returned to sender" is what follows.
_OUR_DOMAIN = re.compile(
    r"\benvelope\b|(?<!to )(?<!to the )\bsender\b|\byour (?:\w+ )?(?:domain|host|server|(?:host ?)?name)\b"
)
_BARE_UNKNOWN = re.compile(r"unknown user|user unknown", re.IGNORECASE)

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


# Cisco's and Amazon's relays put their own words for their own code before the reply, which stands in quotes.
_WRAPPED = re.compile(r"\b([45]\.\d\.\d) - [\w /-]{3,60}? [45]\d\d-?\s?'(.{3,}?)'(?: \(delivery|\s*$)", re.DOTALL)


def weigh(
    text: str,
    *,
    code: int | None = None,
    status: str | None = None,
    step: str | None = None,
    temporary: bool = False,
    quoted: bool = True,
) -> Judgement:
    """Like `judge`, but what is `temporary` is for the caller to say: after days of trying nothing is any more.

    `quoted` says that `text` is a server's own reply. In a letter around it, vague words are politeness.
    """
    code = code if code is not None else _reply_code(text)
    wrapped = _WRAPPED.search(text)
    if wrapped:
        text, status = wrapped[2], wrapped[1]
    status = _best_status(status, text)
    step = (step or step_in(text)).lower()
    plain = simplify(text)
    cause = _cause(plain, code, status, step, quoted=quoted)
    if cause in (Cause.NO_MAILBOX, Cause.MOVED) and quoted and _COME_BACK.search(plain):
        cause = Cause.TRY_LATER  # who asks to come back does not say that the mailbox is gone
    elif cause is Cause.NO_MAILBOX and _pretends(text, status, step):
        cause = Cause.RECIPIENT_REFUSES
    elif cause.verdict is Verdict.HARD and (step == "mail" or status[1:] in _ABOUT_SENDER):
        cause = Cause.SENDER  # what is unknown there is the sender
    elif cause is Cause.NO_DOMAIN and code and _is_ours(plain, status):
        cause = Cause.SENDER
    if temporary and cause.verdict is Verdict.HARD:
        cause = Cause.TRY_LATER
    return Judgement(cause, status, redaction.without_addresses(text))


def is_hollow(judgement: Judgement) -> bool:
    """Whether other words about the same failure would be worth more: not where words already outweighed the code."""
    by_code = statuses.cause(judgement.status)
    outweighed = judgement.cause is Cause.TRY_LATER and by_code is not None and by_code.verdict is Verdict.HARD
    return judgement.cause in _HOLLOW and not outweighed


def says_why(text: str, *, vaguely: bool = False) -> bool:
    """Whether `text` has words that name a cause clearly, or at least `vaguely`."""
    plain = simplify(text)
    found = _by_words(plain, Strength.CLEAR) or (_by_words(plain, Strength.VAGUE) if vaguely else None)
    return found is not None


def step_in(text: str) -> str:
    """The SMTP step at which `text`, a transcript or a sentence, says that mail was refused, or ""."""
    match = _STEPS.search(text)
    if match and match["qmail"]:
        said = match["qmail"].lower()
        return next(step for words, step in _QMAIL_STEPS.items() if said.startswith(words))
    return (match["transcript"] or match["postfix"] or match["exim"]).lower().split()[0] if match else ""


def _pretends(text: str, status: str, step: str) -> bool:
    """Whether "unknown user", and no more, is said of a mailbox that is there.

    A server knows its mailboxes when it hears the name (RCPT) and has a code for a missing one (x.1.1). One that says
    it after reading the mail, or with a code for the state of a mailbox or system, has a filter that pretends: Japanese
    mobile networks do so by the reader's own rules.
    """
    late = step in _DATA_STEPS and status[1:3] != ".1"
    return bool(_BARE_UNKNOWN.search(text)) and (late or status[1:3] in {".2", ".3"})


def _is_ours(plain: str, status: str) -> bool:
    """Whether a domain that is not found is the sender's: so says the reply, or a code for the form of a command
    (x.5.x) or for security (x.7.x), while no recipient is spoken of. Others are about the destination."""
    if status[1:] == ".1.2" or status[1:3] == ".4":
        return False
    by_code = status[1:3] in {".5", ".7"} and not status.endswith(".5.0")
    return bool(_OUR_DOMAIN.search(plain)) or (by_code and "recipient" not in plain)


def _cause(plain: str, code: int | None, status: str, step: str, *, quoted: bool) -> Cause:
    clear = _by_words(plain, Strength.CLEAR)
    if clear is not None:
        cause, words = clear
        if cause.verdict is not Verdict.HARD:
            return cause
        # Under x.7.x a server speaks of security: where it also says what it holds against the sender, that is meant.
        # Without a code that is so of spam alone, whose words a reply may quote; its filter's name is no reason.
        others = plain.replace(words, ";").replace("anti-spam", ";")
        against_us = _by_words(others, Strength.CLEAR, Verdict.BLOCK)
        spam = statuses.says_nothing(status) and against_us is not None and against_us[0] is Cause.SPAM
        return against_us[0] if against_us and (spam or status[1:].startswith(".7.")) else cause
    meant = statuses.cause(status)
    if meant is not None and meant not in _HOLLOW:
        return meant
    vague = _by_words(plain, Strength.VAGUE) if quoted else None
    if vague is not None and (vague[0].verdict is not Verdict.HARD or _may_be_hard(code, status)):
        return vague[0]
    if meant is not None:
        return meant
    if code and code // 100 == 4:
        return Cause.TRY_LATER
    if step in _EARLY_STEPS or step in _DATA_STEPS:
        return Cause.POLICY  # refused before, or after, the reader was named: not because of the reader
    return Cause.UNCLEAR


@lru_cache(maxsize=32)  # of one report the same words are asked for several times, and of many recipients
def _by_words(plain: str, strength: Strength, verdict: Verdict | None = None) -> tuple[Cause, str] | None:
    """The first rule of this strength (and verdict) that fits: its cause and the words that it found."""
    for rule in RULES:
        fits = rule.strength is strength and (verdict is None or rule.cause.verdict is verdict)
        match = rule.pattern.search(plain) if fits else None
        if match:
            return rule.cause, match[0]
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
