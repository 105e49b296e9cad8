"""Keys against doing the same twice: which providers keep them, and for how long."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from newsletter.message import Compiled, Reader, Sender
from newsletter.transports.outcomes import Outcome

# By provider, as their documents say. Within that time the same call under the same key is answered as it was the
# first time, and no second mail goes out.
KEPT = {"resend": dt.timedelta(hours=24), "brevo": dt.timedelta(minutes=30)}


@runtime_checkable
class Keyed(Protocol):
    """A transport that may make a call again under its key."""

    def together(self, compiled: Compiled, sender: Sender, readers: Sequence[Reader]) -> list[list[int]]:
        """Which deliveries a `hand_over` of the same carries several to a call: their ids, call by call."""

    def repeat(
        self,
        compiled: Compiled,
        sender: Sender,
        readers: Sequence[Reader],
        *,
        deadline: float,
        idempotency_key: uuid.UUID,
    ) -> list[Outcome]:
        """Make the one call for `readers` again, and no other: an outcome each, in their order.

        None at all where these readers would not go in one call today: then its key cannot be made, either.
        """
