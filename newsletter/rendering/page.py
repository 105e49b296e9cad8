"""What both parts of one rendering share: its slots, its links made trackable, and what there is to warn about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from newsletter import fields, markdown
from newsletter.content import IssueContent, TrackingMode

# Links of one reader; a page that everybody sees has none of them.
_READER_FIELDS = frozenset({"unsubscribe_url", "preferences_url", "web_url"})
_UNTRACKED_SCHEMES = frozenset({"mailto", "tel", "sms"})

DELIVERY_TOKEN = fields.Slot("delivery_token")


@dataclass
class Page:
    """One rendering under way. `link` is None where links stay as they are."""

    issue: IssueContent
    tracking: TrackingMode
    link: Callable[[str], str] | None
    for_reader: bool
    tag: Callable[[str], str] = str  # adds what tells the author's web statistics where a visitor came from
    slots: fields.SlotTable = field(default_factory=fields.SlotTable)
    links: dict[str, None] = field(default_factory=dict)
    warnings: dict[str, None] = field(default_factory=dict)

    def warn(self, sentence: str) -> None:
        """Notes a sentence for the author, once."""
        self.warnings[sentence] = None

    def field_address(self, name: str) -> str:
        """The marker of a merge field that is an address, or an empty string where it leads nowhere.

        That is a reader's own link on everybody's page, and the way to a higher tier where the newsletter has none.
        """
        if name == "upgrade_url":
            return self.slots.marker(fields.Slot(name, self.issue.upgrade_url)) if self.issue.upgrade_url else ""
        if name in _READER_FIELDS and not self.for_reader:
            return ""
        return self.slots.marker(fields.Slot(name))

    def href(self, target: str, *, untracked: bool = False) -> str:
        """Where a link to `target` (an address, or the marker of a merge field) leads; empty where it can lead nowhere.

        Web addresses go through `tag`, then through `link`, with the delivery's token at the end when readers are
        tracked one by one. What `link` refuses with a ValueError is not tracked, with a warning. An `untracked` one
        goes through neither.
        """
        found = fields.indexes(target)
        if found:
            name = self.slots.slots[found[0]].name
            whole = len(found) == 1 and not fields.without_markers(target)
            return self.field_address(name) if whole and name in markdown.LINK_FIELDS else ""
        if target.startswith("#") or _scheme(target) in _UNTRACKED_SCHEMES:
            return target
        if not _is_on_the_web(target):
            self.warn(f"The link to {target} leads nowhere in a mail; write its whole address, with https://.")
            return ""
        if untracked:
            return target
        target = self.tag(target)
        if self.link is None or self.tracking == TrackingMode.OFF:
            return target
        try:
            tracked = self.link(target)
        except ValueError as error:
            self.warn(str(error))
            return target
        self.links[target] = None
        token = self.slots.marker(DELIVERY_TOKEN) if self.tracking == TrackingMode.INDIVIDUAL else ""
        return tracked + token

    def image_source(self, source: str) -> str:
        """`source` if a mail can show an image from there, else empty, with a warning."""
        if _is_on_the_web(source) and not fields.indexes(source):
            return source
        if not source:
            self.warn("An image has no address from which a mail can show it; write its whole address, with https://.")
        elif source.startswith("data:"):
            self.warn(
                "An image stands in the text itself (data:), which mail programs do not show; link to it instead."
            )
        else:
            self.warn(f"The image {source} cannot be found from a mail; write its whole address, with https://.")
        return ""

    def missing_alt(self, source: str) -> None:
        """Warns that an image says nothing to those who do not see it."""
        self.warn(f"The image {source} has no alternative text; write what it shows: ![what it shows]({source}).")


def _is_on_the_web(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


def _scheme(address: str) -> str:
    try:
        return urlsplit(address).scheme
    except ValueError:
        return ""
