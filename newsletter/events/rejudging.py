"""Who made hits is judged anew once others have come: what their times say of each other, and whatever rules hold now.

    rejudging.begin_look()                whether it is time for
    rejudging.judge_late()                hits that came since the last time; beat calls it, twice over each
    rejudging.judge_stored(dispatch)      all hits of a dispatch, as far as they are still there

A hit is judged by itself when it is written. A scanner's sweep is known by all its hits, and these may have been
written apart; so what came is looked at again soon, with all there is of the same mails, until the minute is over in
which something may still join it. Only what comes out otherwise is changed: the hit, the first times of its delivery,
the tallies, in one transaction that holds the deliveries as writers do. Whatever is repeated changes nothing.
"""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from django.db import connection, transaction
from django.db.models import Count, Max, Q, QuerySet
from django.db.models.functions import Now

from newsletter import judging
from newsletter.deliveries import given
from newsletter.events import storing
from newsletter.judging import Facts, Judgement, Reason
from newsletter.models import DispatchProfile, Event, Hour, Mark

Kind = Event.Kind
HITS = (Kind.OPEN, Kind.CLICK)

MARK = "judged together"
# Two looks begin as far apart, whoever asks for them: longer than a look takes, and than a writer's transaction.
APART = dt.timedelta(seconds=45)
READ = 20_000  # hits read at once
SLICE = 5_000  # deliveries judged together
HELD = 500  # deliveries held while their hits are changed
LONGEST = 30.0  # seconds of a look; what is left waits for the next

# What a hit was judged for may be deleted by age before the hit is. Then the judgement stands.
_BY_NETWORK = {Reason.BESIDE, Reason.CROWD, Reason.CHECKED, Reason.APART, Reason.ONE_LINK}

Said = Callable[[int], None]


@dataclass(frozen=True)
class _Hit:
    """A stored hit: its row, what it is judged to be, and what is known of it."""

    pk: int
    dispatch: int | None
    delivery: int | None
    judged: str
    reasons: str
    facts: Facts

    def groups(self, judged: str) -> set[tuple[int, storing.Group]]:
        """The tallies that it counts in where it is judged so."""
        if self.dispatch is None:
            return set()
        return {(self.dispatch, group) for group in storing.groups(self.facts.kind, judged, self.facts.url)}


def begin_look() -> bool:
    """Become the one to look, unless one began within APART: of two at once neither would know what the other leaves
    out."""
    Mark.objects.get_or_create(name=MARK)
    due = Mark.objects.filter(Q(begun_at=None) | Q(begun_at__lte=Now() - APART), name=MARK)
    return due.update(begun_at=Now()) == 1


def judge_late() -> int:
    """Judge together what came since the look before last; how many hits were judged otherwise than before.

    Each hit is looked at in two looks that follow each other, so that one whose transaction took its time is not left
    out, nor what lies on both sides of a look.
    """
    mark, _ = Mark.objects.get_or_create(name=MARK)
    last = Event.objects.aggregate(last=Max("pk"))["last"] or 0
    ends, at, changed = time.monotonic() + LONGEST, mark.value, 0
    hours: set[tuple[int, dt.datetime]] = set()
    while at < last:
        rows = _of_requests(Event.objects.filter(pk__gt=at, pk__lte=last)).order_by("pk")
        came = list(rows.values_list("pk", "delivery_id", "dispatch_id", "at")[:READ])
        # Past all that is no hit as well, or a million notices would be read again by every look.
        at = came[-1][0] if len(came) == READ else last
        changed += _judge_slices({delivery for _, delivery, _, _ in came if delivery}, crowds_known=False)
        hours |= {(dispatch, hour_of(when)) for _, _, dispatch, when in came if dispatch}
        if time.monotonic() > ends:
            break
    count_hours(hours)
    mark.value, mark.seen = max(mark.value, min(at, mark.seen)), max(at, mark.seen)
    mark.save(update_fields=["value", "seen"])
    return changed


def judge_stored(
    dispatch_id: int, *, since: dt.datetime | None = None, said: Said | None = None, everything: bool = True
) -> int:
    """Judge all stored hits of a dispatch by the rules of now, or those of mails with a hit `since`; how many were
    judged otherwise. `said` is told how many hits have been looked at since it was told last."""
    rows = _of_requests(Event.objects.filter(dispatch=dispatch_id))
    if since:
        rows = rows.filter(at__gte=since)
    changed, hours = 0, {hour_of(at) for at in _hours_of(rows)}
    for ids in _deliveries_of(rows):
        changed += _judge_slices(ids, crowds_known=everything, said=said)
    last = 0
    while hits := list(_read(rows.filter(delivery=None, pk__gt=last).order_by("pk")[:SLICE])):
        last = hits[-1].pk
        changed += _apply(hits, {hit.pk: judging.judge(hit.facts) for hit in hits})
        if said:
            said(len(hits))
    count_hours({(dispatch_id, hour) for hour in hours})
    return changed


def hour_of(at: dt.datetime) -> dt.datetime:
    """The beginning of the hour (UTC) in which `at` lies."""
    return at.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)


