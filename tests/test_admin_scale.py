"""What keeps the admin quick with a million rows: few queries however many rows, none that counts or skips them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from newsletter import counting
from newsletter.admin import base
from newsletter.hooks import occurring
from newsletter.models import Call, Delivery, Dispatch, Event, Newsletter
from subscribers import consent
from subscribers.models import ConsentRecord, Membership, Subscriber, Subscription, Suppression
from tests.admin_pages import add_to, make_site, paths
from tests.feeding import put, write
from tests.making import make_dispatch, make_hook, make_issue, make_newsletter, make_reader, make_subscriber

pytestmark = pytest.mark.django_db

MOST_QUERIES = 19  # under twenty
PAGE = 5
LARGE = ("subscriber", "subscription", "membership", "suppression", "consentrecord", "call", "bounce")
APP = {"call": "newsletter", "bounce": "newsletter"}


@pytest.fixture
def newsletter(monkeypatch: pytest.MonkeyPatch) -> Newsletter:
    """A newsletter with a dispatch, an issue and more readers than two pages show, each with a row in every table."""
    monkeypatch.setattr(base.LargeModelAdmin, "list_per_page", PAGE)
    newsletter = make_newsletter()
    make_dispatch(newsletter)
    make_issue(newsletter)
    hook = make_hook()
    for number in range(2 * PAGE + 2):
        reader = make_reader(newsletter, tier="paid")
        Event.objects.create(kind="bounce", verdict="soft", newsletter=newsletter, subscriber=reader.subscriber)
        consent.choose_tracking(reader.subscriber, tracking=Subscriber.Tracking.OFF, source="test")
        Suppression.objects.create(fingerprint=f"f{number}", reason=Suppression.Reason.MANUAL)
        occurring.try_out(hook)
    return newsletter


def list_of(model: str) -> str:
    return reverse(f"admin:{APP.get(model, 'subscribers')}_{model}_changelist")


def queries_of(browser: Client, url: str, query: dict[str, str] | None = None) -> list[str]:
    """The statements that a page takes."""
    with CaptureQueriesContext(connection) as captured:
        answer = browser.get(url, query or {})
        assert answer.status_code == 200
    return [query["sql"] for query in captured.captured_queries]


@pytest.mark.parametrize("model", LARGE)
@pytest.mark.parametrize("query", [{}, {"q": "Ada"}, {"q": "reader1@readers.example"}, {"older": "9"}, {"newer": "3"}])
def test_a_list_takes_few_queries_and_neither_counts_nor_skips(
    admin_client: Client, newsletter: Newsletter, model: str, query: dict[str, str]
) -> None:
    queries = queries_of(admin_client, list_of(model), query)
    assert len(queries) <= MOST_QUERIES
    # PostgreSQL is asked what counting would cost before it counts (`newsletter.counting`).
    asked_first = any(sql.startswith("EXPLAIN") for sql in queries)
    for sql in queries:
        assert "OFFSET" not in sql
        if f"{APP.get(model, 'subscribers')}_{model}" in sql and not sql.startswith("EXPLAIN"):
            assert re.search(r"\bLIMIT \d+", sql) or ("COUNT(" in sql and asked_first), sql


@pytest.mark.parametrize(
    "query",
    [{"status__exact": "active"}, {"newsletter__id__exact": "{pk}"}, {"newsletter__id__exact": "{pk}", "q": "A"}],
)
def test_a_filtered_list_is_not_counted(admin_client: Client, newsletter: Newsletter, query: dict[str, str]) -> None:
    filled = {name: value.format(pk=newsletter.pk) for name, value in query.items()}
    queries = queries_of(admin_client, list_of("subscription"), filled)
    assert not [sql for sql in queries if "COUNT(" in sql]
    assert len(queries) <= MOST_QUERIES


@pytest.mark.parametrize("model", ["subscriber", "subscription", "membership", "consentrecord"])
def test_the_page_of_a_row_takes_few_queries(admin_client: Client, newsletter: Newsletter, model: str) -> None:
    models: dict[str, Any] = {
        "subscriber": Subscriber,
        "subscription": Subscription,
        "membership": Membership,
        "consentrecord": ConsentRecord,
    }
    url = reverse(f"admin:subscribers_{model}_change", args=[models[model].objects.order_by("pk").last().pk])
    assert len(queries_of(admin_client, url)) <= MOST_QUERIES


@pytest.mark.parametrize(
    "query", [{"hook__id__exact": "{pk}"}, {"hook__id__exact": "{pk}", "status__exact": "waiting"}]
)
def test_the_log_of_a_webhook_is_not_counted(
    admin_client: Client, newsletter: Newsletter, query: dict[str, str]
) -> None:
    call = Call.objects.order_by("pk")[0]
    filled = {name: value.format(pk=call.hook_id) for name, value in query.items()}
    queries = queries_of(admin_client, list_of("call"), filled)
    assert not [sql for sql in queries if "COUNT(" in sql]
    for name, pk in (("call", call.pk), ("hook", call.hook_id)):
        assert len(queries_of(admin_client, reverse(f"admin:newsletter_{name}_change", args=[pk]))) <= MOST_QUERIES


@pytest.mark.parametrize(
    "query",
    [{"newsletter__id__exact": "{pk}"}, {"verdict": "soft"}, {"reason": "FULL"}, {"verdict": "hard", "reason": "FULL"}],
)
def test_the_list_of_bounces_is_not_counted_when_it_is_filtered(
    admin_client: Client, newsletter: Newsletter, query: dict[str, str]
) -> None:
    filled = {name: value.format(pk=newsletter.pk) for name, value in query.items()}
    queries = queries_of(admin_client, list_of("bounce"), filled)
    assert not [sql for sql in queries if "COUNT(" in sql]
    assert len(queries) <= MOST_QUERIES


def test_pages_that_show_what_came_back_take_few_queries(admin_client: Client, newsletter: Newsletter) -> None:
    dispatch = make_dispatch(newsletter)
    for delivery, verdict in zip(dispatch.deliveries.all(), itertools.cycle(["hard", "soft", "block"]), strict=False):
        write(Event.Kind.BOUNCE, put(delivery, status=Delivery.Status.SENT), verdict=verdict)
    person = Event.objects.order_by("pk")[0].subscriber_id
    for name, pk in (("newsletter_dispatch", dispatch.pk), ("subscribers_subscriber", person)):
        assert len(queries_of(admin_client, reverse(f"admin:{name}_change", args=[pk]))) <= MOST_QUERIES


def test_no_page_takes_more_queries_the_more_stands_on_it(admin_client: Client) -> None:
    newsletter = make_site()
    admin_client.get(reverse("admin:index"))  # what is asked once in the life of a process
    before = numbers_of_queries(admin_client, paths())
    assert {path: number for path, number in before.items() if number > MOST_QUERIES} == {}
    for _ in range(3):
        add_to(newsletter)
    after = numbers_of_queries(admin_client, before)
    assert {path: number for path, number in after.items() if number > before[path]} == {}


def numbers_of_queries(browser: Client, urls: Iterable[str]) -> dict[str, int]:
    """How many statements each of these takes, of those that answer."""
    found = {}
    for url in urls:
        cache.clear()  # what is counted at most once a second
        with CaptureQueriesContext(connection) as captured:
            answer = browser.get(url)
        if answer.status_code == 200:
            found[url] = len(captured)
    return found


def test_a_form_offers_no_list_of_all_people(admin_client: Client, newsletter: Newsletter) -> None:
    text = admin_client.get(reverse("admin:subscribers_membership_add")).text
    assert text.count("<option") < len(Membership.Kind) + 6  # kinds, tiers and their blanks


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("newsletters", [1, 5])
def test_the_first_page_takes_few_queries_however_many_newsletters(
    admin_client: Client, newsletter: Newsletter, newsletters: int, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:  # the limits from which on nothing is counted
        monkeypatch.setattr(counting, "CHEAP", 0)
        monkeypatch.setattr(counting, "FARTHEST", 0)
    for number in range(1, newsletters):
        make_dispatch(make_newsletter(slug=f"number-{number}", name=f"Number {number}"), readers=1)
    for delivery in Delivery.objects.all():
        write(Event.Kind.BOUNCE, put(delivery, status=Delivery.Status.SENT), verdict="block")
    Dispatch.objects.filter(snapshot_at__isnull=False).update(status="sent")
    assert len(queries_of(admin_client, reverse("admin:index"))) <= MOST_QUERIES


def test_the_number_of_queries_does_not_grow_with_the_rows(admin_client: Client) -> None:
    newsletter = make_newsletter()
    numbers = []
    for _ in range(2):
        for _ in range(5):
            make_reader(newsletter, tier="paid")
        numbers.append({model: len(queries_of(admin_client, list_of(model))) for model in LARGE})
    assert numbers[0] == numbers[1]


def walk(browser: Client, url: str, query: str, step: Callable[[Any], str]) -> list[list[int]]:
    """The primary keys of page after page from `query` on, as long as `step` (given a change list) leads on."""
    pages: list[list[int]] = []
    while query and len(pages) < 10:
        found = browser.get(url + query).context["cl"]
        pages.append([row.pk for row in found.result_list])
        query = step(found)
    return pages


@pytest.mark.parametrize("query", ["?", "?status__exact=active"])
def test_turning_pages_shows_every_row_once_and_back_again(
    admin_client: Client, newsletter: Newsletter, query: str
) -> None:
    url = list_of("subscription")
    everybody = list(Subscription.objects.order_by("-pk").values_list("pk", flat=True))
    onwards = walk(admin_client, url, query, lambda page: page.older)
    assert [pk for page in onwards for pk in page] == everybody
    assert [len(page) for page in onwards] == [PAGE, PAGE, len(everybody) - 2 * PAGE]
    last = admin_client.get(f"{url}{query}&older={onwards[1][-1]}").context["cl"]
    assert walk(admin_client, url, last.newer, lambda page: page.newer) == [onwards[1], onwards[0]]


def test_a_list_does_not_pass_a_page_off_as_everything(admin_client: Client, newsletter: Newsletter) -> None:
    text = admin_client.get(list_of("subscriber")).text
    assert f"{Subscriber.objects.count()} in all" in text
    assert f"{PAGE} results" not in text


def test_a_list_keeps_its_filter_while_pages_turn(admin_client: Client, newsletter: Newsletter) -> None:
    reader = Subscription.objects.order_by("pk")[3]
    consent.pause(reader, source="test")
    older = admin_client.get(list_of("subscription"), {"status__exact": "active"}).context["cl"].older
    assert "status__exact=active" in older


@pytest.mark.parametrize("word", ["", "x", "-1", "9" * 30, "1 OR 1"])
def test_a_page_that_begins_nowhere_is_the_first(admin_client: Client, newsletter: Newsletter, word: str) -> None:
    shown = admin_client.get(list_of("subscriber"), {"older": word}).context["cl"].result_list
    assert [row.pk for row in shown] == list(Subscriber.objects.order_by("-pk").values_list("pk", flat=True)[:PAGE])


def test_autocompletion_looks_at_a_bounded_number_of_people(admin_client: Client) -> None:
    make_subscriber("vera@readers.example", name="Vera")
    query = {"app_label": "subscribers", "model_name": "membership", "field_name": "subscriber", "term": "Ver"}
    queries = queries_of(admin_client, reverse("admin:autocomplete"), query)
    assert all("LIMIT" in sql for sql in queries if "subscribers_subscriber" in sql)
    assert admin_client.get(reverse("admin:autocomplete"), query).json()["results"][0]["text"] == "Vera"


def test_a_count_is_exact_for_a_small_site() -> None:
    for _ in range(3):
        make_subscriber()
    assert str(counting.about(Subscriber.objects.all())) == "3"


def test_a_count_that_would_be_dear_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "FARTHEST", 2)
    monkeypatch.setattr(counting, "CHEAP", 0)
    for _ in range(5):
        make_subscriber()
    found = counting.about(Subscriber.objects.all())
    if connection.vendor == "postgresql":
        assert found.estimated
        assert str(found).startswith("about ")
    else:
        assert str(found) == "more than 2"


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (counting.Count(1234), "1,234"),
        (counting.Count(998_731, estimated=True), "about 999,000"),
        (counting.Count(10_000, bounded=True), "more than 10,000"),
    ],
)
def test_a_count_says_how_much_it_knows(count: counting.Count, words: str) -> None:
    assert str(count) == words
