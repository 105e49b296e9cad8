"""How far a reader may be tracked: by what the newsletter does and what the reader chose. The only definition; the
snapshot asks it for what mail carries, and whoever writes hits down asks it again, for mail already sent."""

from __future__ import annotations

from newsletter.content import TrackingMode
from newsletter.models import Newsletter
from subscribers.models import Subscriber

Choice = Subscriber.Tracking


def tracking(newsletter: str, ask_first: bool, choice: str) -> TrackingMode:
    """The most that is allowed, of a newsletter's `tracking` and `ask_first` and a reader's choice.

    Following a reader one by one takes their word where the newsletter asks first, and is over where they took it back.
    """
    if newsletter == Newsletter.Tracking.OFF or choice == Choice.OFF:
        return TrackingMode.OFF
    if newsletter == Newsletter.Tracking.ANONYMOUS or choice == Choice.ANONYMOUS:
        return TrackingMode.ANONYMOUS
    if ask_first and choice != Choice.AGREED:
        return TrackingMode.ANONYMOUS
    return TrackingMode.INDIVIDUAL


def tracking_of(subscriber: Subscriber, newsletter: Newsletter) -> TrackingMode:
    """The same, of rows."""
    return tracking(newsletter.tracking, newsletter.ask_first, subscriber.tracking)


# What a reader chooses who chooses a mode.
CHOICES = {
    TrackingMode.OFF: Choice.OFF,
    TrackingMode.ANONYMOUS: Choice.ANONYMOUS,
    TrackingMode.INDIVIDUAL: Choice.AGREED,
}
