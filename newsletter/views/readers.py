"""Whom the weak link in a mail belongs to. Mail gets forwarded: what stands behind it shows no address and no data."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _

from newsletter import tracking
from newsletter.models import Newsletter
from newsletter.views.pages import NotFound
from subscribers.models import Subscriber, Subscription


@dataclass(frozen=True)
class Reader:
    """What a valid reader token leads to; what was erased or deleted since is None."""

    token: str
    said: tracking.ReaderToken
    subscriber: Subscriber | None
    newsletter: Newsletter | None

    def subscription(self) -> Subscription | None:
        """The reader's state for the newsletter."""
        found = Subscription.objects.filter(subscriber=self.subscriber, newsletter=self.newsletter)
        return found.select_related("subscriber", "newsletter").first()


def read(token: str) -> tracking.ReaderToken:
    """What `token` says, without a look at the database. Raises NotFound."""
    try:
        return tracking.read_reader_token(token)
    except tracking.BadToken as error:
        raise NotFound(
            _("The link is incomplete. Open it from the mail again, or copy it with its last character.")
        ) from error


def find(token: str) -> Reader:
    """The reader of `token`. Raises NotFound as `read` does."""
    said = read(token)
    return Reader(
        token=token,
        said=said,
        subscriber=Subscriber.objects.filter(public_id=said.subscriber_public_id).first(),
        newsletter=Newsletter.objects.filter(public_id=said.newsletter_public_id).first(),
    )
