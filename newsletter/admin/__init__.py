"""The author's desk: Django's admin, themed. Each module holds the pages of what it is named after."""

from newsletter.admin import bounces, dispatches, hooks, issues, newsletters, site, staff

__all__ = ["bounces", "dispatches", "hooks", "issues", "newsletters", "site", "staff"]

site.arrange()
