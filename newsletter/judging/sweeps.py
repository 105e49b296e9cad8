"""The hits of one mail together: what their times and networks say of each other."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import islice

from newsletter.judging import agents
from newsletter.judging.facts import CLICK, OPEN, Facts, Judged, Judgement
from newsletter.judging.reasons import Reason
from newsletter.judging.single import judge
from newsletter.judging.windows import crowded

# A scanner goes through all links of a mail in one go that takes less than a second (836 of them measured, 9 to 10
# links each); twice that leaves room for a slow site. A person who opens links in tabs needs about a second for each.
SWEEP_SECONDS = 2.0
SWEEP_LINKS = 4
SWEEP_SHARE = 0.6  # of the links of a short mail
# Two links of two or three are 60 per cent, but a person with a quick hand opens two within two seconds.
PAIR_SECONDS = 1.0
# Nobody opens every link of a mail with so many one after the other, each in a few seconds; nor nearly all of them
# right after delivery, while a mail is only just noticed and two thirds of the scanners are done.
ALL_LINKS, ALL_SHARE, ALL_SECONDS = 6, 0.9, 30.0
SOON_LINKS, SOON_SHARE, SOON_AFTER = 5, 0.8, 120.0
# Where whose the clicks are is not known, several readers may have the same program: a whole sweep, each link once.
APART_LINKS, APART_SECONDS = 6, 1.0
# What the same network asks just before or after belongs to the sweep; a person takes longer to come by.
BESIDE_SECONDS = 60.0
# A scanner opens the mail before it follows the links: a median of 33 seconds before, mostly less than five minutes;
# and a median of nine seconds after delivery, when hardly anybody reads it yet.
OPENED_BEFORE, OPENED_LONG_BEFORE = 300.0, 1800.0
OPENS_WITHIN = 30.0
CHECKED_SECONDS = 2.0  # between asking whether an address works and asking for it
# The eye, the pointer and the button take longer than this from one link to another.
HAND_SECONDS = 0.5


def judge_message(hits: Sequence[Facts]) -> list[Judgement]:
    """Who made each of `hits`, all those of one delivery, in their order.

    One of them may be judged otherwise than by itself: as part of a sweep, beside one, or as one that nobody can tell.
    """
    found = [judge(hit) for hit in hits]
    if len(hits) < 2:
        return found
    order = sorted(range(len(hits)), key=lambda index: hits[index].at)
    clicks = [index for index in order if hits[index].kind == CLICK]
    swept = _swept(hits, clicks)
    for index in clicks:
        if index in swept:
            _add(found, index, Judged.MACHINE, Reason.SWEEP)
    _note_beside(hits, order, swept, found)
    _note_checked(hits, order, found)
    _note_quick(hits, clicks, found)
    _settle_single(hits, order, found)
    return found


def is_one_sweep(clicks: Sequence[Facts]) -> bool:
    """Whether `clicks`, all there are by one program while nobody knows whose they are, look like a scanner's."""
    times = sorted(click.at for click in clicks)
    each_once = len({click.url for click in clicks}) == len(clicks) >= APART_LINKS
    return each_once and (times[-1] - times[0]).total_seconds() <= APART_SECONDS


def _seconds(hits: Sequence[Facts], earlier: int, later: int) -> float:
    return (hits[later].at - hits[earlier].at).total_seconds()


def _swept(hits: Sequence[Facts], clicks: Sequence[int]) -> set[int]:
    times, urls = [hits[index].at for index in clicks], [hits[index].url for index in clicks]

    def share(links: int, place: int) -> float:
        known = hits[clicks[place]].links
        return links / known if known else 0.0

    def sweep(links: int, place: int) -> bool:
        return links >= SWEEP_LINKS or (links == SWEEP_LINKS - 1 and share(links, place) >= SWEEP_SHARE)

    def pair(links: int, place: int) -> bool:
        return links == 2 and share(links, place) >= SWEEP_SHARE

    def all_of_them(links: int, place: int) -> bool:
        since = hits[clicks[place]].since_sent
        soon = since is not None and since <= SOON_AFTER
        fewest, part = (SOON_LINKS, SOON_SHARE) if soon else (ALL_LINKS, ALL_SHARE)
        return links >= fewest and share(links, place) >= part

    def faster_than_hands(links: int, place: int) -> bool:
        return links >= 3

    spans = ((SWEEP_SECONDS, sweep), (PAIR_SECONDS, pair), (HAND_SECONDS, faster_than_hands))
    swept = {clicks[place] for seconds, rule in spans for place in crowded(times, urls, seconds, rule)}
    # One that takes its time: only among what is left, or whoever clicked soon after a quick one would belong to it.
    clicks = [index for index in clicks if index not in swept]
    times, urls = [hits[index].at for index in clicks], [hits[index].url for index in clicks]
    return swept | {clicks[place] for place in crowded(times, urls, ALL_SECONDS, all_of_them)}


