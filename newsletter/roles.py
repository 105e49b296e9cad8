"""The roles of the staff: author, editor and analyst, and what each may do. Pages ask for permissions, never for roles.

`ensure` runs after every migration and sets them as written here; a site that wants something else makes roles of its
own beside them.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, Permission
from django.db.models import Q

_PUBLISHING = ("newsletter", "theme", "standingsection", "issue", "section", "dispatch", "delivery", "event", "bounce")
_HOOKS = ("hook", "call")
_PEOPLE = ("tier", "subscriber", "subscription", "membership", "suppression", "consentrecord")


def _all(app: str, verbs: str, *models: str) -> frozenset[str]:
    return frozenset(f"{app}.{verb}_{model}" for verb in verbs.split() for model in models)


_WRITING = (
    _all("newsletter", "view", *_PUBLISHING)
    | _all("newsletter", "add change delete", "issue", "section", "standingsection")
    | _all("newsletter", "add change", "theme")
    | _all("newsletter", "change", "newsletter")
    | _all("subscribers", "view", "tier")
)
# What each role may do. An author has no business with the people's addresses; an analyst changes nothing.
ROLES = {
    "author": _WRITING,
    "editor": _WRITING
    | {"newsletter.schedule_dispatch"}
    | _all("newsletter", "view", *_HOOKS)
    | _all("newsletter", "add change delete", "hook")
    | _all("newsletter", "add delete", "newsletter")
    | _all("subscribers", "view", *_PEOPLE)
    | _all("subscribers", "add change delete", "tier", "membership", "subscriber")
    | _all("subscribers", "add change", "subscription")
    | _all("subscribers", "add delete", "suppression"),
    "analyst": _all("newsletter", "view", *_PUBLISHING, *_HOOKS) | _all("subscribers", "view", *_PEOPLE),
}


def ensure(**signal: Any) -> None:
    """Make the groups of ROLES with exactly those permissions. Idempotent; a receiver of `post_migrate`.

    Permissions that do not exist yet are left out: Django makes them app by app, and this runs after the last one.
    """
    names = frozenset().union(*ROLES.values())
    codenames = Q(codename__in=[name.partition(".")[2] for name in names])
    known = {
        f"{permission.content_type.app_label}.{permission.codename}": permission
        for permission in Permission.objects.filter(codenames).select_related("content_type")
    }
    for role, permissions in ROLES.items():
        group, _ = Group.objects.get_or_create(name=role)
        group.permissions.set([known[name] for name in permissions if name in known])
