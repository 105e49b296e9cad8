"""Everything that is kept for one person, to take along (GDPR, articles 15 and 20)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from subscribers.models import Subscriber, Suppression


def data(subscriber: Subscriber) -> dict[str, Any]:
    """What is kept for `subscriber`, as plain values that JSON can hold; times in ISO 8601."""
    return {
        "profile": {
            "address": subscriber.address,
            "name": subscriber.name,
            "text_only": subscriber.text_only,
            "tracking": subscriber.tracking,
            "since": _time(subscriber.created_at),
        },
        "subscriptions": [_subscription(subscription) for subscription in subscriber.subscriptions.order_by("pk")],
        "memberships": [
            {
                "tier": membership.tier.slug,
                "kind": membership.kind,
                "starts_at": _time(membership.starts_at),
                "ends_at": _time(membership.ends_at),
            }
            for membership in subscriber.memberships.select_related("tier").order_by("pk")
        ],
        "consent": [
            {
                "at": _time(record.at),
                "action": record.action,
                "newsletter": record.newsletter.slug if record.newsletter else None,
                "source": record.source,
                "text_version": record.text_version,
                "network": record.network,
                "agent": record.agent,
            }
            for record in subscriber.consent_records.select_related("newsletter").order_by("at", "pk")
        ],
        "suppressions": [
            {
                "at": _time(suppression.created_at),
                "newsletter": suppression.newsletter.slug if suppression.newsletter else None,
                "reason": suppression.reason,
            }
            for suppression in Suppression.objects.filter(fingerprint=subscriber.fingerprint)
            .select_related("newsletter")
            .order_by("pk")
        ],
        "one_time_links": [
            {"purpose": link.purpose, "sent_at": _time(link.created_at), "used_at": _time(link.used_at)}
            for link in subscriber.one_time_links.order_by("pk")
        ],
        "deliveries": [
            {
                "newsletter": delivery.dispatch.newsletter.slug,
                "subject": delivery.dispatch.revision.content.subject,
                "status": delivery.status,
                "reason": delivery.reason,
                "at": _time(delivery.settled_at),
                "reply": delivery.reply,
                "came_back": delivery.get_verdict_display() or "",
                "opened_at": _time(delivery.opened_at),
                "clicked_at": _time(delivery.clicked_at),
                "any_open_at": _time(delivery.any_open_at),
                "any_click_at": _time(delivery.any_click_at),
                "unsubscribed_at": _time(delivery.unsubscribed_at),
            }
            for delivery in subscriber.deliveries.select_related("dispatch__newsletter", "dispatch__revision").order_by(
                "pk"
            )
        ],
        "events": [
            {
                "at": _time(event.at),
                "kind": event.kind,
                "newsletter": event.newsletter.slug if event.newsletter else None,
                "url": event.url,
                "method": event.method,
                "agent": event.agent,
                "network": event.network,
                "judged": event.judged,
                "reasons": event.reasons,
                "verdict": event.verdict,
                "detail": event.detail,
            }
            for event in subscriber.events.select_related("newsletter").order_by("at", "pk")
        ],
    }


def _subscription(subscription: Any) -> dict[str, Any]:
    sections = subscription.newsletter.standing_sections
    return {
        "newsletter": subscription.newsletter.slug,
        "status": subscription.status,
        "paused_until": _time(subscription.paused_until),
        "unwanted_sections": [section.name for section in sections.filter(pk__in=subscription.muted_sections)],
        "since": _time(subscription.created_at),
        "changed_at": _time(subscription.changed_at),
    }


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