def count_hours(hours: Iterable[tuple[int, dt.datetime]]) -> None:
    """Count the hits of these hours of dispatches. Where rows of an hour have been deleted by age the count stays."""
    found: list[Hour] = []
    for dispatch, at in sorted(hours):
        inside = Event.objects.filter(dispatch=dispatch, kind__in=HITS, at__gte=at, at__lt=at + dt.timedelta(hours=1))
        groups = inside.values_list("kind", "judged").annotate(number=Count("pk")).order_by()
        numbers = {(kind, judged): number for kind, judged, number in groups}
        before = sum(Hour.objects.filter(dispatch=dispatch, at=at).values_list("hits", flat=True))
        if sum(numbers.values()) >= before:
            found += [
                Hour(dispatch_id=dispatch, at=at, kind=kind, judged=judged, hits=numbers.get((kind.value, judged), 0))
                for kind in HITS
                for judged in Event.Judged.values
            ]
    Hour.objects.bulk_create(
        found, update_conflicts=True, unique_fields=["dispatch", "at", "kind", "judged"], update_fields=["hits"]
    )


def _of_requests(rows: QuerySet[Event]) -> QuerySet[Event]:
    """Those of `rows` that are hits by a request: what others tell us of says nothing that could be judged."""
    return rows.filter(kind__in=HITS).exclude(method="")


def _hours_of(rows: QuerySet[Event]) -> Iterator[dt.datetime]:
    """Something in each hour of `rows`, each found by one look into the index."""
    ordered = rows.order_by("kind", "at").values_list("at", flat=True)
    for kind in HITS:
        at = ordered.filter(kind=kind).first()
        while at:
            yield at
            at = ordered.filter(kind=kind, at__gte=hour_of(at) + dt.timedelta(hours=1)).first()


def _deliveries_of(rows: QuerySet[Event]) -> Iterator[set[int]]:
    """The deliveries of `rows` in slices, in the order of their ids: those that went out together stand together."""
    last = 0
    while True:
        ids = rows.filter(delivery_id__gt=last).order_by("delivery_id").values_list("delivery_id", flat=True).distinct()
        found = list(ids[:SLICE])
        if not found:
            return
        last = found[-1] or 0
        yield {pk for pk in found if pk}


def _judge_slices(ids: Iterable[int], *, crowds_known: bool, said: Said | None = None) -> int:
    """Judge the hits of these deliveries together; how many were judged otherwise. Without `crowds_known` those that a
    crowd spoke against stay so, for the others of it are not all here."""
    ordered, changed = sorted(ids), 0
    for start in range(0, len(ordered), SLICE):
        hits = list(_read(Event.objects.filter(delivery__in=ordered[start : start + SLICE], kind__in=HITS)))
        requests = [hit for hit in hits if hit.facts.method]
        found = judging.judge_all([hit.facts for hit in requests])
        verdicts = {
            hit.pk: judgement
            for hit, judgement in zip(requests, found, strict=True)
            if crowds_known or Reason.CROWD not in hit.reasons.split(",")
        }
        changed += _apply(hits, verdicts)
        if said:
            said(len(hits))
    return changed


def _read(rows: QuerySet[Event]) -> Iterator[_Hit]:
    """The hits among `rows` with what is known of them: the reader's domain, which no event keeps, and how many links
    the mail has."""
    columns = rows.values_list(
        "pk", "dispatch_id", "delivery_id", "judged", "reasons", "kind", "at", "method", "agent", "network", "prefetch",
        "since_sent", "url", "delivery__subscriber__address_key", "delivery__profile_id",
    )  # fmt: skip
    found = list(columns)
    links = _links({row[-1] for row in found if row[-1]})
    for (
        pk,
        dispatch,
        delivery,
        judged,
        reasons,
        kind,
        at,
        method,
        agent,
        network,
        prefetch,
        since,
        url,
        key,
        profile,
    ) in found:
        domain = (key or "").rpartition("@")[2]
        forged = Reason.FORGED in reasons.split(",")  # of the token nothing else is left
        facts = Facts(
            kind, at, method, agent, network, prefetch, since, url, delivery, domain, links.get(profile, 0), forged
        )
        yield _Hit(pk, dispatch, delivery, judged, reasons, facts)


def _links(profiles: set[int]) -> dict[int, int]:
    """How many different links the mail of each profile has."""
    rows = DispatchProfile.objects.filter(pk__in=profiles).values_list("pk", "variant__data__links")
    return {pk: len(links or ()) for pk, links in rows}


def _differs(hit: _Hit, verdict: Judgement | None) -> bool:
    if verdict is None or (hit.judged, hit.reasons) == (verdict.judged, verdict.codes):
        return False
    reasons = set(hit.reasons.split(",")) - {""}
    agent_gone = not hit.facts.agent and reasons and Reason.NO_AGENT not in reasons
    network_gone = not hit.facts.network and bool(reasons & _BY_NETWORK)
    # So were the hits that an anonymous one came with.
    person = verdict.judged == judging.Judged.PERSON
    others_gone = hit.delivery is None and Reason.SWEEP in reasons and person
    return not (agent_gone or network_gone or others_gone)


