"""A dispatch's rendered forms: one per outcome of the gate, however many reader profiles lead to it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from newsletter import gate, rendering, tracking
from newsletter.content import IssueContent, Profile, TrackingMode
from newsletter.models import Dispatch, DispatchProfile, Variant


def render(content: IssueContent, profile: Profile, *, dispatch_id: int) -> rendering.Rendered:
    """`content` as the readers of `profile` get it by mail; links lead back to the dispatch of that id.

    Raises rendering.RenderingError.
    """
    individual, off = profile.tracking == TrackingMode.INDIVIDUAL, profile.tracking == TrackingMode.OFF

    def link(url: str) -> str:
        return tracking.click_url(dispatch_id, url) + ("/" if individual else "")

    return rendering.render(
        gate.view(content, profile),
        tracking=profile.tracking,
        text_only=profile.text_only,
        for_reader=not content.single,
        link=None if off else link,
        pixel_url=""
        if profile.tracking == TrackingMode.OFF
        else tracking.pixel_url(dispatch_id, individual=individual),
    )


def ensure(row: DispatchProfile, content: IssueContent) -> Variant:
    """The variant for a profile that occurs in a dispatch, rendered now if nobody did yet.

    `content` is the dispatch's frozen content. Two workers may both render; the bytes are the same and one row stays.
    Raises rendering.RenderingError.
    """
    if row.variant is not None:
        return row.variant
    profile = row.profile()
    outcome = [asdict(gate.view(content, profile)), profile.tracking, profile.text_only]
    digest = hashlib.sha256(json.dumps(outcome, sort_keys=True, default=str).encode()).hexdigest()
    variant = Variant.objects.filter(dispatch=row.dispatch_id, digest=digest).first()
    if variant is None:
        data = render(content, profile, dispatch_id=row.dispatch_id).as_json()
        variant, _ = Variant.objects.get_or_create(dispatch_id=row.dispatch_id, digest=digest, defaults={"data": data})
    DispatchProfile.objects.filter(pk=row.pk).update(variant=variant)
    row.variant = variant
    return variant


def ensure_all(dispatch: Dispatch) -> None:
    """Render every variant that the snapshot of `dispatch` needs. Safe to repeat; raises rendering.RenderingError."""
    content = dispatch.revision.content
    for row in DispatchProfile.objects.filter(dispatch=dispatch, variant=None).order_by("pk").iterator():
        ensure(row, content)
