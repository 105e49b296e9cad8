"""English dates as in `6 March 2026`, whichever side of the ocean reads them."""

from __future__ import annotations

DATE_FORMAT = "j F Y"
DATETIME_FORMAT = "j F Y, H:i"
