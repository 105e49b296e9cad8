"""What a bounce means: four verdicts, the causes behind them in an author's words, and what `read` and `judge` give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from types import MappingProxyType


class Verdict(StrEnum):
    """What follows from a message that came back.

    HARD   the address or its domain does not exist: nobody will ever read mail there
    SOFT   the address may well exist, but the mail did not arrive this time
    BLOCK  the mail, its sender or the sending machine was refused: never the reader's fault
    """

    HARD = "hard"
    SOFT = "soft"
    BLOCK = "block"
    NOT_A_BOUNCE = "not-a-bounce"
    COMPLAINT = "complaint"


class Kind(StrEnum):
    """What a message in the return-path mailbox is. Only a BOUNCE has the verdict hard, soft or block."""

    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    NOTICE = "notice"  # delivered, relayed, delayed and still being tried, opened; a report on somebody else's mail
    AUTO_REPLY = "auto-reply"
    UNSUBSCRIBE = "unsubscribe"
    REPLY = "reply"
    UNREADABLE = "unreadable"  # no mail at all


class Cause(Enum):
    """Why mail came back: the verdict, and the reason as an author reads it."""

    NO_MAILBOX = Verdict.HARD, "There is no such mailbox."
    NO_DOMAIN = Verdict.HARD, "The address's domain does not exist or cannot receive mail."
    MOVED = Verdict.HARD, "The mailbox has moved to another address."
    NO_MAIL_HERE = Verdict.HARD, "The address's domain takes no mail at all."
    FULL = Verdict.SOFT, "The mailbox is full."
    DISABLED = Verdict.SOFT, "The mailbox is suspended, locked or unused for long; that may end."
    RECIPIENT_REFUSES = Verdict.SOFT, "The mailbox takes no mail from outside, or only from senders it knows."
    TRY_LATER = Verdict.SOFT, "The receiving server asked to try again later."
    EXPIRED = Verdict.SOFT, "The receiving server took no mail for days."
    NETWORK = Verdict.SOFT, "The receiving server could not be reached."
    SYSTEM = Verdict.SOFT, "Something was broken at the receiving server."
    UNCLEAR = Verdict.SOFT, "The mail was refused, and the receiving server did not say why."
    REPUTATION = Verdict.BLOCK, "The receiving server does not trust the machine that sent the mail."
    NO_REVERSE_NAME = Verdict.BLOCK, "The machine that sent the mail has no proper name in the DNS."
    AUTHENTICATION = Verdict.BLOCK, "The mail failed SPF, DKIM or DMARC."
    RATE = Verdict.BLOCK, "More mail came than the receiving server takes from this sender at once."
    SPAM = Verdict.BLOCK, "The mail was taken for spam."
    CONTENT = Verdict.BLOCK, "Something in the mail was refused: an attachment, a link or its form."
    POLICY = Verdict.BLOCK, "A rule of the receiving server refused the mail."
    SENDER = Verdict.BLOCK, "The sender's address was refused."
    RELAY = Verdict.BLOCK, "The server refused to pass the mail on."
    SIZE = Verdict.BLOCK, "The mail is larger than the receiving server takes."
    PROTOCOL = Verdict.BLOCK, "The receiving server did not understand the sending one."

    @property
    def verdict(self) -> Verdict:
        """The verdict that follows."""
        return self.value[0]

    @property
    def words(self) -> str:
        """One sentence for the author."""
        return self.value[1]


@dataclass(frozen=True)
class Judgement:
    """What one refusal means.

    `status` is an enhanced status code (RFC 3463) such as "5.1.1", or "" where none was given; `diagnostic` is what the
    other side said, on one line, cut, with all addresses removed.
    """

    cause: Cause
    status: str = ""
    diagnostic: str = ""

    @property
    def verdict(self) -> Verdict:
        """Hard, soft or block."""
        return self.cause.verdict

    @property
    def reason(self) -> str:
        """The cause in plain words."""
        return self.cause.words


@dataclass(frozen=True)
class Failure:
    """One recipient whom mail did not reach. `address` is "" where the report does not name it."""

    address: str
    judgement: Judgement


@dataclass(frozen=True)
class Report:
    """What `read` found in one message.

    `failures` has the recipients of a bounce, the gravest first; the report's own verdict, reason, status and
    diagnostic are those of the first. Their addresses are there to be looked up and dropped. `message_id` (without
    angle brackets) and `headers` (names in lower case: Message-ID, List-Id, List-Unsubscribe, Feedback-ID) come from
    the mail that was returned. `sent_to` are the addresses that the message itself was sent to: a return address with a
    token is among them. `feedback_type` is that of a complaint by RFC 5965. `asks_to_leave` says that an automatic
    answer has the words of somebody who leaves; whoever knows what the address is for knows whether they are meant.
    """

    kind: Kind
    verdict: Verdict
    reason: str
    status: str = ""
    diagnostic: str = ""
    failures: tuple[Failure, ...] = ()
    message_id: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    sent_to: tuple[str, ...] = ()
    feedback_type: str = ""
    asks_to_leave: bool = False

    @property
    def recipients(self) -> tuple[str, ...]:
        """The addresses of `failures` that are known."""
        return tuple(failure.address for failure in self.failures if failure.address)
