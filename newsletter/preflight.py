"""What would stop an issue from going out, said before it is scheduled rather than after."""

from __future__ import annotations

from newsletter import message, rendering
from newsletter.content import IssueContent


def problems(content: IssueContent) -> list[str]:
    """What must be mended before `content` can be scheduled, a sentence each; empty when it is ready."""
    found = []
    if not content.subject.strip():
        found.append("The issue has no subject: write one.")
    if not any(section.body.strip() or section.heading for section in content.sections):
        found.append("The issue has no sections: write at least one.")
    for name, address in (("from", content.from_address), ("reply-to", content.reply_to)):
        if (address or name == "from") and not (address.isascii() and message.is_address(address)):
            found.append(f"The newsletter's {name} address “{address}” cannot stand in a header: give another.")
    return found + rendering.problems(content)
