"""The hits of many mails together: one network that goes through the mail of a whole domain."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from newsletter import freemail
from newsletter.judging import agents
from newsletter.judging.facts import CLICK, OPEN, Facts, Judged, Judgement
from newsletter.judging.reasons import Reason
from newsletter.judging.single import is_soon, judge
from newsletter.judging.sweeps import is_one_sweep, judge_message
from newsletter.judging.windows import crowded

CROWD_READERS = 20
CROWD_SECONDS = 60.0
# Seconds after delivery. Of scanners two thirds follow links within a minute, and open before it.
CROWD_OPENS_WITHIN = 60.0
# A gateway has one program, or a handful of names for it. Where every fourth reader has another one, they may be people
# behind one way out who were told to read their mail: then nobody can tell.
ALIKE = 0.25


def judge_all(hits: Sequence[Facts]) -> list[Judgement]:
    """Who made each of `hits`, in their order. Give all hits of each delivery that is among them, as far as they are
    known, and those of deliveries next to them in time: the more there are, the better they are told apart."""
    found: list[Judgement] = [Judgement(Judged.UNKNOWN, ())] * len(hits)
    mails: dict[int | str, list[int]] = defaultdict(list)
    apart: dict[str, list[int]] = defaultdict(list)
    for index, hit in enumerate(hits):
        if hit.delivery is not None:
            mails[hit.delivery].append(index)
            continue
        found[index] = judge(hit)
        if hit.kind == CLICK and found[index].judged == Judged.PERSON:
            apart[hit.agent].append(index)
    for indexes in mails.values():
        for index, judgement in zip(indexes, judge_message([hits[index] for index in indexes]), strict=True):
            found[index] = judgement
    for indexes in apart.values():
        if is_one_sweep([hits[index] for index in indexes]):
            for index in indexes:
                found[index] = Judgement(Judged.UNKNOWN, (Reason.SWEEP,))
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
    # A picture proxy stands between all readers of a mail service and us.
    left = [
        index
        for index, hit in enumerate(hits)
        if found[index].judged != Judged.MACHINE and hit.network and hit.delivery is not None
        if not agents.is_proxy(hit.agent)
    ]
    followed = {_program(hits[index]) for index in left if hits[index].kind == CLICK and is_soon(hits[index])}
    by_people = _by_people([hits[index] for index in left])
    for place, index in enumerate(left):
        hit = hits[index]
        # Readers of a mail service have no gate in common: what lies between them and us is a telephone network.
        if not is_soon(hit) or place in by_people or not hit.domain or freemail.is_service(hit.domain):
            continue
        # A scanner opens as the mail arrives, or what it follows; later, colleagues open what all of them got.
        if hit.kind == CLICK or _comes_first(hit) or _program(hit) in followed:
            by_network[hit.network, hit.domain].append(index)
    for indexes in by_network.values():
        if len(indexes) >= CROWD_READERS:
            order = sorted(indexes, key=lambda index: hits[index].at)
            times, readers = [hits[index].at for index in order], [hits[index].delivery for index in order]
            places = crowded(times, readers, CROWD_SECONDS, lambda number, _: number >= CROWD_READERS)
            yield [order[place] for place in places]


def _by_people(hits: Sequence[Facts]) -> set[int]:
    """The places of those of `hits` that do not go with a crowd: clicks of readers who had opened the mail with another
    program, after a scanner would have, and hits of programs that come back to the mail later."""
    opened: dict[tuple[object, ...], Facts] = {}
    last: dict[tuple[object, ...], Facts] = {}
    for hit in sorted(hits, key=lambda hit: hit.at):
        last[_program(hit)] = hit
        if hit.kind == OPEN and not _comes_first(hit):
            opened.setdefault((hit.delivery, hit.network), hit)

    def by_person(hit: Facts) -> bool:
        read = opened.get((hit.delivery, hit.network), hit)
        came_back = (last[_program(hit)].at - hit.at).total_seconds() > CROWD_SECONDS
        return came_back or (hit.kind == CLICK and read.at < hit.at and read.agent != hit.agent)

    return {place for place, hit in enumerate(hits) if by_person(hit)}


def _comes_first(hit: Facts) -> bool:
    return hit.since_sent is None or hit.since_sent <= CROWD_OPENS_WITHIN


def _program(hit: Facts) -> tuple[object, ...]:
    return hit.delivery, hit.network, hit.agent
