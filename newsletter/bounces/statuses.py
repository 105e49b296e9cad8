"""Enhanced status codes (RFC 3463 and the IANA registry it founded): what each means where no words say more.

A code alone is a weak witness: of real reports with 5.x.x two thirds are no hard bounces. So `judging` asks the words
first, and these tables when they are silent.
"""

from __future__ import annotations

import re

from newsletter.bounces.verdicts import Cause, Verdict

# Neither part of an IP address nor of a version or a date.
_STATUS = re.compile(r"(?<![\w.])(?:\((?=[245]))?#?([245])\.(\d{1,3})\.(\d{1,3})(?![\w.]*\d)")

# Subject and detail, whatever the class. RFC 3463 section 3 unless noted.
_MEANINGS: dict[str, Cause] = {
    "1.1": Cause.NO_MAILBOX,  # bad destination mailbox address
    "1.2": Cause.NO_DOMAIN,  # bad destination system address
    "1.3": Cause.NO_MAILBOX,  # bad destination mailbox address syntax
    "1.4": Cause.UNCLEAR,  # destination mailbox address ambiguous
    "1.6": Cause.MOVED,  # mailbox has moved, no forwarding address
    "1.7": Cause.SENDER,  # bad sender's mailbox address syntax
    "1.8": Cause.SENDER,  # bad sender's system address
    "1.9": Cause.UNCLEAR,  # message relayed to a non-compliant mailer (RFC 3886)
    "1.10": Cause.NO_MAIL_HERE,  # recipient address has null MX (RFC 7505); at Exchange: recipient not found
    "2.0": Cause.UNCLEAR,
    "2.1": Cause.DISABLED,  # mailbox disabled, not accepting messages
    "2.2": Cause.FULL,  # mailbox full
    "2.3": Cause.SIZE,  # message length exceeds administrative limit
    "2.4": Cause.SYSTEM,  # mailing list expansion problem
    "3.0": Cause.SYSTEM,
    "3.1": Cause.SYSTEM,  # mail system full
    "3.2": Cause.SYSTEM,  # system not accepting network messages
    "3.3": Cause.SYSTEM,  # system not capable of selected features
    "3.4": Cause.SIZE,  # message too big for system
    "3.5": Cause.SYSTEM,  # system incorrectly configured
    "4.0": Cause.NETWORK,
    "4.1": Cause.NETWORK,  # no answer from host
    "4.2": Cause.NETWORK,  # bad connection
    "4.3": Cause.NETWORK,  # directory server failure
    "4.4": Cause.NETWORK,  # unable to route
    "4.5": Cause.TRY_LATER,  # mail system congestion
    "4.6": Cause.NETWORK,  # routing loop detected
    "4.7": Cause.EXPIRED,  # delivery time expired
    "5.3": Cause.RATE,  # too many recipients
    "5.6": Cause.PROTOCOL,  # authentication exchange line is too long (RFC 4954)
    "7.2": Cause.RECIPIENT_REFUSES,  # mailing list expansion prohibited
    "7.13": Cause.DISABLED,  # user account disabled (RFC 5248)
    "7.17": Cause.MOVED,  # mailbox owner has changed (RFC 7293)
    "7.18": Cause.MOVED,  # domain owner has changed (RFC 7293)
    "7.20": Cause.AUTHENTICATION,  # no passing DKIM signature found (RFC 7372), and so on to 7.26
    "7.21": Cause.AUTHENTICATION,
    "7.22": Cause.AUTHENTICATION,
    "7.23": Cause.AUTHENTICATION,
    "7.24": Cause.AUTHENTICATION,
    "7.25": Cause.NO_REVERSE_NAME,  # reverse DNS validation failed (RFC 7372)
    "7.26": Cause.AUTHENTICATION,
    "7.27": Cause.SENDER,  # sender address has null MX (RFC 7505)
    "7.28": Cause.RATE,  # mail flood detected
    "7.29": Cause.AUTHENTICATION,  # ARC validation failure (RFC 8617)
    # Exchange Online, of who may write to a mailbox or group: "Email non-delivery reports in Exchange Online".
    "7.124": Cause.RECIPIENT_REFUSES,  # sender not in the list of allowed senders
    "7.133": Cause.RECIPIENT_REFUSES,  # sender not authenticated for a group
    "7.134": Cause.RECIPIENT_REFUSES,  # ... for a mailbox
    "7.135": Cause.RECIPIENT_REFUSES,  # ... for a public folder
    "7.136": Cause.RECIPIENT_REFUSES,  # ... for a mail user
}

# Where only the subject is known (RFC 3463 section 2): x.0.0 says nothing at all.
_SUBJECTS: dict[str, Cause] = {
    "1": Cause.UNCLEAR,
    "2": Cause.UNCLEAR,
    "3": Cause.SYSTEM,
    "4": Cause.NETWORK,
    "5": Cause.PROTOCOL,
    "6": Cause.CONTENT,
    "7": Cause.POLICY,
}


def find(text: str) -> str:
    """The first enhanced status code in `text` that says something (4.x.x and 5.x.x, x.0.0 last), or ""."""
    found = ["{}.{}.{}".format(*match.groups()) for match in _STATUS.finditer(text) if match[1] != "2"]
    return next((status for status in found if not says_nothing(status)), found[0] if found else "")


def says_nothing(status: str) -> bool:
    """Whether `status` is empty or x.0.0, "other undefined status"."""
    return not status or status.endswith(".0.0")


def cause(status: str) -> Cause | None:
    """What `status` means, or None where it says nothing. A hard cause is believed of a permanent failure only."""
    if says_nothing(status):
        return None
    level, subject, detail = status.split(".")
    found = _MEANINGS.get(f"{subject}.{detail}") or _SUBJECTS.get(subject)
    if found is not None and found.verdict is Verdict.HARD and level != "5":
        return Cause.TRY_LATER
    return found
