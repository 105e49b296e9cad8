"""What is told: the JSON body of an occurrence. People's addresses and names are added here, when a call is made, and
stored nowhere."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from newsletter.models import Occurrence
from subscribers.models import Subscriber, Tier


def body(occurrence: Occurrence) -> bytes:
    """The body for `occurrence`, whose newsletter and subscriber may be loaded already. Docs: docs/webhooks.md."""
    data: dict[str, Any] = {"newsletter": occurrence.newsletter.slug if occurrence.newsletter else None}
    for name, value in occurrence.data.items():
        if name == "subscriber":
            person = occurrence.subscriber
            # Nothing of somebody erased but the id: a later reader with the same row would be somebody else.
            data[name] = _person(person) if person else {"id": value, "address": None, "name": None}
        elif name == "subscribers":
            data[name] = _people(value)
        else:
            data[name] = value
    told = {
        "id": message_id(occurrence),
        "type": occurrence.kind,
        "at": occurrence.at.isoformat().replace("+00:00", "Z"),
        "data": data,
    }
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def message_id(occurrence: Occurrence) -> str:
    """The id by which a receiver knows a repeated call."""
    return f"msg_{occurrence.public_id.hex}"


def tiers_by_level() -> dict[int, dict[str, Any]]:
    """The tiers as they are told, by level."""
    return {tier.level: {"slug": tier.slug, "level": tier.level} for tier in Tier.objects.all()}


def _person(person: Subscriber) -> dict[str, Any]:
    return {"id": str(person.public_id), "address": person.address, "name": person.name}


def _people(public_ids: Iterable[str]) -> list[dict[str, Any]]:
    """Those who are still here, with the tier that each holds now."""
    tiers = tiers_by_level()
    people: Any = Subscriber.objects.filter(public_id__in=[int(public_id) for public_id in public_ids])
    return [
        {**_person(person), "tier": tiers.get(person.tier_level)} for person in people.with_tier_level().order_by("pk")
    ]
