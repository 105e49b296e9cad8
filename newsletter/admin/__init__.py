"""The author's desk: Django's admin, themed. Each module holds the pages of what it is named after."""

from newsletter.admin import newsletters, site, staff

__all__ = ["newsletters", "site", "staff"]

site.arrange()
