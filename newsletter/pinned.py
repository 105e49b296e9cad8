"""What the mails of a dispatch are made of, as it was pinned when it was scheduled, and the mails of a chunk."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from newsletter import message, rendering, tracking, utm, variants
from newsletter.content import IssueContent, TrackingMode
from newsletter.deliveries import Claimed
from newsletter.models import Attempt, Dispatch, DispatchProfile, Variant

COMPILED_KEPT = 64  # variants a worker holds compiled; keeps memory flat however many there are

# Keyed by what the bytes were made of, not by a row's id: after a restored backup an id may mean another row.
_compiled_variants: OrderedDict[tuple[int, str, message.Sender], message.Compiled] = OrderedDict()
_compiled_lock = threading.Lock()


@dataclass(frozen=True)
class Pinned:
    """What the mails of one dispatch are made of."""

    dispatch: Dispatch
    content: IssueContent
    sender: message.Sender
    links: tracking.Links
    _profiles: dict[int, DispatchProfile] = field(default_factory=dict)

    @classmethod
    def of(cls, dispatch_id: int) -> Pinned:
        """That of the dispatch with this id."""
        dispatch = Dispatch.objects.select_related("revision", "newsletter").get(pk=dispatch_id)
        content = dispatch.revision.content
        links = tracking.Links(dispatch.newsletter.public_id, content.upgrade_url)
        stream = f"i{dispatch.issue_id or 0}:n{dispatch.newsletter_id}:{dispatch.kind}"
        return cls(dispatch, content, sender_of(content, stream, bulk=not content.single), links)

    def mail(self, attempt: Attempt, chunk: list[Claimed]) -> message.Mail:
        """The chunk as compiled variants with their readers. Raises ValueError where the issue or its sender forbid
        that."""
        readers: dict[str, list[message.Reader]] = {}
        profiles = self._profiles_of(chunk)
        for row in chunk:
            profile = _profile_now(profiles[row.profile_id], row)
            digest = variants.ensure(profile, self.content).digest
            readers.setdefault(digest, []).append(reader_of(row, profile.tracking, attempt, self))
        return [(_compiled(self, digest), group) for digest, group in readers.items()]

    def _profiles_of(self, chunk: list[Claimed]) -> dict[int, DispatchProfile]:
        """At least the profiles of `chunk`, by id. None of them changes but for its variant, so each is read once."""
        if missing := {row.profile_id for row in chunk} - self._profiles.keys():
            rows = DispatchProfile.objects.select_related("variant").defer("variant__data")
            self._profiles.update(rows.in_bulk(missing))
        return self._profiles


def sender_of(content: IssueContent, stream: str, *, bulk: bool) -> message.Sender:
    """What is the same in the headers of all mails made of `content`; `stream` tells them from others in what a mailbox
    provider reports."""
    return message.Sender(
        name=content.from_name,
        address=content.from_address,
        reply_to=content.reply_to,
        list_id=f"{content.newsletter_slug}.{tracking.site_host()}",
        list_name=content.newsletter_name,
        # Issue, newsletter, stream, sender: the last one stable and 5 to 15 characters (Gmail's Feedback-ID rules).
        feedback_id=f"{stream}:masthead",
        domain=tracking.site_host(),
        language=content.language,
        bulk=bulk,
    )


def reader_of(row: Claimed, mode: str, attempt: Attempt, pinned: Pinned) -> message.Reader:
    """What differs in one reader's mail, whose links are tracked by `mode`. Message-ID derives from the delivery and
    Date from the attempt, so a replay of an attempt is the same bytes.

    A single message names nobody: whoever typed an address into a form may have typed anything for the name.
    """
    name = "" if pinned.content.single else row.name
    token = pinned.links.delivery_token(row.pk)
    values = pinned.links.urls(row.public_id, row.pk)
    values |= {"name": name, "first_name": name.partition(" ")[0], "delivery_token": token}
    if pinned.content.upgrade_url:
        values["upgrade_url"] = _upgrade_url(mode, token, pinned)
    return message.Reader(
        delivery_id=row.pk,
        address=row.address,
        name=name,
        message_id=pinned.links.message_id(row.pk),
        date=attempt.started_at,
        values=values,
        return_address=pinned.links.return_address(row.pk),
        unsubscribe_address="" if pinned.content.single else pinned.links.unsubscribe_address(row.public_id, row.pk),
    )


def _upgrade_url(mode: str, token: str, pinned: Pinned) -> str:
    """The link that readers pay by, counted like every other."""
    url = utm.tagger(pinned.content)(pinned.content.upgrade_url)
    if mode == TrackingMode.OFF or not tracking.trackable(url):
        return url
    url = tracking.click_url(pinned.dispatch.pk, url)
    return f"{url}/{token}" if mode == TrackingMode.INDIVIDUAL else url


def _profile_now(frozen: DispatchProfile, row: Claimed) -> DispatchProfile:
    """The profile of a reader who had `frozen` at the snapshot; where their tier changed since, with the one they hold
    now, all else as it was then."""
    if frozen.tier_level == row.tier_level:
        return frozen
    profile, _ = DispatchProfile.objects.select_related("variant").get_or_create(
        dispatch_id=frozen.dispatch_id,
        tier_level=row.tier_level,
        muted=frozen.muted,
        text_only=frozen.text_only,
        tracking=frozen.tracking,
    )
    return profile


def _compiled(pinned: Pinned, digest: str) -> message.Compiled:
    key = (pinned.dispatch.pk, digest, pinned.sender)
    with _compiled_lock:
        found = _compiled_variants.pop(key, None)
        if found is None:
            variant = Variant.objects.get(dispatch=pinned.dispatch, digest=digest)
            found = message.compile(rendering.Rendered.from_json(variant.data), pinned.sender)
        _compiled_variants[key] = found
        if len(_compiled_variants) > COMPILED_KEPT:
            _compiled_variants.popitem(last=False)
    return found
