from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils.text import Truncator

from newsletter import commands, stats
from newsletter.commands import Answer

LINKS = 10  # that are listed; --json has all
EXAMPLE = 160  # letters of what a server said; --json has all


class Command(commands.Command):
    """`manage.py issue_report ISSUE`: where each candidate of an issue stands, what came back and who
    opened and clicked, with the doubts listed."""

    help = "Show where each candidate of an issue stands, what came back, who opened and clicked; the sums are checked."

    def add_arguments(self, parser: CommandParser) -> None:
        """ISSUE is an id, or newsletter and number."""
        parser.add_argument("issue", help="Its id (12), or newsletter and number (weekly/3).")

    def run(self, options: commands.Options) -> Answer:
        """The report as a table, or as JSON with the keys of `stats.report`."""
        issue = commands.find_issue(options["issue"])
        data = stats.full_report(issue)
        return Answer(report_text(data), data)


def report_text(data: dict[str, Any]) -> str:
    """A report of `stats.report` for people, with the listed doubts where it has any."""
    rows: list[tuple[object, object]] = []
    for key in (
        "candidates",
        "excluded",
        "deliveries",
        "queued",
        "sending",
        "sent",
        "failed",
        "unconfirmed",
        "skipped",
    ):
        value = data[key]
        if isinstance(value, dict):
            rows += [(f"{key}: {reason}", count) for reason, count in value.items()] or [(key, 0)]
        else:
            rows.append((key, value))
    rows.append(("unsubscribed", data["unsubscribed"]))
    spread = f"It is {data['spread']}." if data["spread"] else ""
    why = " ".join(filter(None, [data["pause_reason"] or data["waits_for"], spread]))
    text = [f"“{data['title']}” (issue {data['issue']}): {data['status']}.", why]
    text += ["", commands.table(["", "readers"], rows), ""]
    if data["came_back"]:
        text += [came_back_text(data), ""]
    text += [engagement_text(data), ""]
    text.append(
        "The sums agree." if data["sums_agree"] else "THE SUMS DO NOT AGREE: somebody is lost or counted twice."
    )
    if data["twice"]:
        readers = "1 reader was" if data["twice"] == 1 else f"{data['twice']:,} readers were"
        text.append(f"{readers} mailed more than once:")
        text += [_duplicate(row) for row in data["breaches"] if row["delivery_id"]]
    if data["put_off"]["deliveries"]:
        text.append(
            "{deliveries} were put off and are tried again from {next_try_at}, by a worker or `manage.py work`;"
            " why: {reply}".format(**data["put_off"])
        )
    if data["doubts"]:
        text.append("In doubt, settle with `manage.py settle_issue`:")
        text += [f"  delivery {row['id']}, subscriber {row['subscriber_id']}: {row['reply']}" for row in data["doubts"]]
    return "\n".join(line for index, line in enumerate(text) if line or index != 1)


def _duplicate(row: dict[str, Any]) -> str:
    """A line of the report about one mail too many, and who has taken note of it."""
    seen = f"seen by {row['acknowledged_by']}" if row["acknowledged_at"] else "nobody has taken note of it"
    return f"  delivery {row['delivery_id']}, subscriber {row['subscriber_id']}: {seen}"


def came_back_text(data: dict[str, Any]) -> str:
    """What came back: how many of each verdict and what follows from it, then why and where."""
    text = ["What came back:"]
    text += [f"  {group['counted']}. {group['meaning']}" for group in data["came_back"]]
    text += [data["refused"]] if data["refused"] else []
    rows = [(group["verdict"], *row) for group in data["came_back"] for row in _whys(group)]
    return "\n".join([*text, "", commands.table(["", "why", "where most", "readers"], rows)])


def _whys(group: dict[str, Any]) -> list[tuple[str, str, int]]:
    """Why, where most and of how many, for each reason of a verdict."""
    if not group["whys"]:
        return [("The reports are no longer kept.", "", group["readers"])]
    of = " (of the first thousand)" if group["partly"] else ""
    return [
        (
            "\n".join(filter(None, (f"{why['why']}{of}", Truncator(why["example"]).chars(EXAMPLE)))),
            ", ".join(f"{row['domain']} ({row['readers']})" for row in why["domains"]),
            why["readers"],
        )
        for why in group["whys"]
    ]


def engagement_text(data: dict[str, Any]) -> str:
    """Who opened and clicked: readers and their share, then people, what nobody can tell, machines, and all; then the
    links that most people followed."""
    columns = ["", "readers who opened", "opens", "readers who clicked", "clicks"]
    rows = [
        (title, *(data[kind][name][what] for kind in ("opens", "clicks") for what in ("readers", "hits")))
        for title, name in (
            ("people", "people"),
            ("nobody can tell", "unknown"),
            ("machines", "machines"),
            ("all", "all"),
        )
    ]
    figures = [
        f"{title}: {number:,}" + (f" ({share})" if share else "") for title, number, share in stats.figures(data)
    ]
    text = f"{'; '.join(figures)}.\n\n{commands.table(columns, rows)}"
    if data["followed"] < data["sent"]:
        text += (
            f"\n\n{data['followed']:,} of {data['sent']:,} readers are followed one by one; of the others opens and"
            " clicks are counted, and not whose they are."
        )
    if data["links"]:
        links = [(link["url"], link["people"]["readers"], link["all"]["hits"]) for link in data["links"][:LINKS]]
        text += "\n\n" + commands.table(["links", "people", "all clicks"], links)
    return text
