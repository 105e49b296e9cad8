"""The hits of many mails together: one network that goes through the mail of a whole domain."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from newsletter.judging import agents
from newsletter.judging.facts import Facts, Judged, Judgement
from newsletter.judging.reasons import Reason
from newsletter.judging.single import is_soon
from newsletter.judging.sweeps import judge_message
from newsletter.judging.windows import crowded

CROWD_READERS = 20
CROWD_SECONDS = 60.0
# A gateway has one program, or a handful of names for it. Where every fourth reader has another one, they may be people
# behind one way out who were told to read their mail: then nobody can tell.
ALIKE = 0.25


def judge_all(hits: Sequence[Facts]) -> list[Judgement]:
    """Who made each of `hits`, in their order. Give all hits of each delivery that is among them, as far as they are
    known, and those of deliveries next to them in time: the more there are, the better they are told apart."""
    found: list[Judgement] = [Judgement(Judged.UNKNOWN, ())] * len(hits)
    mails: dict[object, list[int]] = defaultdict(list)
    for index, hit in enumerate(hits):
        # Each anonymous hit is judged alone: whose it is is not to be found out.
        mails[("", index) if hit.delivery is None else hit.delivery].append(index)
    for indexes in mails.values():
        for index, judgement in zip(indexes, judge_message([hits[index] for index in indexes]), strict=True):
            found[index] = judgement
    for crowd in _crowds(hits, found):
        _judge_crowd(hits, crowd, found)
    return found


def _judge_crowd(hits: Sequence[Facts], crowd: Sequence[int], found: list[Judgement]) -> None:
    programs = Counter(hits[index].agent for index in crowd)
    readers = len({hits[index].delivery for index in crowd})
    alike = len(programs) <= max(1, ALIKE * readers)
    for index in crowd:
        if alike:
            found[index] = Judgement(Judged.MACHINE, (Reason.CROWD,))
        elif found[index].judged == Judged.PERSON:
            found[index] = Judgement(Judged.UNKNOWN, (Reason.CROWD,))


def _crowds(hits: Sequence[Facts], found: Sequence[Judgement]) -> Iterator[list[int]]:
    """Those hits of one network to one domain of which enough readers' came within a minute, soon after delivery."""
    by_network: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, hit in enumerate(hits):
        if found[index].judged == Judged.MACHINE or not (hit.network and hit.domain) or hit.delivery is None:
            continue
        # A picture proxy stands between all readers of a mail service and us, and a scanner comes soon.
        if is_soon(hit) and not agents.is_proxy(hit.agent):
            by_network[hit.network, hit.domain].append(index)
    for indexes in by_network.values():
        if len(indexes) >= CROWD_READERS:
            order = sorted(indexes, key=lambda index: hits[index].at)
            times, readers = [hits[index].at for index in order], [hits[index].delivery for index in order]
            places = crowded(times, readers, CROWD_SECONDS, lambda number, _: number >= CROWD_READERS)
            yield [order[place] for place in places]
