"""What the report says: people first, all beside, link by link and hour by hour, from tallies alone."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from typing import Any

import pytest
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from newsletter import stats
from newsletter.events import storing
from newsletter.judging import SENTENCES, Reason
from newsletter.models import Delivery, Dispatch, Hour, Tally
from subscribers.models import Subscriber
from tests.making import issue_of, make_dispatch, make_newsletter, make_reader
from tests.test_admin_issues import signed_in, text

pytestmark = pytest.mark.django_db

NOON = dt.datetime(2026, 11, 2, 12, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def _nothing_counted_before() -> None:
    cache.clear()


@pytest.fixture
def dispatch() -> Dispatch:
    dispatch = make_dispatch(make_newsletter(), readers=4)
    Delivery.objects.update(status=Delivery.Status.SENT, tries=1)
    return dispatch


def tally(dispatch: Dispatch, kind: str, judged: str, readers: int, hits: int, url: str = "") -> None:
    Tally.objects.create(
        dispatch=dispatch, kind=kind, judged=judged, readers=readers, hits=hits, url=url, url_digest=storing.digest(url)
    )


def opened_and_clicked(dispatch: Dispatch) -> None:
    """Three opened, one of them only by a machine, and one person clicked where a scanner did too."""
    for kind, judged, readers, hits in (
        ("open", "person", 2, 5),
        ("open", "machine", 3, 4),
        ("open", "unknown", 1, 1),
        ("open", "", 3, 10),
        ("click", "person", 1, 2),
        ("click", "machine", 1, 8),
        ("click", "", 2, 10),
    ):
        tally(dispatch, kind, judged, readers, hits)


def test_people_come_first_and_all_stand_beside(dispatch: Dispatch) -> None:
    opened_and_clicked(dispatch)
    numbers = stats.count(dispatch)
    assert (numbers["opened"], numbers["clicked"]) == (2, 1)
    assert (numbers["open_rate"], numbers["click_rate"]) == (0.5, 0.25)
    assert numbers["opens"] == {
        "people": {"readers": 2, "hits": 5},
        "unknown": {"readers": 1, "hits": 1},
        "machines": {"readers": 3, "hits": 4},
        "all": {"readers": 3, "hits": 10},
    }
    assert numbers["clicks"]["unknown"] == {"readers": 0, "hits": 0}


def test_nothing_sent_has_no_rate() -> None:
    assert stats.count(None)["open_rate"] is None
    assert stats.count(make_dispatch(make_newsletter(), readers=1))["click_rate"] is None


def test_all_states_and_reasons_are_counted(dispatch: Dispatch) -> None:
    ids = list(dispatch.deliveries.order_by("pk").values_list("pk", flat=True))
    Delivery.objects.filter(pk=ids[0]).update(status="skipped", reason="paused", tries=0)
    Delivery.objects.filter(pk=ids[1]).update(status="skipped", reason="unsubscribed", tries=0)
    Delivery.objects.filter(pk=ids[2]).update(status="failed", unsubscribed_at=NOON)
    numbers = stats.count(dispatch)
    assert (numbers["sent"], numbers["failed"], numbers["queued"], numbers["deliveries"]) == (1, 1, 0, 4)
    assert numbers["skipped"] == {"paused": 1, "unsubscribed": 1}
    assert numbers["unsubscribed"] == 1
    assert stats.sums_agree(numbers)


def test_links_stand_in_the_order_in_which_people_followed_them(dispatch: Dispatch) -> None:
    for url, people, machines in (
        ("https://a.example/", 0, 9),
        ("https://b.example/", 2, 1),
        ("https://c.example/", 1, 1),
    ):
        tally(dispatch, "click", "machine", machines, machines, url)
        tally(dispatch, "click", "", people + machines, people + machines, url)
        if people:
            tally(dispatch, "click", "person", people, people + 1, url)
    found = stats.links(dispatch)
    assert [link.url for link in found] == ["https://b.example/", "https://c.example/", "https://a.example/"]
    assert found[0].as_json()["people"] == {"readers": 2, "hits": 3}
    assert found[2].as_json()["all"] == {"readers": 9, "hits": 9}


def hours_of(dispatch: Dispatch, *numbers: tuple[int, str, str, int]) -> None:
    Hour.objects.bulk_create(
        Hour(dispatch=dispatch, at=NOON + dt.timedelta(hours=after), kind=kind, judged=judged, hits=hits)
        for after, kind, judged, hits in numbers
    )


def test_hours_tell_people_from_all(dispatch: Dispatch) -> None:
    hours_of(dispatch, (0, "open", "person", 3), (0, "open", "machine", 5), (2, "click", "person", 1))
    assert [hour.as_json() for hour in stats.hours(dispatch)] == [
        {"at": "2026-11-02T12:00:00+00:00", "opens": 3, "clicks": 0, "all_opens": 8, "all_clicks": 0},
        {"at": "2026-11-02T14:00:00+00:00", "opens": 0, "clicks": 1, "all_opens": 0, "all_clicks": 1},
    ]


def page(dispatch: Dispatch, query: str = "", client: Client | None = None) -> Any:
    return (client or signed_in("analyst")).get(f"/admin/newsletter/dispatch/{dispatch.pk}/change/{query}")


def test_the_page_has_people_first_and_says_how_it_is_counted(dispatch: Dispatch) -> None:
    opened_and_clicked(dispatch)
    response = page(dispatch)
    assert response.context["results"]["figures"] == [
        ("Opened", 2, "50.0 % of what was sent"),
        ("Clicked", 1, "25.0 % of what was sent"),
        ("Left by this mail", 0, ""),
    ]
    assert response.context["results"]["rows"] == [
        ("People", 2, 5, 1, 2),
        ("Nobody can tell", 1, 1, 0, 0),
        ("Machines", 3, 4, 1, 8),
        ("All", 3, 10, 2, 10),
    ]
    shown = text(response)
    assert "How is this counted?" in shown
    told = {sentence for _, sentences in response.context["results"]["rules"] for sentence in sentences}
    assert told == {SENTENCES[reason] for reason in Reason}


def test_the_page_turns_the_pages_of_its_links(dispatch: Dispatch) -> None:
    for number in range(30):
        tally(dispatch, "click", "", 1, 1, f"https://example.com/{number:02}")
    client = signed_in("analyst")
    first, second = page(dispatch, client=client), page(dispatch, "?links=2", client)
    urls = [link.url for shown in (first, second) for link in shown.context["results"]["links"]["rows"]]
    assert len(urls) == len(set(urls)) == 30
    assert "?links=2#links-title" in text(first)
    for nonsense in ("?links=99", "?links=0", "?links=-1", "?links=²", f"?links={'9' * 40}"):
        assert page(dispatch, nonsense, client).status_code == 200


def test_links_can_be_downloaded(dispatch: Dispatch) -> None:
    tally(dispatch, "click", "person", 2, 3, "https://example.com/?a=1,2")
    answer = signed_in("analyst").get(f"/admin/newsletter/dispatch/{dispatch.pk}/links/")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert rows[0]["url"] == "https://example.com/?a=1,2"
    assert (rows[0]["people_readers"], rows[0]["people_hits"], rows[0]["machines_hits"]) == ("2", "3", "0")


def test_the_picture_shows_each_hour_and_the_same_as_a_table(dispatch: Dispatch) -> None:
    opened_and_clicked(dispatch)
    hours_of(dispatch, (0, "open", "person", 4), (1, "click", "person", 1), (5, "open", "machine", 9))
    response = page(dispatch)
    bars = response.context["results"]["picture"]["bars"]
    assert [(bar.opens, bar.clicks, bar.all_opens) for bar in bars][:2] == [(4, 0, 4), (0, 1, 0)]
    assert len(bars) == 6
    assert (bars[0].open_height, bars[0].open_top, bars[1].click_height) == (160, 0, 40)
    assert '<svg viewBox="0 0 720 160" role="img"' in text(response)


@pytest.mark.parametrize("clicks", [1, 4, 9])
def test_opens_and_clicks_of_one_hour_stand_side_by_side(dispatch: Dispatch, clicks: int) -> None:
    hours_of(dispatch, (0, "open", "person", 4), (0, "click", "person", clicks))
    response = page(dispatch)
    found = re.findall(r'<rect class="(opens|clicks)" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', text(response))
    (opens_left, opens_width), (clicks_left, _) = ((float(x), float(width)) for _, x, width in found)
    assert [name for name, _, _ in found] == ["opens", "clicks"]
    assert clicks_left >= opens_left + opens_width > opens_left


def test_a_single_click_beside_many_opens_is_seen(dispatch: Dispatch) -> None:
    hours_of(dispatch, (0, "open", "person", 5000), (0, "click", "person", 1), (1, "open", "person", 1))
    first, second = page(dispatch).context["results"]["picture"]["bars"]
    assert (first.open_height, first.click_height, second.open_height, second.click_height) == (160, 2, 2, 0)


def test_a_long_time_makes_longer_bars_and_loses_nothing(dispatch: Dispatch) -> None:
    hours_of(dispatch, *((after, "open", "person", 1) for after in range(0, 2000, 7)))
    picture = page(dispatch).context["results"]["picture"]
    assert len(picture["bars"]) <= 72
    assert sum(bar.opens for bar in picture["bars"]) == 286


@pytest.fixture
def anonymous() -> Dispatch:
    """A dispatch to four whom nobody follows, that was opened."""
    dispatch = make_dispatch(make_newsletter(tracking="anonymous"), readers=4)
    Delivery.objects.update(status=Delivery.Status.SENT, tries=1)
    tally(dispatch, "open", "person", 0, 7)
    tally(dispatch, "open", "", 0, 7)
    return dispatch


def test_anonymous_tracking_says_that_it_knows_no_readers(
    anonymous: Dispatch, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = stats.count(anonymous)
    assert (numbers["sent"], numbers["followed"], numbers["open_rate"], numbers["click_rate"]) == (4, 0, None, None)
    shown = page(anonymous)
    assert "Tracking is anonymous" in text(shown)
    assert shown.context["results"]["figures"] == [("Left by this mail", 0, "")]
    call_command("issue_report", str(issue_of(anonymous).pk))
    assert "0 of 4 readers" in capsys.readouterr().out


def test_no_list_says_that_nobody_opened_what_was_counted_without_names(anonymous: Dispatch) -> None:
    Dispatch.objects.update(status=Dispatch.Status.SENT)
    client = signed_in("analyst")
    listed: Any = client.get("/admin/newsletter/issue/")
    assert [issue.people for issue in listed.context["cl"].result_list] == [None]
    first: Any = client.get("/admin/")
    assert (first.context["glances"][0].numbers["opened"], first.context["glances"][0].numbers["clicked"]) == (
        None,
        None,
    )
    assert "People who opened" not in text(first)


@pytest.mark.parametrize("unsent", [0, 1, 3, 5, 6])
def test_the_followed_are_those_of_whom_mail_was_sent_however_many_that_are(unsent: int) -> None:
    newsletter = make_newsletter(ask_first=True)
    for _ in range(4):
        Subscriber.objects.filter(pk=make_reader(newsletter).subscriber_id).update(tracking=Subscriber.Tracking.AGREED)
    dispatch = make_dispatch(newsletter, readers=2)
    Delivery.objects.update(status=Delivery.Status.SENT, tries=1)
    followed_first = sorted(
        dispatch.deliveries.values_list("profile__tracking", "pk"), key=lambda row: row[0] != "individual"
    )
    states = [Delivery.Status.FAILED, Delivery.Status.UNCONFIRMED, Delivery.Status.QUEUED]
    for index, (_, pk) in enumerate(followed_first[:unsent]):
        Delivery.objects.filter(pk=pk).update(status=states[index % 3])
    numbers = stats.count(dispatch)
    assert (numbers["sent"], numbers["followed"]) == (6 - unsent, max(4 - unsent, 0))


def test_a_share_is_one_of_those_whose_opens_can_be_known(capsys: pytest.CaptureFixture[str]) -> None:
    newsletter = make_newsletter(ask_first=True)
    for choice in (Subscriber.Tracking.AGREED, Subscriber.Tracking.AGREED, Subscriber.Tracking.OFF):
        Subscriber.objects.filter(pk=make_reader(newsletter).subscriber_id).update(tracking=choice)
    dispatch = make_dispatch(newsletter, readers=5)
    Delivery.objects.update(status=Delivery.Status.SENT, tries=1)
    tally(dispatch, "open", "person", 1, 6)
    tally(dispatch, "open", "", 1, 6)
    numbers = stats.count(dispatch)
    assert (numbers["sent"], numbers["followed"], numbers["opened"], numbers["open_rate"]) == (8, 2, 1, 0.5)
    shown = page(dispatch)
    assert shown.context["results"]["figures"][0] == ("Opened", 1, "50.0 % of those who are followed")
    assert "Of 2 of the 8 readers" in " ".join(text(shown).split())
    call_command("issue_report", str(issue_of(dispatch).pk))
    assert "2 of 8 readers" in capsys.readouterr().out


def test_large_numbers_can_be_read(dispatch: Dispatch) -> None:
    tally(dispatch, "open", "person", 1234567, 2345678)
    tally(dispatch, "open", "", 1234567, 2345678)
    Dispatch.objects.update(status=Dispatch.Status.SENT)
    client = signed_in("analyst")
    shown = text(page(dispatch, client=client))
    assert "1,234,567" in shown
    assert "2,345,678" in shown
    assert "1234567" not in shown
    for path in ("/admin/newsletter/issue/", "/admin/"):
        assert "1,234,567" in text(client.get(path))


def test_without_tracking_nothing_is_shown_that_was_not_counted() -> None:
    assert "does not track" in text(page(make_dispatch(make_newsletter(tracking="off"), readers=1)))


def test_the_list_of_issues_and_the_first_page_show_people(dispatch: Dispatch) -> None:
    opened_and_clicked(dispatch)
    Dispatch.objects.update(status=Dispatch.Status.SENT)
    client = signed_in("analyst")
    listed: Any = client.get("/admin/newsletter/issue/")
    assert [issue.people for issue in listed.context["cl"].result_list] == [{"open": 2, "click": 1}]
    first: Any = client.get("/admin/")
    assert first.context["glances"][0].numbers["opened"] == 2


def test_no_report_reads_events(dispatch: Dispatch) -> None:
    with CaptureQueriesContext(connection) as captured:
        stats.full_report(issue_of(dispatch))
        page(dispatch)
    assert not [query["sql"] for query in captured if "newsletter_event" in query["sql"]]


def test_the_command_shows_people_machines_and_links(dispatch: Dispatch, capsys: pytest.CaptureFixture[str]) -> None:
    opened_and_clicked(dispatch)
    tally(dispatch, "click", "person", 1, 2, "https://example.com/")
    call_command("issue_report", str(issue_of(dispatch).pk))
    said = capsys.readouterr().out
    for line in ("people", "nobody can tell", "machines", "https://example.com/"):
        assert line in said
    assert "Opened: 2 (50.0 % of what was sent); Clicked: 1 (25.0 % of what was sent); Left by this mail: 0." in said
