"""A proof: one mail of an issue to one address, so that the author sees it in a real mail program before readers do.

It goes through the gate, the renderer, the message and the transport like every mail. It belongs to no dispatch and no
reader: nothing of it is tracked, stored or counted, and its footer leads to the newsletter's public page.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from email.utils import make_msgid

from django.conf import settings
from django.db.models import Q

from newsletter import clock, fields, gate, message, rendering, transports
from newsletter.content import Profile, TrackingMode
from newsletter.models import Halt, Issue
from newsletter.pinned import sender_of
from newsletter.transports import Outcome
from subscribers import addresses
from subscribers.models import Suppression

MARK = "[Test]"


class ProofRefused(ValueError):
    """No proof can be sent there; the message is a sentence that says why."""


def send(issue: Issue, address: str, profile: Profile) -> Outcome:
    """Send the form of `issue` that readers of `profile` get to `address`, now; what the other side answered.

    Call it outside any transaction. Raises ProofRefused while all sending is halted and for an address that is none or
    must not be written to, rendering.RenderingError for an issue that cannot be rendered, ValueError for a sender that
    cannot send.
    """
    if halted := Halt.objects.in_words():
        raise ProofRefused(f"All sending is halted: {halted}")
    parsed = _checked(issue, address)
    content = issue.content()
    content = replace(content, subject=f"{MARK} {content.subject or content.title}")
    rendered = rendering.render(gate.view(content, profile), tracking=TrackingMode.OFF, text_only=profile.text_only)
    sender = sender_of(content, f"i0:n{issue.newsletter_id}:test", bulk=False)
    public_page = f"{settings.SITE_URL}/{content.newsletter_slug}/"
    reader = message.Reader(
        delivery_id=0,
        address=parsed.given,
        name="",
        message_id=make_msgid(domain=sender.domain).strip("<>"),
        date=dt.datetime.now(dt.UTC),
        values={name: public_page for name in fields.MERGE_FIELDS if name.endswith("_url")},
    )
    transport = transports.open_transport()
    try:
        deadline = clock.now() + transports.longest_wait()
        mail = [(message.compile(rendered, sender), [reader])]
        return transports.hand_over(transport, mail, sender, deadline=deadline)[0]
    finally:
        transport.close()


def _checked(issue: Issue, address: str) -> addresses.Address:
    try:
        parsed = addresses.parse(address)
    except ValueError as error:
        raise ProofRefused(str(error)) from error
    everywhere_or_here = Q(newsletter=None) | Q(newsletter=issue.newsletter)
    fingerprint = addresses.fingerprint(parsed.key)
    if Suppression.objects.filter(everywhere_or_here, fingerprint=fingerprint).exists():
        raise ProofRefused("This address must not be written to: it bounced, complained or asked for it.")
    return parsed
