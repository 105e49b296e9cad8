"""What the mail server got against what the report says."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A delivery as the database has it at the end."""

    id: int
    address: str
    status: str


@dataclass(frozen=True)
class Verdict:
    """One case. `lost`, `twice` and `unlisted` must be 0, `in_doubt` at most `bound`, and `broken` empty.

    lost: readers without a copy whom neither the report names in doubt nor the case excuses.
    twice: readers with more copies than one, apart from those the author had sent it to again.
    in_doubt: how many deliveries the report names in doubt.
    unlisted: deliveries that are in doubt, or whose copy the rows deny, without the report naming them.
    broken: what else did not hold, a sentence each.
    reasons: what the report says of the doubts, each once.
    """

    fault: str
    readers: int
    sent: int
    lost: int
    twice: int
    in_doubt: int
    unlisted: int
    bound: int
    broken: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    def faults(self) -> list[str]:
        """What must not be, a sentence each."""
        reasons = "; ".join(self.reasons)
        found = [
            f"{self.lost} readers are lost." if self.lost else "",
            f"{self.twice} readers got it twice." if self.twice else "",
            f"{self.unlisted} doubts are not in the report." if self.unlisted else "",
            f"{self.in_doubt} are in doubt where at most {self.bound} may be: {reasons}"
            if self.in_doubt > self.bound
            else "",
        ]
        return [sentence for sentence in (*found, *self.broken) if sentence]


def compare(
    fault: str,
    *,
    readers: Sequence[str],
    rows: Collection[Row],
    copies: Mapping[str, int],
    doubts: Mapping[int, str],
    bound: int = 0,
    excused: Collection[str] = (),
    resent: Collection[int] = (),
    broken: Sequence[str] = (),
) -> Verdict:
    """The verdict on a send to the addresses `readers`.

    `copies` counts by address what the mail server has in its journal; `doubts` are the deliveries that the report
    names, by id, each with what it says of it. `excused` are addresses that may rightly have got nothing: who left, or
    whom the mail server refused. `resent` are deliveries that the author had sent again, by id.
    """
    by_address = {row.address: row for row in rows}
    named, again = set(doubts), set(resent)
    lost = twice = unlisted = 0
    for address in readers:
        row = by_address.get(address)
        in_report = row is not None and row.id in named
        had = copies.get(address, 0)
        if not had and not in_report and address not in excused:
            lost += 1
        if had > 1 and not (row and row.id in again):
            twice += 1
        if row and not in_report and (row.status == "unconfirmed" or (had and row.status != "sent")):
            unlisted += 1
    return Verdict(
        fault=fault,
        readers=len(readers),
        sent=sum(1 for address in readers if copies.get(address)),
        lost=lost,
        twice=twice,
        in_doubt=len(named),
        unlisted=unlisted,
        bound=bound,
        broken=tuple(broken),
        reasons=tuple(sorted(set(doubts.values()))),
    )
