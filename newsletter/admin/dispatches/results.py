"""What a dispatch brought, as its page shows it: people first, all beside, link by link and hour by hour."""

from __future__ import annotations

import csv
import datetime as dt
import io
from dataclasses import dataclass
from typing import Any

from newsletter import scheduling, stats
from newsletter.judging import SENTENCES, Judged, Reason
from newsletter.models import Dispatch, Newsletter

PAGE = 25  # links shown at once
BARS = 72  # at most, of the picture
STEPS = (1, 3, 6, 12, 24, 24 * 7)  # hours that one bar may stand for
# The picture, in its own units.
WIDTH, HEIGHT = 720, 160
LOWEST = 2  # a single click beside a thousand opens is still seen

TITLES = {"people": "People", "unknown": "Nobody can tell", "machines": "Machines", "all": "All"}

# Who is concluded from each reason.
_SPEAKS_FOR = {
    Judged.PERSON: (Reason.PLAIN, Reason.PROXY, Reason.READ, Reason.APART),
    Judged.MACHINE: (
        Reason.APPLE,
        Reason.GMAIL,
        Reason.SWEEP,
        Reason.BESIDE,
        Reason.CROWD,
        Reason.CRAWLER,
        Reason.METHOD,
        Reason.CHECKED,
        Reason.PREFETCH,
        Reason.EARLY,
        Reason.NO_AGENT,
        Reason.BARE_AGENT,
    ),
    Judged.UNKNOWN: (Reason.ONE_LINK, Reason.QUICK, Reason.CROWD, Reason.BESIDE, Reason.NO_BROWSER, Reason.FORGED),
}
RULES = [(judged, [SENTENCES[reason] for reason in reasons]) for judged, reasons in _SPEAKS_FOR.items()]


@dataclass(frozen=True)
class Bar:
    """Some hours in the picture and in the table beside it; `opens` and `clicks` are people's, each a bar of `width`,
    side by side: one before the other would hide it."""

    when: str
    opens: int
    clicks: int
    all_opens: int
    all_clicks: int
    left: float
    width: float
    open_height: float
    click_height: float

    @property
    def open_top(self) -> float:
        """Where the bar of opens begins."""
        return HEIGHT - self.open_height

    @property
    def click_left(self) -> float:
        """Where the bar of clicks stands."""
        return round(self.left + self.width, 2)

    @property
    def click_top(self) -> float:
        """Where the bar of clicks begins."""
        return HEIGHT - self.click_height


def results(dispatch: Dispatch, numbers: dict[str, Any], page: str) -> dict[str, Any]:
    """What the report's part of the page shows: `figures` (title, number, what share), how far readers are `followed`
    (all, some or none), the table `rows` by class, the `links` of a `page` (a number as it stands in the address), and
    the picture's `bars`."""
    hits = numbers["opens"]["all"]["hits"] + numbers["clicks"]["all"]["hits"]
    return {
        "tracked": dispatch.newsletter.tracking != Newsletter.Tracking.OFF or hits > 0,
        "followed": stats.how_many_followed(numbers),
        "figures": stats.figures(numbers),
        "rows": [
            (title, *(numbers[kind][name][what] for kind in ("opens", "clicks") for what in ("readers", "hits")))
            for name, title in TITLES.items()
        ],
        "rules": RULES,
        "links": _links(dispatch, page),
        "picture": _picture(dispatch),
    }


def links_as_csv(dispatch: Dispatch) -> str:
    """All links with their numbers, for a spreadsheet."""
    out = io.StringIO()
    lines = csv.writer(out)
    columns = [(name, what) for name in TITLES for what in ("readers", "hits")]
    lines.writerow(["url", *(f"{name}_{what}" for name, what in columns)])
    for link in stats.links(dispatch):
        lines.writerow([link.url, *(getattr(link, what)[name] for name, what in columns)])
    return out.getvalue()


def _links(dispatch: Dispatch, page: str) -> dict[str, Any]:
    found = stats.links(dispatch)
    pages = max(1, -(-len(found) // PAGE))
    number = min(int(page), pages) if page.isascii() and page.isdecimal() and len(page) < 9 and int(page) else 1
    return {
        "rows": found[PAGE * (number - 1) : PAGE * number],
        "total": len(found),
        "page": number,
        "pages": pages,
        "before": number - 1,
        "after": number + 1 if number < pages else 0,
    }


def _picture(dispatch: Dispatch) -> dict[str, Any]:
    """`bars` from the first hour with an open or a click to the last, several hours to a bar where there are many;
    `highest` is the number that the tallest stands for."""
    found = stats.hours(dispatch)
    if not found:
        return {"bars": [], "highest": 0}
    first, last = found[0].at, found[-1].at
    hours = (last - first) // dt.timedelta(hours=1) + 1
    step = next((step for step in STEPS if hours <= BARS * step), STEPS[-1])
    sums = [[0, 0, 0, 0] for _ in range(-(-hours // step))]
    for hour in found:
        of = sums[(hour.at - first) // dt.timedelta(hours=step)]
        for index, number in enumerate((hour.opens, hour.clicks, hour.all_opens, hour.all_clicks)):
            of[index] += number
    highest = max(max(opens, clicks) for opens, clicks, _, _ in sums)
    width = min(40.0, WIDTH / len(sums))
    return {
        "bars": [
            Bar(
                when=_when(dispatch, first + dt.timedelta(hours=index * step), step),
                opens=opens,
                clicks=clicks,
                all_opens=all_opens,
                all_clicks=all_clicks,
                left=round(index * width, 2),
                width=round(width * 0.4, 2),
                open_height=_height(opens, highest),
                click_height=_height(clicks, highest),
            )
            for index, (opens, clicks, all_opens, all_clicks) in enumerate(sums)
        ],
        "highest": highest,
        "step": step,
        "width": WIDTH,
        "height": HEIGHT,
    }


def _height(number: int, highest: int) -> float:
    return max(LOWEST, round(HEIGHT * number / highest, 2)) if number else 0


def _when(dispatch: Dispatch, at: dt.datetime, step: int) -> str:
    """`Mon 3 Nov, 08:00–09:00` by the newsletter's clock, or the days of a longer bar."""
    begins = scheduling.wall_time_in(at, dispatch.time_zone)
    ends = scheduling.wall_time_in(at + dt.timedelta(hours=step), dispatch.time_zone)
    if step < 24:
        return f"{begins:%a} {begins.day} {begins:%b, %H:%M}–{ends:%H:%M}"
    return f"{begins:%a} {begins.day} {begins:%b, %H:%M} to {ends:%a} {ends.day} {ends:%b, %H:%M}"