def _apply(hits: Sequence[_Hit], verdicts: dict[int, Judgement]) -> int:
    """Change what is judged otherwise now; how many."""
    mails: dict[int | None, list[_Hit]] = defaultdict(list)
    for hit in hits:
        mails[hit.delivery].append(hit)
    otherwise = [mail for mail in mails.values() if any(_differs(hit, verdicts.get(hit.pk)) for hit in mail)]
    return sum(_change(otherwise[start : start + HELD], verdicts) for start in range(0, len(otherwise), HELD))


def _change(mails: list[list[_Hit]], verdicts: dict[int, Judgement]) -> int:
    """The same for some deliveries, held meanwhile. One of which more has come since is left for the next look."""
    with transaction.atomic():
        noted = storing.lock({mail[0].delivery for mail in mails if mail[0].delivery})
        still = _unchanged(mails)
        changes = [(hit, verdicts[hit.pk]) for mail in still for hit in mail if _differs(hit, verdicts.get(hit.pk))]
        if not changes:
            return 0
        _write(changes)
        now = {hit.pk: to.judged.value for hit, to in changes}
        _note_firsts(still, now, noted)
        _count(still, now, noted)
    return len(changes)


def _write(changes: Sequence[tuple[_Hit, Judgement]]) -> None:
    columns = given.types_of(Event, ["id", "judged", "reasons"])
    values = [{"id": hit.pk, "judged": to.judged.value, "reasons": to.codes} for hit, to in changes]
    sql = f"""
        UPDATE newsletter_event SET judged = given.judged, reasons = given.reasons FROM {given.table(columns)}
        WHERE newsletter_event.id = given.id
    """  # noqa: S608 - our own names of columns
    with connection.cursor() as cursor:
        cursor.execute(sql, [given.rows(values)])


def _unchanged(mails: list[list[_Hit]]) -> list[list[_Hit]]:
    """Those of which the rows are as they were read."""
    ids = [hit.pk for mail in mails for hit in mail]
    deliveries = [mail[0].delivery for mail in mails if mail[0].delivery]
    rows = Event.objects.filter(Q(pk__in=ids) | Q(delivery__in=deliveries), kind__in=HITS)
    judged = dict(rows.values_list("pk", "judged"))
    number = Counter(rows.filter(delivery__in=deliveries).values_list("delivery_id", flat=True))
    return [
        mail
        for mail in mails
        if all(judged.get(hit.pk) == hit.judged for hit in mail)
        and (mail[0].delivery is None or number[mail[0].delivery] == len(mail))
    ]


def _note_firsts(mails: list[list[_Hit]], now: dict[int, str], noted: dict[int, storing.Firsts]) -> None:
    """The first times by a person, made anew. A time of which no row is left stands."""
    changed: dict[int, storing.Firsts] = {}
    for mail in mails:
        delivery = mail[0].delivery
        if delivery is None or delivery not in noted:
            continue
        first, gone = dict(noted[delivery]), _gone(mail, noted)
        for kind, column in storing.FIRST_BY_PERSON.items():
            people = [
                hit.facts.at
                for hit in mail
                if hit.facts.kind == kind and now.get(hit.pk, hit.judged) == Event.Judged.PERSON
            ]
            if kind in gone:
                people.append(first[column])
            first[column] = min(people, default=None)  # type: ignore[assignment]
        if first != noted[delivery]:
            changed[delivery] = first
    if changed:
        storing.write_firsts(changed)


def _gone(mail: list[_Hit], noted: dict[int, storing.Firsts]) -> set[str]:
    """The kinds of which a person's first hit has been deleted by age, and counts on."""
    first = noted.get(mail[0].delivery or 0, {})
    times = {(hit.facts.kind, hit.facts.at) for hit in mail}
    return {
        kind
        for kind, column in storing.FIRST_BY_PERSON.items()
        if first.get(column) is not None and (kind, first[column]) not in times
    }


def _count(mails: list[list[_Hit]], now: dict[int, str], noted: dict[int, storing.Firsts]) -> None:
    """Add and take away in the tallies what the changes make of them."""
    hits: Counter[tuple[int, storing.Group]] = Counter()
    readers: Counter[tuple[int, storing.Group]] = Counter()
    for mail in mails:
        before: set[tuple[int, storing.Group]] = set()
        after: set[tuple[int, storing.Group]] = set()
        for hit in mail:
            had, has = hit.groups(hit.judged), hit.groups(now.get(hit.pk, hit.judged))
            hits.update(has - had)
            hits.subtract(had - has)
            before |= had
            after |= has
        if mail[0].delivery is not None:
            stands = {
                (dispatch, (kind, Event.Judged.PERSON.value, storing.WHATEVER))
                for kind in _gone(mail, noted)
                for dispatch in {hit.dispatch for hit in mail if hit.dispatch}
            }
            readers.update(after - before - stands)
            readers.subtract(before - after - stands)
    storing.change_tallies(
        [(*of, hits[of], readers[of]) for of in hits.keys() | readers.keys() if hits[of] or readers[of]]
    )
