"""The first page of the admin."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest


def fill(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """`context` of the first page."""
    return context
