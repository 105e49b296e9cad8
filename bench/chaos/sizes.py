"""How much of everything there is in a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """`readers` and `kills` of the case that kills workers, `others` the readers of every other case, `rounds` how
    often the latter do what they do."""

    readers: int
    kills: int

    @property
    def others(self) -> int:
        """A tenth, and enough to be in the midst of."""
        return max(self.readers // 10, 120)

    @property
    def rounds(self) -> int:
        """Once in a small run."""
        return 3 if self.kills >= 20 else 1