def _note_beside(hits: Sequence[Facts], order: Sequence[int], swept: set[int], found: list[Judgement]) -> None:
    """What came with a sweep from its network: the scanner's own open, and links it followed apart from the rest."""
    of_network = Counter(hits[index].network for index in order if index not in swept and _may_be_person(found[index]))
    first_open = next((index for index in order if hits[index].kind == OPEN and _may_be_person(found[index])), None)
    times = [hits[index].at for index in order]
    for sweep in _sweeps(hits, swept):
        begins, ends = hits[sweep[0]].at, hits[sweep[-1]].at
        networks = {hits[index].network for index in sweep} - {""}
        programs = {hits[index].agent for index in sweep}
        first = bisect_left(times, begins - dt.timedelta(seconds=OPENED_LONG_BEFORE))
        last = bisect_right(times, ends + dt.timedelta(seconds=BESIDE_SECONDS))
        for index in order[first:last]:
            hit = hits[index]
            if index in swept or not _may_be_person(found[index]) or agents.is_proxy(hit.agent):
                continue
            before = (begins - hit.at).total_seconds()
            here, alike = hit.network in networks, hit.agent in programs
            opened = hit.kind == OPEN and before >= 0 and (before <= OPENED_BEFORE or _at_once(hit))
            if (before <= BESIDE_SECONDS and here and alike) or (opened and here and (alike or index == first_open)):
                _add(found, index, Judged.MACHINE, Reason.BESIDE)
            elif opened and (alike or _at_once(hit)) and of_network[hit.network] == 1:
                # From elsewhere, and never again: the scanner's own by another way out, or a person who was quick.
                _add(found, index, Judged.UNKNOWN, Reason.BESIDE)


def _at_once(hit: Facts) -> bool:
    return hit.since_sent is not None and hit.since_sent <= OPENS_WITHIN


def _sweeps(hits: Sequence[Facts], swept: set[int]) -> Iterable[list[int]]:
    """The clicks of each sweep, in the order they came."""
    sweep: list[int] = []
    for index in sorted(swept, key=lambda index: hits[index].at):
        if sweep and _seconds(hits, sweep[-1], index) > ALL_SECONDS:
            yield sweep
            sweep = []
        sweep.append(index)
    if sweep:
        yield sweep


def _note_checked(hits: Sequence[Facts], order: Sequence[int], found: list[Judgement]) -> None:
    """A link that the same program asked about with HEAD just before is followed by a program. Where another one of its
    network asked, it may be what guards a person's browser, or a scanner that changes its name."""
    asked: dict[tuple[str, ...], int] = {}  # when last, of what and from where, and by what
    for index in order:
        hit = hits[index]
        what = (hit.network, hit.url, hit.kind)
        if Reason.METHOD in found[index].reasons:
            asked[what] = asked[*what, hit.agent] = index
        elif not _may_be_person(found[index]):
            continue
        elif (*what, hit.agent) in asked and _seconds(hits, asked[*what, hit.agent], index) <= CHECKED_SECONDS:
            _add(found, index, Judged.MACHINE, Reason.CHECKED)
        elif hit.network and what in asked and _seconds(hits, asked[what], index) <= HAND_SECONDS:
            _add(found, index, Judged.UNKNOWN, Reason.CHECKED)


def _note_quick(hits: Sequence[Facts], clicks: Sequence[int], found: list[Judgement]) -> None:
    left = [index for index in clicks if found[index].judged == Judged.PERSON]
    times, urls = [hits[index].at for index in left], [hits[index].url for index in left]
    for place in crowded(times, urls, HAND_SECONDS, lambda links, _: links >= 2):
        _add(found, left[place], Judged.UNKNOWN, Reason.QUICK)


def _settle_single(hits: Sequence[Facts], order: Sequence[int], found: list[Judgement]) -> None:
    """Of a mail with one link: a click is a person's after all where the reader had opened the mail by a proxy before,
    or where an earlier one from another network was the scanner's, if any was. Of the others the open goes with the
    click: both are a scanner's, or neither."""
    read = min((hits[index].at for index, one in enumerate(found) if one.reasons == (Reason.PROXY,)), default=None)
    first: dict[str, dt.datetime] = {}  # of each network, in the order they came
    opens: dict[str, list[int]] = defaultdict(list)
    for index in order:
        hit = hits[index]
        if found[index].reasons == (Reason.PLAIN,) and hit.kind == OPEN:
            opens[hit.network].append(index)
        if found[index].reasons != (Reason.ONE_LINK,):
            continue
        others = (at for network, at in islice(first.items(), 2) if network != hit.network)
        if read is not None and read <= hit.at:
            found[index] = Judgement(Judged.PERSON, (Reason.READ,))
        elif any((hit.at - at).total_seconds() > BESIDE_SECONDS for at in others):
            found[index] = Judgement(Judged.PERSON, (Reason.APART,))
        else:
            for opened in opens.pop(hit.network, ()):
                _add(found, opened, Judged.UNKNOWN, Reason.ONE_LINK)
        first.setdefault(hit.network, hit.at)


def _may_be_person(judgement: Judgement) -> bool:
    return judgement.judged != Judged.MACHINE


def _add(found: list[Judgement], index: int, judged: Judged, reason: Reason) -> None:
    """Judge a hit so for `reason`, beside the reasons there are if they say the same."""
    present = found[index]
    if reason not in present.reasons:
        kept = present.reasons if present.judged == judged else ()
        found[index] = Judgement(judged, (*kept, reason))
