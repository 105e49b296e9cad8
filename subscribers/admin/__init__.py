"""The people in the admin. What changes a consent here goes through `subscribers.consent`, as everywhere.

Each module holds the pages of what it is named after; `acts` what an operator may do to ticked rows, `footprints` what
the admin's own log keeps of them.
"""

from subscribers.admin import people, subscriptions, suppressions, tiers

__all__ = ["people", "subscriptions", "suppressions", "tiers"]
