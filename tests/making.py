"""Rows for tests: each function makes one thing, with fields of the test's choice."""

from __future__ import annotations

import itertools
from typing import Any

from newsletter import events, intake, scheduling
from newsletter.hooks import signing
from newsletter.intake import Channel
from newsletter.models import Dispatch, Hook, Issue, Newsletter, Occurrence, Section
from subscribers import addresses, tiers
from subscribers.models import Membership, Subscriber, Subscription, Tier

# What a person's browser says it is.
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:147.0) Gecko/20100101 Firefox/147.0"

_count = itertools.count(1)


def make_newsletter(**fields: Any) -> Newsletter:
    """A newsletter with individual tracking, `weekly` where nothing else is said."""
    defaults = {
        "slug": "weekly",
        "name": "The Weekly",
        "from_address": "desk@weekly.example",
        "postal_address": "1 Lamp Street, Harbour Town",
        "tracking": Newsletter.Tracking.INDIVIDUAL,
    }
    return Newsletter.objects.create(**{**defaults, **fields})


def make_subscriber(address: str = "", *, tier: str = "", **fields: Any) -> Subscriber:
    """A person, holding `tier` (a slug) where one is named."""
    parsed = addresses.parse(address or f"reader{next(_count)}@readers.example")
    subscriber = Subscriber.objects.create(
        address=parsed.given, address_key=parsed.key, fingerprint=addresses.fingerprint(parsed.key), **fields
    )
    if tier:
        tiers.ensure_default()
        Membership.objects.create(subscriber=subscriber, tier=Tier.objects.get(slug=tier))
    return subscriber


def make_reader(newsletter: Newsletter, address: str = "", *, tier: str = "", **fields: Any) -> Subscription:
    """A person with an active subscription to `newsletter`; `fields` are the subscription's."""
    subscriber = make_subscriber(address, tier=tier)
    defaults = {"status": Subscription.Status.ACTIVE}
    return Subscription.objects.create(newsletter=newsletter, subscriber=subscriber, **{**defaults, **fields})


def make_issue(newsletter: Newsletter, *, paid: str = "", **fields: Any) -> Issue:
    """An issue with a lead and a section for everyone, and one for paid readers with the text `paid`."""
    number = next(_count)
    defaults = {"number": number, "title": f"Issue {number}", "subject": f"Subject {number}"}
    issue = Issue.objects.create(newsletter=newsletter, **{**defaults, **fields})
    Section.objects.create(issue=issue, position=0, body='Hello {{ name|default:"there" }}.')
    Section.objects.create(issue=issue, position=1, heading="News", body="Read [this](https://example.com/a?b=c#d).")
    if paid:
        tiers.ensure_default()
        audience, tier = Section.AudienceChoice.FROM_TIER, Tier.objects.get(slug="paid")
        Section.objects.create(
            issue=issue, position=2, heading="For members", body=paid, audience=audience, tier=tier, when_locked="tease"
        )
    return issue


def make_hook(url: str = "https://hooks.example/", **fields: Any) -> Hook:
    """A webhook for the whole site that is told everything."""
    defaults = {"name": "CRM", "kinds": [kind.value for kind in Occurrence.Kind], "secret": signing.new_secret()}
    return Hook.objects.create(url=url, **{**defaults, **fields})


def issue_of(dispatch: Dispatch) -> Issue:
    """The issue that a dispatch sends."""
    assert dispatch.issue is not None
    return dispatch.issue


def make_dispatch(newsletter: Newsletter, *, readers: int = 0, **fields: Any) -> Dispatch:
    """A dispatch that is SENDING, its audience of `readers` new readers (and those there are) frozen and rendered."""
    for _ in range(readers):
        make_reader(newsletter)
    dispatch = scheduling.schedule(make_issue(newsletter, **fields))
    scheduling.start_due()
    scheduling.prepare(dispatch)
    dispatch.refresh_from_db()
    return dispatch


def take_in() -> int:
    """Write down what readers' mail brought back so far, as a worker does; how many hits came."""
    return intake.drain(Channel.HIT, events.write_hits)
