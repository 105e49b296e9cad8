from __future__ import annotations

from newsletter import commands, scheduling
from newsletter.commands import Answer


class Command(commands.Command):
    """`manage.py single_messages`: the confirmations and links that did not surely arrive."""

    help = "List the confirmations and other single messages of two weeks that wait, failed or are in doubt."

    def run(self, options: commands.Options) -> Answer:
        """A line for each; what they say is not shown. --json has the same rows."""
        rows = [{**row, "asked_for": row["asked_for"].isoformat(timespec="seconds")} for row in scheduling.unsettled()]
        kept_back = scheduling.kept_back()
        text = [f"They do not go out. {kept_back}"] if kept_back else []
        if rows:
            columns = [name.replace("_", " ") for name in rows[0]]
            text.append(commands.table(columns, [list(row.values()) for row in rows]))
        else:
            text.append("Every single message of two weeks was sent or is on its way.")
        return Answer("\n\n".join(text), {"kept_back": kept_back, "messages": rows})
