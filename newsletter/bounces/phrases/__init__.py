"""What receiving servers say, by cause: the words weigh more than any code.

Each table lists rules in the order in which they are asked; `strength` says how far one is believed:

    CLEAR  the words name the cause: believed against any status code
    VAGUE  the words fit several causes: believed where no clear rule fits, and the code does not speak against it

The patterns are matched on a text that `wording.simplify` has made plain: lower case, one space between words, straight
quotes, "@" for an address, "ip" for a numeric one, "⌂" for a host name, "url" for a link, no reply codes.
"""

from __future__ import annotations

from newsletter.bounces.phrases import mailbox, network, other_languages, sender
from newsletter.bounces.phrases.rules import Rule, Strength

__all__ = ["RULES", "Rule", "Strength"]

# The sender is asked for first, its address and its machine: "sender rejected: user unknown" is about nobody's mailbox
# but ours. What is said of a mailbox comes before what is said of the mail: a server that names it has looked for it.
RULES: tuple[Rule, ...] = (
    *sender.ABOUT_THE_SENDER,
    *other_languages.ABOUT_THE_SENDER,
    *sender.ABOUT_THE_CLIENT,
    *sender.ABOUT_HOW_MUCH,
    *mailbox.FULL,
    *other_languages.FULL,
    *network.WHILE_LOOKING_UP,
    *mailbox.CLOSED,
    *other_languages.CLOSED,
    *mailbox.RESTRICTED,
    *mailbox.GONE,
    *network.NO_DOMAIN,
    *other_languages.GONE,
    *sender.ABOUT_THE_MACHINE,
    *sender.ABOUT_THE_MAIL,
    *other_languages.REFUSED,
    *network.OUT_OF_TIME,
    *network.OUT_OF_ORDER,
    *other_languages.OUT_OF_ORDER,
    *mailbox.VAGUE,
    *other_languages.UNKNOWN,
)
