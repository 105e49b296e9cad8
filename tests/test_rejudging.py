"""What a sweep gives away is found once all of it has come, and everything that counts follows."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import Sum
from django.utils import timezone

from newsletter import events, judging, tasks
from newsletter.events import rejudging, storing
from newsletter.judging import CLICK, OPEN, Facts
from newsletter.models import Delivery, Dispatch, Event, Hour, Mark, Tally
from tests import hit_logs
from tests.making import issue_of, make_dispatch, make_newsletter

pytestmark = pytest.mark.django_db

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
SENT = dt.datetime(2026, 11, 2, 8, tzinfo=dt.UTC)
HOME, GATEWAY = "203.0.113.0/24", "198.51.100.0/24"


def write(dispatch: Dispatch, facts: list[Facts], deliveries: dict[Any, Delivery]) -> None:
    """Store hits as a worker does that sees each by itself."""
    rows = []
    for hit in facts:
        judgement = judging.judge(replace(hit, links=0))
        delivery = deliveries.get(hit.delivery)
        rows.append(
            storing.Row(
                key=uuid.uuid4(),
                kind=hit.kind,
                at=hit.at,
                source="pixel",
                newsletter_id=dispatch.newsletter_id,
                dispatch_id=dispatch.pk,
                delivery_id=delivery.pk if delivery else None,
                subscriber_id=delivery.subscriber_id if delivery else None,
                url=hit.url,
                method=hit.method,
                agent=hit.agent,
                network=hit.network,
                prefetch=hit.prefetch,
                since_sent=hit.since_sent,
                judged=judgement.judged.value,
                reasons=judgement.codes,
            )
        )
    storing.add_tallies(storing.store(rows).counts)


def hit(kind: str, after: float, url: str = "", network: str = HOME, delivery: int | None = 0) -> Facts:
    at = SENT + dt.timedelta(seconds=after)
    return Facts(kind, at, agent=CHROME, network=network, since_sent=after, url=url, delivery=delivery)


def sweep(after: float = 43, delivery: int | None = 0) -> list[Facts]:
    return [hit(CLICK, after + number / 20, f"https://example.com/{number}", GATEWAY, delivery) for number in range(8)]


@pytest.fixture
def dispatch() -> Dispatch:
    return make_dispatch(make_newsletter(), readers=2)


def deliveries_of(dispatch: Dispatch) -> dict[Any, Delivery]:
    return dict(enumerate(dispatch.deliveries.order_by("pk")))


def tallies(dispatch: Dispatch) -> dict[tuple[str, str, str], tuple[int, int]]:
    """All tallies that count something."""
    rows = Tally.objects.filter(dispatch=dispatch, hits__gt=0)
    return {(row.kind, row.judged, row.url): (row.hits, row.readers) for row in rows}


def counted(dispatch: Dispatch) -> dict[tuple[str, str, str], tuple[int, int]]:
    """What the tallies should be, counted from the rows."""
    found: dict[tuple[str, str, str], list[Any]] = {}
    for event in Event.objects.filter(dispatch=dispatch):
        for group in storing.groups(event.kind, event.judged, event.url):
            found.setdefault(group, []).append(event.delivery_id)
    return {group: (len(rows), len(set(rows) - {None})) for group, rows in found.items()}


def test_a_sweep_that_was_counted_as_a_persons_is_taken_back_everywhere(dispatch: Dispatch) -> None:
    mails = deliveries_of(dispatch)
    write(dispatch, [hit(OPEN, 9, network=GATEWAY), *sweep()], mails)
    mails[0].refresh_from_db()
    assert mails[0].opened_at
    assert mails[0].clicked_at
    assert events.judge_late() == 9
    assert set(Event.objects.values_list("judged", flat=True)) == {"machine"}
    mails[0].refresh_from_db()
    assert mails[0].opened_at is None
    assert mails[0].clicked_at is None
    assert mails[0].any_open_at == SENT + dt.timedelta(seconds=9)
    assert mails[0].any_click_at == SENT + dt.timedelta(seconds=43)
    assert tallies(dispatch) == counted(dispatch)


def test_a_person_after_the_sweep_keeps_their_first_times_and_their_place_in_the_counts(dispatch: Dispatch) -> None:
    mails = deliveries_of(dispatch)
    person = [hit(OPEN, 900), hit(CLICK, 905, "https://example.com/3")]
    write(dispatch, [hit(OPEN, 9, network=GATEWAY), *sweep(), *person], mails)
    write(dispatch, [hit(OPEN, 700, delivery=1)], mails)
    events.judge_late()
    mails[0].refresh_from_db()
    assert mails[0].opened_at == SENT + dt.timedelta(seconds=900)
    assert mails[0].clicked_at == SENT + dt.timedelta(seconds=905)
    assert tallies(dispatch) == counted(dispatch)
    assert tallies(dispatch)["open", "person", ""] == (2, 2)
    assert tallies(dispatch)["click", "person", "https://example.com/3"] == (1, 1)


def test_a_sweep_that_comes_in_parts_is_found_with_its_last_part(dispatch: Dispatch) -> None:
    mails = deliveries_of(dispatch)
    first, last = sweep()[:2], sweep()[2:]
    write(dispatch, first, mails)
    events.judge_late()
    write(dispatch, last, mails)
    events.judge_late()
    assert set(Event.objects.values_list("judged", flat=True)) == {"machine"}
    assert tallies(dispatch) == counted(dispatch)


def test_judging_again_changes_nothing(dispatch: Dispatch) -> None:
    write(dispatch, [hit(OPEN, 9, network=GATEWAY), *sweep(), hit(OPEN, 900)], deliveries_of(dispatch))
    events.judge_late()
    before = list(Event.objects.order_by("pk").values()), tallies(dispatch), list(Hour.objects.values())
    assert events.judge_late() == 0
    assert events.judge_stored(dispatch.pk) == 0
    assert (list(Event.objects.order_by("pk").values()), tallies(dispatch), list(Hour.objects.values())) == before


def test_each_hit_is_looked_at_in_two_looks(dispatch: Dispatch) -> None:
    """The ids of what is being written are taken before they can be seen."""
    mails = deliveries_of(dispatch)
    write(dispatch, sweep(), mails)
    events.judge_late()
    late = Event.objects.order_by("pk")[1]
    Event.objects.filter(pk=late.pk).update(judged="person")
    events.judge_late()
    late.refresh_from_db()
    assert late.judged == "machine"
    assert Mark.objects.get().value == Mark.objects.get().seen


def test_hours_are_counted_by_who_made_the_hits(dispatch: Dispatch) -> None:
    mails = deliveries_of(dispatch)
    write(dispatch, [*sweep(), hit(OPEN, 3700), hit(OPEN, 3800, delivery=1)], mails)
    events.judge_late()
    rows = Hour.objects.filter(hits__gt=0).order_by("at")
    assert [(row.at, row.kind, row.judged, row.hits) for row in rows] == [
        (SENT, "click", "machine", 8),
        (SENT + dt.timedelta(hours=1), "open", "person", 2),
    ]


def test_what_was_deleted_by_age_takes_nothing_from_first_times_and_counts(dispatch: Dispatch) -> None:
    mails = deliveries_of(dispatch)
    write(dispatch, [hit(OPEN, 60), hit(OPEN, 70, delivery=1)], mails)
    events.judge_late()
    kept = tallies(dispatch)
    Event.objects.filter(delivery=mails[0]).delete()
    write(dispatch, sweep(after=500), mails)
    assert events.judge_late() == 8
    mails[0].refresh_from_db()
    assert mails[0].opened_at == SENT + dt.timedelta(seconds=60)
    assert tallies(dispatch)["open", "person", ""] == kept["open", "person", ""]


def test_an_hour_keeps_its_count_when_its_rows_have_been_deleted_by_age(dispatch: Dispatch) -> None:
    mails = deliveries_of(dispatch)
    write(dispatch, [hit(OPEN, 60), hit(OPEN, 70, delivery=1)], mails)
    events.judge_late()
    Event.objects.all().delete()
    write(dispatch, [hit(OPEN, 80)], mails)
    events.judge_late()
    assert Hour.objects.aggregate(sum=Sum("hits"))["sum"] == 2


def test_a_mail_that_gets_a_hit_while_it_is_judged_waits_for_the_next_look(dispatch: Dispatch) -> None:
    mails = deliveries_of(dispatch)
    write(dispatch, sweep(), mails)
    came = False

    def meanwhile(execute: Any, sql: str, *args: Any) -> Any:
        nonlocal came
        if not came and sql.startswith("SELECT") and 'FROM "newsletter_delivery"' in sql:
            came = True
            write(dispatch, [hit(OPEN, 44, network=GATEWAY)], mails)
        return execute(sql, *args)

    with connection.execute_wrapper(meanwhile):
        assert events.judge_late() == 0
    assert came
    assert events.judge_late() == 9
    assert tallies(dispatch) == counted(dispatch)


def test_a_judgement_outlives_the_agent_and_the_network_it_was_made_by(dispatch: Dispatch) -> None:
    write(dispatch, [hit(OPEN, 9, network=GATEWAY), *sweep(), hit(OPEN, 900, delivery=1)], deliveries_of(dispatch))
    events.judge_late()
    before = list(Event.objects.order_by("pk").values_list("judged", "reasons"))
    Event.objects.update(network="")
    events.judge_stored(dispatch.pk)
    assert list(Event.objects.order_by("pk").values_list("judged", "reasons")) == before
    Event.objects.update(agent="")
    events.judge_stored(dispatch.pk)
    assert list(Event.objects.order_by("pk").values_list("judged", "reasons")) == before


def test_a_crowd_is_told_by_the_domain_of_its_readers() -> None:
    dispatch = make_dispatch(make_newsletter(), readers=25)
    mails = deliveries_of(dispatch)
    write(dispatch, [hit(OPEN, 30 + number, network=GATEWAY, delivery=number) for number in mails], mails)
    assert events.judge_late() == 25
    assert set(Event.objects.values_list("reasons", flat=True)) == {"crowd"}
    # One of them comes back later, alone: the others are not looked at again, and still speak against the first time.
    write(dispatch, [hit(OPEN, 5000, delivery=3)], mails)
    events.judge_late()
    events.judge_late()
    assert list(Event.objects.filter(delivery=mails[3]).order_by("pk").values_list("judged", flat=True)) == [
        "machine",
        "person",
    ]


def test_a_mail_with_one_link_is_known_by_its_variant(dispatch: Dispatch) -> None:
    """The issue of `make_dispatch` has one."""
    write(dispatch, [hit(CLICK, 43, "https://example.com/a?b=c#d")], deliveries_of(dispatch))
    events.judge_late()
    assert Event.objects.get().reasons == "one-link"


def test_anonymous_hits_are_judged_by_the_rules_of_now(dispatch: Dispatch) -> None:
    write(dispatch, sweep(delivery=None), {})
    Event.objects.update(agent="curl/8.9.1")
    assert events.judge_late() == 0
    assert events.judge_stored(dispatch.pk) == 8
    assert set(Event.objects.values_list("judged", flat=True)) == {"machine"}
    assert tallies(dispatch) == counted(dispatch)


def test_what_a_provider_tells_is_not_judged_by_a_request_that_was_none(dispatch: Dispatch) -> None:
    told = replace(hit(OPEN, 900), method="", agent="")
    write(dispatch, [told], deliveries_of(dispatch))
    Event.objects.update(judged="unknown", reasons="")
    events.judge_late()
    events.judge_stored(dispatch.pk)
    assert Event.objects.get().judged == "unknown"


def command(*arguments: str) -> dict[str, Any]:
    out = StringIO()
    call_command("judge_events", "--json", *arguments, stdout=out)
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def test_the_command_judges_what_is_stored(dispatch: Dispatch) -> None:
    write(dispatch, [*sweep(), hit(OPEN, 900, delivery=1)], deliveries_of(dispatch))
    assert command("--issue", str(issue_of(dispatch).pk)) == {
        "looked_at": 9,
        "changed": 8,
        "judged": {"machine": 8, "person": 1},
    }
    assert command()["changed"] == 0


def test_the_command_leaves_out_what_is_older(dispatch: Dispatch) -> None:
    write(dispatch, sweep(), deliveries_of(dispatch))
    assert command("--since", "2026-11-03")["looked_at"] == 0
    assert command("--since", "2026-11-02T00:00")["looked_at"] == 8
    with pytest.raises(CommandError, match="is no time"):
        command("--since", "soon")


def test_a_whole_log_comes_out_of_the_database_as_it_is_judged_in_memory() -> None:
    log = hit_logs.make_log(4, deliveries=60)
    dispatch = make_dispatch(make_newsletter(), readers=60)
    mails = deliveries_of(dispatch)
    # The issue's own number of links and its readers' domain are what the database knows.
    hits = [replace(one, links=1, domain="readers.example") for one in log.hits]
    for start in range(0, len(hits), 40):
        write(dispatch, hits[start : start + 40], mails)
        events.judge_late()
    events.judge_late()
    events.judge_stored(dispatch.pk)
    stored = Event.objects.order_by("at", "pk").values_list("judged", flat=True)
    assert list(stored) == [judgement.judged.value for judgement in judging.judge_all(hits)]
    assert tallies(dispatch) == counted(dispatch)
    assert Hour.objects.aggregate(sum=Sum("hits"))["sum"] == len(hits)


def test_a_sweep_that_is_written_at_once_never_counts_as_a_persons(dispatch: Dispatch) -> None:
    mail = deliveries_of(dispatch)[0]
    request = events.Hit("GET", CHROME, GATEWAY)
    entries = [
        events.entry_of(Event.Kind.CLICK, request, delivery_id=mail.pk, url=f"https://example.com/{number}")
        for number in range(6)
    ]
    assert events.write_hits(entries) == 6
    assert {judged for _, judged, _ in tallies(dispatch)} == {"machine", ""}
    mail.refresh_from_db()
    assert mail.clicked_at is None
    assert mail.any_click_at is not None


def test_a_reader_whose_first_hit_was_deleted_by_age_still_counts_when_a_later_one_is_judged_otherwise(
    dispatch: Dispatch,
) -> None:
    mails = deliveries_of(dispatch)
    write(dispatch, [hit(OPEN, 660), hit(CLICK, 665, "https://example.com/0")], mails)
    events.judge_late()
    Event.objects.all().delete()
    write(dispatch, [hit(OPEN, 890, network=GATEWAY), *sweep(after=900)], mails)
    assert tallies(dispatch)["open", "person", ""] == (2, 1)
    assert events.judge_late() == 9
    mails[0].refresh_from_db()
    assert mails[0].opened_at == SENT + dt.timedelta(seconds=660)
    assert tallies(dispatch)["open", "person", ""] == (1, 1)
    assert tallies(dispatch)["click", "person", ""] == (1, 1)


def test_a_hit_that_comes_to_count_as_a_persons_counts_no_reader_twice(dispatch: Dispatch) -> None:
    mails = deliveries_of(dispatch)
    write(dispatch, [hit(OPEN, 60)], mails)
    Event.objects.all().delete()
    write(dispatch, [hit(OPEN, 700)], mails)
    Event.objects.update(judged="machine", reasons="apple")
    Tally.objects.filter(kind="open", judged="person").update(hits=1)
    assert events.judge_late() == 1
    assert tallies(dispatch)["open", "person", ""] == (2, 1)


def test_one_look_at_a_time_and_none_right_after_another() -> None:
    """Of two beats one looks."""
    assert events.begin_look()
    assert not events.begin_look()
    Mark.objects.update(begun_at=timezone.now() - dt.timedelta(seconds=46))
    assert events.begin_look()
    Mark.objects.update(begun_at=timezone.now() - dt.timedelta(seconds=46))
    tasks.judge_late()
    assert not events.begin_look()


def test_whoever_does_not_begin_a_look_judges_nothing(dispatch: Dispatch) -> None:
    write(dispatch, sweep(), deliveries_of(dispatch))
    events.begin_look()
    tasks.judge_late()
    assert set(Event.objects.values_list("judged", flat=True)) == {"person"}


def test_a_look_that_is_cut_short_leaves_the_second_look_at_what_it_saw(
    dispatch: Dispatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejudging, "READ", 8)
    monkeypatch.setattr(rejudging, "LONGEST", -1.0)  # seconds: every look ends after the first that it read
    mails = deliveries_of(dispatch)
    write(dispatch, sweep(), mails)
    write(dispatch, sweep(delivery=1), mails)
    events.judge_late()
    # What was being written meanwhile has an id among those that were read.
    early = Event.objects.order_by("pk")[1]
    Event.objects.filter(pk=early.pk).update(judged="person")
    for _ in range(4):
        events.judge_late()
    early.refresh_from_db()
    assert early.judged == "machine"
    mark = Mark.objects.get()
    assert mark.value == mark.seen == Event.objects.order_by("pk").values_list("pk", flat=True).last()


def test_no_look_goes_through_what_is_no_hit_more_than_twice(dispatch: Dispatch) -> None:
    write(dispatch, [hit(OPEN, 60)], deliveries_of(dispatch))
    Event.objects.bulk_create(Event(kind="delivered", dispatch=dispatch) for _ in range(50))
    last = Event.objects.order_by("pk").values_list("pk", flat=True).last()
    events.judge_late()
    events.judge_late()
    assert Mark.objects.get().value == last
