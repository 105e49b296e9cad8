"""Why a hit is judged as it is: short codes that are stored, and a sentence for each."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Reason(StrEnum):
    """One reason. The values are stored with the hits: add, never rename."""

    PLAIN = "plain"
    PROXY = "proxy"
    APART = "apart"
    READ = "read"
    METHOD = "method"
    PREFETCH = "prefetch"
    APPLE = "apple"
    GMAIL = "gmail"
    NO_AGENT = "no-agent"
    BARE_AGENT = "bare-agent"
    CRAWLER = "crawler"
    EARLY = "early"
    SWEEP = "sweep"
    BESIDE = "beside-sweep"
    CHECKED = "checked"
    CROWD = "crowd"
    ONE_LINK = "one-link"
    QUICK = "quick"
    NO_BROWSER = "no-browser"
    FORGED = "forged"


SENTENCES = {
    Reason.PLAIN: "It came as a reader's mail program or browser asks, and nothing speaks against it.",
    Reason.PROXY: "The mail service fetched the picture for a reader who opened the mail (Gmail, Yahoo).",
    Reason.APART: "It came later, or from another network, than the one before it that nobody can tell.",
    Reason.READ: "The same reader had opened the mail before.",
    Reason.METHOD: "The request asked whether the address works, not for what it leads to (HEAD, OPTIONS).",
    Reason.PREFETCH: "The request said itself that it was made in advance (prefetch).",
    Reason.APPLE: "Apple's privacy protection fetches every picture, whether or not the mail is read.",
    Reason.GMAIL: "Gmail fetched the picture in advance, as it does while a mailbox is open.",
    Reason.NO_AGENT: "The request did not say what program made it.",
    Reason.BARE_AGENT: "The request named a program as no browser does.",
    Reason.CRAWLER: "The request named a known crawler, link preview, scanner or script.",
    Reason.EARLY: "It came before the mail was handed over.",
    Reason.SWEEP: "Many links of this mail were followed at once, as only a link scanner does.",
    Reason.BESIDE: "It came from a link scanner's network right before or after it followed the links.",
    Reason.CHECKED: "The same program, or another of its network, had just asked whether the address works.",
    Reason.CROWD: "One network asked for the mail of many readers of one domain within a minute, as a scanner does.",
    Reason.ONE_LINK: "The mail has a single link, so that a scanner's click soon after delivery looks like a person's.",
    Reason.QUICK: "Several links were followed faster than a hand moves.",
    Reason.NO_BROWSER: "The program is no browser that is known.",
    Reason.FORGED: "The part of the link that says whose mail it stood in was damaged or made up.",
}


def sentences(codes: str | Iterable[str]) -> list[str]:
    """The sentences for stored codes; a code of an older version that is not known any more stands for itself."""
    split = codes.split(",") if isinstance(codes, str) else codes
    known = {reason.value: sentence for reason, sentence in SENTENCES.items()}
    return [known.get(code, code) for code in split if code]
