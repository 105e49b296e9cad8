"""What became of a message that was handed over: the words both transports answer in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from newsletter.content import clean_line
from newsletter.retry_after import within_reason

MAX_REPLY = 300
# What holds no address, in any spelling, and is one line: nearly every reply.
_PLAIN = re.compile(r"[!-<>?A-~]+(?: [!-<>?A-~]+)*")
_ADDRESS = re.compile(r"""(?:"[^"]*"|[^\s<>"'(),:;\[\]]+)@[^\s<>"'(),:;]+""")


class Result(StrEnum):
    """How far a message got. Only UNKNOWN leaves a doubt."""

    ACCEPTED = "accepted"
    LATER = "later"  # certainly not sent: try again
    REFUSED = "refused"  # not for this reader, whenever it is tried
    SENDER_REFUSED = "sender_refused"  # nobody's mail will go: pause the dispatch
    UNKNOWN = "unknown"  # the last byte may have left and no answer came


@dataclass(frozen=True)
class Outcome:
    """What became of one delivery's message.

    `reply` is what the other side said, made by `one_line`; `provider_id` the provider's own id of the message or "";
    `retry_after` the seconds to wait before another try, where the other side asks for it or is left in peace.
    `tried` is False where nothing of this message was handed over: what it waits for is the other side, so it loses no
    try by LATER or SENDER_REFUSED, and it takes no place in a day's plan.
    """

    delivery_id: int
    result: Result
    reply: str
    provider_id: str = ""
    retry_after: float | None = None
    tried: bool = True

    @property
    def wait(self) -> float:
        """`retry_after`, whatever a transport put there, as seconds that a database can add: 0 where it is None."""
        return within_reason(self.retry_after or 0.0)


def one_line(reply: str, *addresses: str) -> str:
    """`reply` on one line of at most MAX_REPLY characters, without `addresses` and anything that looks like one.

    Addresses stand in one column only; what is noted of a delivery must not bring them back.
    """
    if _PLAIN.fullmatch(reply):
        return reply[:MAX_REPLY]
    line = _ADDRESS.sub("(address)", clean_line(reply))
    for address in filter(None, addresses):
        for written in (address, address.replace("@", "=")):  # the second as return addresses spell it
            line = re.sub(re.escape(written), "(address)", line, flags=re.IGNORECASE)
    return line[:MAX_REPLY]
