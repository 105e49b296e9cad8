"""One hit by itself: what its request says."""

from __future__ import annotations

from newsletter.judging import agents
from newsletter.judging.facts import CLICK, OPEN, Facts, Judged, Judgement
from newsletter.judging.reasons import Reason

# After this a click on the only link of a mail is a person's: of 836 scanners that were measured 2.6 % came more than
# five minutes after delivery, while people go on reading for days.
# https://github.com/putyourlightson/craft-campaign/issues/546
SCANS_WITHIN = 600.0  # seconds after delivery


def judge(hit: Facts) -> Judgement:
    """Who made `hit`, by its request alone. Reasons that speak for a machine are all named."""
    machine = tuple(_machine(hit))
    forged = (Reason.FORGED,) if hit.forged else ()
    if machine:
        return Judgement(Judged.MACHINE, (*machine, *forged))
    if forged:  # a person whose mail program damaged the link, or somebody who makes up clicks
        return Judgement(Judged.UNKNOWN, forged)
    if hit.kind == OPEN:
        return Judgement(Judged.PERSON, (Reason.PROXY if agents.is_proxy(hit.agent) else Reason.PLAIN,))
    if not agents.is_browser(hit.agent):
        return Judgement(Judged.UNKNOWN, (Reason.NO_BROWSER,))
    if hit.links == 1 and is_soon(hit):
        return Judgement(Judged.UNKNOWN, (Reason.ONE_LINK,))
    return Judgement(Judged.PERSON, (Reason.PLAIN,))


def is_soon(hit: Facts) -> bool:
    """Whether it came so soon after delivery that a scanner may have made it; True where that is not known."""
    return hit.since_sent is None or hit.since_sent <= SCANS_WITHIN


def _machine(hit: Facts) -> list[Reason]:
    click, agent = hit.kind == CLICK, hit.agent
    checks = {
        Reason.METHOD: hit.method not in {"GET", "POST"},
        Reason.PREFETCH: hit.prefetch,
        Reason.EARLY: hit.since_sent is not None and hit.since_sent < 0,
        Reason.NO_AGENT: not agent,
        Reason.APPLE: agent == agents.APPLE and not click,
        Reason.BARE_AGENT: agent == agents.APPLE and click,
        Reason.GMAIL: agent == agents.GMAIL_PREFETCH,
        # A picture proxy that follows a link is none.
        Reason.CRAWLER: agents.is_crawler(agent) and (click or not agents.is_proxy(agent)),
    }
    return [reason for reason, holds in checks.items() if holds]
