"""Rows: fields, states, constraints and querysets. The rules that change them live in the modules named after them."""

from newsletter.models.dispatches import (
    Attempt,
    Batch,
    Breach,
    Delivery,
    Dispatch,
    DispatchProfile,
    Halt,
    Restoration,
    SendingDay,
    Variant,
)
from newsletter.models.events import Bounce, BounceMailbox, Event, Hour, Mark, Tally
from newsletter.models.hooks import Call, Hook, Occurrence
from newsletter.models.issues import Issue, Revision, Section
from newsletter.models.newsletters import Newsletter, StandingSection, Theme

__all__ = [
    "Attempt",
    "Batch",
    "Bounce",
    "BounceMailbox",
    "Breach",
    "Call",
    "Delivery",
    "Dispatch",
    "DispatchProfile",
    "Event",
    "Halt",
    "Hook",
    "Hour",
    "Issue",
    "Mark",
    "Newsletter",
    "Occurrence",
    "Restoration",
    "Revision",
    "Section",
    "SendingDay",
    "StandingSection",
    "Tally",
    "Theme",
    "Variant",
]
