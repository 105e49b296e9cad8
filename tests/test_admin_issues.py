"""The author's desk: write, import, look, schedule; who may do what; nobody's work is overwritten."""

from __future__ import annotations

import base64
import datetime as dt
import re
import zlib
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from newsletter import intake, outlook, proofs, roles, scheduling
from newsletter.admin.issues import listing, sending
from newsletter.content import Profile
from newsletter.models import Attempt, Batch, Delivery, Dispatch, Event, Issue, Newsletter, Section
from subscribers import tiers
from subscribers.models import Suppression, Tier
from tests.making import make_dispatch, make_issue, make_newsletter, make_reader, make_subscriber
from tests.smtp_sink import SmtpSink

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_counted_before() -> None:
    """Counts are kept for a second, and ids come again in each test."""
    cache.clear()


LIST = "/admin/newsletter/issue/"
IMPORT = "/admin/newsletter/issue/import/"
LOOM = Path(__file__).parent / "fixtures" / "issues" / "loom-weekly-11.txt"
SECRET = "Nobody but payers reads of quinces."


def signed_in(role: str) -> Client:
    """A browser in which somebody of that role is signed in."""
    roles.ensure()
    user = User.objects.create_user(role, email=f"{role}@desk.example", is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


def page_of(issue: Issue, name: str = "change") -> str:
    return f"/admin/newsletter/issue/{issue.pk}/{name}/"


def text(response: Any) -> str:
    return unescape(response.content.decode())


def fields_of(client: Client, issue: Issue) -> dict[str, str]:
    """What the form of `issue` would post if nothing were changed."""
    response: Any = client.get(page_of(issue))
    forms = [response.context["adminform"].form]
    posted: dict[str, str] = {}
    for inline in response.context["inline_admin_formsets"]:
        forms += [inline.formset.management_form, *inline.formset.forms]
    for form in forms:
        for field in form:
            value = field.value()
            posted[field.html_name] = "" if value is None or value is False else str(value)
    return posted


def order(issue: Issue) -> list[str]:
    return [section.heading for section in Section.objects.filter(issue=issue).order_by("position")]


def make_sections(issue: Issue, *headings: str) -> None:
    issue.sections.all().delete()
    for position, heading in enumerate(headings):
        Section.objects.create(issue=issue, position=position, heading=heading, body="Words.")


class TestWriting:
    def test_a_new_issue_gets_the_next_number_and_a_section_to_begin_with(self) -> None:
        newsletter = make_newsletter()
        make_issue(newsletter, number=41)
        client = signed_in("author")
        form: Any = client.get(f"{LIST}add/")
        assert form.context["adminform"].form.initial["number"] == 42
        client.post(f"{LIST}add/", {"newsletter": newsletter.pk, "title": "Forty-two", "number": 42})
        issue = Issue.objects.get(number=42)
        assert issue.subject == "Forty-two"
        assert order(issue) == [""]

    @pytest.mark.parametrize(
        ("places", "expected"),
        [
            ({0: 3}, ["B", "C", "A"]),
            ({2: 1}, ["C", "A", "B"]),
            ({0: 2, 1: 3, 2: 1}, ["C", "A", "B"]),
            ({0: 99}, ["B", "C", "A"]),
            ({1: ""}, ["A", "B", "C"]),
        ],
    )
    def test_sections_take_the_places_they_are_given(self, places: dict[int, Any], expected: list[str]) -> None:
        issue = make_issue(make_newsletter())
        make_sections(issue, "A", "B", "C")
        client = signed_in("author")
        moved = {f"sections-{index}-position": place for index, place in places.items()}
        assert client.post(page_of(issue), fields_of(client, issue) | moved).status_code == 302
        assert order(issue) == expected
        assert list(issue.sections.values_list("position", flat=True)) == [0, 1, 2]

    def test_a_new_section_without_a_place_comes_last(self) -> None:
        issue = make_issue(make_newsletter())
        make_sections(issue, "A", "B")
        client = signed_in("author")
        new = {"heading": "C", "body": "More.", "audience": "everyone", "when_locked": "hide", "issue": issue.pk}
        posted = fields_of(client, issue) | {f"sections-2-{name}": value for name, value in new.items()}
        assert client.post(page_of(issue), posted | {"sections-TOTAL_FORMS": "3"}).status_code == 302
        assert order(issue) == ["A", "B", "C"]

    def test_a_deleted_section_leaves_no_gap(self) -> None:
        issue = make_issue(make_newsletter())
        make_sections(issue, "A", "B", "C")
        client = signed_in("author")
        client.post(page_of(issue), fields_of(client, issue) | {"sections-0-DELETE": "on"})
        assert order(issue) == ["B", "C"]
        assert list(issue.sections.values_list("position", flat=True)) == [0, 1]

    def test_an_audience_that_names_a_tier_needs_one(self) -> None:
        issue = make_issue(make_newsletter())
        client = signed_in("author")
        posted = fields_of(client, issue) | {"sections-1-audience": "from_tier", "sections-1-tier": ""}
        assert "Choose the tier" in text(client.post(page_of(issue), posted))

    def test_nobody_is_below_the_free_tier(self) -> None:
        tiers.ensure_default()
        issue = make_issue(make_newsletter())
        client = signed_in("author")
        free = Tier.objects.get(level=0)
        posted = fields_of(client, issue) | {"sections-1-audience": "below_tier", "sections-1-tier": str(free.pk)}
        assert "Nobody is below" in text(client.post(page_of(issue), posted))

    def test_a_section_for_everyone_forgets_its_tier(self) -> None:
        issue = make_issue(make_newsletter(), paid=SECRET)
        client = signed_in("author")
        client.post(page_of(issue), fields_of(client, issue) | {"sections-2-audience": "everyone"})
        section = Section.objects.get(issue=issue, position=2)
        assert (section.audience, section.tier) == ("everyone", None)


class TestTwoAtOnce:
    def test_who_saves_second_is_told_and_overwrites_nothing(self) -> None:
        issue = make_issue(make_newsletter())
        client = signed_in("author")
        first, second = fields_of(client, issue), fields_of(client, issue)
        assert client.post(page_of(issue), first | {"title": "Hers"}).status_code == 302
        answer = client.post(page_of(issue), second | {"title": "His", "sections-0-body": "His words."})
        assert "Somebody saved this issue" in text(answer)
        assert "His words." in text(answer)
        issue.refresh_from_db()
        assert issue.title == "Hers"

    def test_who_saves_second_learns_where_the_two_differ_and_finds_the_saved_version(self) -> None:
        issue = make_issue(make_newsletter())
        make_sections(issue, "", "News", "Papers")
        issue.sections.update(body="One.\n\nTwo.")
        client = signed_in("author")
        first, second = fields_of(client, issue), fields_of(client, issue)
        client.post(page_of(issue), first | {"title": "Hers", "sections-1-body": "Her words."})
        as_a_browser_posts = {name: value.replace("\n", "\r\n") for name, value in second.items()}
        shown = text(client.post(page_of(issue), as_a_browser_posts | {"preheader": "His line."}))
        assert "Theirs and yours differ in: title, preview line." in shown
        assert "Theirs and yours differ in the sections: “News”." in shown
        assert f'<a href="{page_of(issue)}" target="_blank"' in shown
        assert "His line." in shown

    def test_a_section_that_only_the_saved_version_has_is_named(self) -> None:
        issue = make_issue(make_newsletter())
        client = signed_in("author")
        posted = fields_of(client, issue)
        Section.objects.create(issue=issue, heading="Brought in by her", position=9)
        issue.save()
        assert "differ in the sections: “Brought in by her”." in text(client.post(page_of(issue), posted))

    def test_a_change_of_a_section_alone_counts_as_one(self) -> None:
        issue = make_issue(make_newsletter())
        client = signed_in("author")
        first, second = fields_of(client, issue), fields_of(client, issue)
        client.post(page_of(issue), first | {"sections-0-body": "Her words."})
        assert "Somebody saved this issue" in text(client.post(page_of(issue), second))

    def test_what_was_scheduled_meanwhile_is_not_changed(self) -> None:
        issue = make_issue(make_newsletter())
        client = signed_in("author")
        posted = fields_of(client, issue)
        scheduling.schedule(issue)
        answer = client.post(page_of(issue), posted | {"title": "Too late"})
        assert "unschedule it first" in text(answer)
        assert "Too late" in text(answer)
        issue.refresh_from_db()
        assert issue.title != "Too late"

    def test_a_scheduled_issue_is_only_read(self) -> None:
        issue = make_issue(make_newsletter())
        scheduling.schedule(issue)
        shown = text(signed_in("editor").get(page_of(issue)))
        assert 'name="title"' not in shown
        assert "unschedule it first" in shown


class TestList:
    def test_says_where_each_issue_stands(self) -> None:
        newsletter = make_newsletter(time_zone="Europe/Lisbon")
        make_issue(newsletter, title="Idle")
        scheduling.schedule(make_issue(newsletter, title="Soon"), dt.datetime(2099, 1, 2, 8, 0))
        make_dispatch(newsletter, readers=3, title="Going")
        shown = text(signed_in("analyst").get(LIST))
        assert [found.strip() for found in re.findall(r'desk-badge"[^>]*>([^<]+)<', shown)] == [
            "sending 0 %",
            "scheduled for Fri 2 Jan 2099, 08:00 WET",
            "draft",
        ]

    @pytest.mark.parametrize(("state", "title"), [("draft", "Idle"), ("scheduled", "Soon"), ("sending", "Going")])
    def test_is_narrowed_by_state(self, state: str, title: str) -> None:
        newsletter = make_newsletter()
        make_issue(newsletter, title="Idle")
        scheduling.schedule(make_issue(newsletter, title="Soon"), dt.datetime(2099, 1, 2, 8, 0))
        make_dispatch(newsletter, readers=1, title="Going")
        response: Any = signed_in("analyst").get(LIST, {"state": state})
        assert [issue.title for issue in response.context["cl"].result_list] == [title]

    @pytest.mark.parametrize("query", ["quince", "77"])
    def test_finds_by_title_and_by_number(self, query: str) -> None:
        newsletter = make_newsletter()
        make_issue(newsletter, title="Of quinces", number=77)
        make_issue(newsletter, title="Of figs", number=78)
        response: Any = signed_in("analyst").get(LIST, {"q": query})
        assert [issue.title for issue in response.context["cl"].result_list] == ["Of quinces"]

    def test_asks_as_few_questions_for_many_issues_as_for_one(self) -> None:
        newsletter = make_newsletter()
        client = signed_in("editor")

        def queries() -> int:
            with CaptureQueriesContext(connection) as captured:
                client.get(LIST)
            return len(captured)

        make_dispatch(newsletter, readers=1)
        few = queries()
        for _ in range(5):
            scheduling.schedule(make_issue(newsletter), dt.datetime(2099, 1, 2))
        assert queries() == few <= 12

    def test_invites_to_begin_where_there_is_nothing(self) -> None:
        assert "No issue yet" in text(signed_in("author").get(LIST))


class TestPreview:
    @pytest.mark.parametrize(("tier", "sees"), [("0", False), ("1", True), ("nonsense", False), ("99999999", False)])
    def test_shows_each_tier_what_it_will_get(self, tier: str, sees: bool) -> None:
        issue = make_issue(make_newsletter(), paid=SECRET)
        client = signed_in("author")
        for part in ("html", "text"):
            shown = text(client.get(page_of(issue, "frame"), {"tier": tier, "part": part}))
            assert (SECRET in shown) is sees

    def test_is_framed_by_the_admin_alone_and_runs_nothing(self) -> None:
        response = signed_in("author").get(page_of(make_issue(make_newsletter()), "frame"))
        policy = response["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        assert "frame-ancestors 'self'" in policy
        assert response["X-Frame-Options"] == "SAMEORIGIN"

    def test_is_not_tracked(self) -> None:
        response = signed_in("author").get(page_of(make_issue(make_newsletter()), "frame"))
        assert "https://example.com/a?b=c#d" in text(response)
        assert not re.search(r"/[oc]/[\w-]{20}", text(response))

    def test_follows_the_chosen_light(self) -> None:
        client, issue = signed_in("author"), make_issue(make_newsletter())
        light = text(client.get(page_of(issue, "frame"), {"scheme": "light"}))
        dark = text(client.get(page_of(issue, "frame"), {"scheme": "dark"}))
        assert "prefers-color-scheme" not in light + dark
        assert light != dark

    def test_lists_who_would_get_what(self) -> None:
        newsletter = make_newsletter()
        issue = make_issue(newsletter, paid=SECRET)
        for tier in ("", "", "", "paid", "founding"):
            make_reader(newsletter, tier=tier)
        make_reader(newsletter, status="unsubscribed")
        shown: Any = signed_in("author").get(page_of(issue, "forms"))
        assert [(form.name, form.readers) for form in shown.context["forms"]] == [("Free", 3), ("Paid and Founding", 2)]
        assert shown.context["forms"][0].section_names == ("Lead", "News", "For members (only the heading)")

    def test_a_large_audience_is_drawn_from_and_not_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        newsletter = make_newsletter()
        for _ in range(6):
            make_reader(newsletter)
        monkeypatch.setattr(outlook, "SAMPLE", 4)
        seen = outlook.of(newsletter)
        assert (sum(group.readers for group in seen.groups), seen.whole, seen.active.number) == (4, False, 6)

    def test_names_the_section_that_cannot_be_sent(self) -> None:
        issue = make_issue(make_newsletter())
        Section.objects.filter(issue=issue, position=1).update(body="{{ nome }}")
        shown = text(signed_in("author").get(page_of(issue)))
        assert "It cannot go out yet." in shown
        assert "Section “News”: {{ nome }} is not a merge field" in shown

    def test_warns_of_a_section_whose_tier_is_gone(self) -> None:
        issue = make_issue(make_newsletter(), paid=SECRET)
        Section.objects.filter(issue=issue).update(tier=None)
        assert "nobody sees it" in text(signed_in("author").get(page_of(issue)))


def found(client: Client, newsletter: Any, data: bytes, name: str = "loom.txt") -> Any:
    return client.post(IMPORT, {"newsletter": newsletter.pk, "file": SimpleUploadedFile(name, data)})


def choices_of(response: Any) -> dict[str, str]:
    """What the second step would post if nothing were chosen."""
    form = response.context_data["form"]
    posted = {name: str(form[name].value() or "") for name in ("newsletter", "packed", "filename", "seen")}
    return posted | {"step": "found"} | {section.field: section.chosen for section in response.context_data["sections"]}


class TestImport:
    def test_shows_what_it_found_and_saves_nothing(self) -> None:
        tiers.ensure_default()
        newsletter = make_newsletter()
        response = found(signed_in("author"), newsletter, LOOM.read_bytes())
        assert response.context["is_new"]
        assert response.context["parsed"].number == 11
        assert len(response.context_data["sections"]) > 3
        assert all(section.words for section in response.context_data["sections"])
        assert "srcdoc=" in text(response)
        assert not Issue.objects.exists()
        assert not newsletter.standing_sections.exists()

    def test_saves_what_was_found_with_the_audiences_that_were_chosen(self) -> None:
        tiers.ensure_default()
        newsletter = make_newsletter()
        client = signed_in("author")
        posted = choices_of(found(client, newsletter, LOOM.read_bytes()))
        paid = Tier.objects.get(slug="paid")
        posted |= {"audience-1": f"{paid.pk}:tease", "audience-2": f"{paid.pk}:below", "keep_headings": "on"}
        answer = client.post(IMPORT, posted)
        issue = Issue.objects.get()
        assert answer["Location"] == page_of(issue)
        chosen: list[tuple[Any, ...]] = list(issue.sections.values_list("audience", "tier", "when_locked"))
        assert chosen[0] == ("everyone", None, "hide")
        assert chosen[1:3] == [("from_tier", paid.pk, "tease"), ("below_tier", paid.pk, "hide")]
        assert newsletter.standing_sections.count() == len(chosen) - 1

    def test_pasted_text_will_do(self) -> None:
        newsletter = make_newsletter()
        client = signed_in("author")
        first = client.post(IMPORT, {"newsletter": newsletter.pk, "text": "# Figs\n\nHello.\n\n## News\n\nRipe."})
        client.post(IMPORT, choices_of(first))
        assert order(Issue.objects.get(title="Figs")) == ["", "News"]

    def test_the_same_issue_again_updates_its_draft_and_keeps_who_sees_what(self) -> None:
        tiers.ensure_default()
        newsletter = make_newsletter()
        client = signed_in("author")
        paid = Tier.objects.get(slug="paid")
        posted = choices_of(found(client, newsletter, LOOM.read_bytes())) | {"audience-1": f"{paid.pk}:hide"}
        client.post(IMPORT, posted)
        again = found(client, newsletter, LOOM.read_bytes())
        assert not again.context["is_new"]
        assert again.context_data["sections"][1].chosen == f"{paid.pk}:hide"
        client.post(IMPORT, choices_of(again))
        assert Issue.objects.get().sections.get(position=1).tier == paid

    def test_a_draft_that_was_changed_meanwhile_is_shown_again_first(self) -> None:
        newsletter = make_newsletter()
        client = signed_in("author")
        client.post(IMPORT, choices_of(found(client, newsletter, LOOM.read_bytes())))
        posted = choices_of(found(client, newsletter, LOOM.read_bytes()))
        issue = Issue.objects.get()
        issue.title = "Changed by hand"
        issue.save()
        answer = client.post(IMPORT, posted)
        assert "Somebody changed the issue meanwhile" in text(answer)
        assert Issue.objects.get().title == "Changed by hand"

    def test_a_sent_issue_is_never_changed(self) -> None:
        newsletter = make_newsletter()
        make_dispatch(newsletter, readers=1, number=11, title="Gone")
        answer = found(signed_in("author"), newsletter, LOOM.read_bytes())
        assert "can no longer be changed" in text(answer)

    @pytest.mark.parametrize(
        ("data", "said"),
        [(b"", "empty"), (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), ""), (b"a" * (1024 * 1024 + 1), "at most 1 MB")],
    )
    def test_a_file_that_is_no_issue_is_refused_in_a_sentence(self, data: bytes, said: str) -> None:
        newsletter = make_newsletter()
        answer = found(signed_in("author"), newsletter, data)
        assert "errorlist" in text(answer)
        assert said in text(answer)
        assert not Issue.objects.exists()

    def test_text_that_was_lost_or_blown_up_on_the_way_is_refused(self) -> None:
        newsletter = make_newsletter()
        client = signed_in("author")
        posted = choices_of(found(client, newsletter, LOOM.read_bytes()))
        bomb = base64.b64encode(zlib.compress(b"a" * 50_000_000, 9)).decode()
        for packed in ("%%%", base64.b64encode(b"no zip").decode(), bomb):
            assert client.post(IMPORT, posted | {"packed": packed})["Location"] == IMPORT
        assert not Issue.objects.exists()


def test_a_number_that_is_taken_is_refused_in_plain_words() -> None:
    issue = make_issue(make_newsletter(), number=7)
    answer = signed_in("author").post(LIST + "add/", {"newsletter": issue.newsletter.pk, "title": "Again", "number": 7})
    assert "Another issue of this newsletter has that number." in text(answer)
    assert Issue.objects.count() == 1


def next_clocks_back() -> dt.date:
    """The next day on which New York puts its clocks back: the first Sunday of a November."""
    today = dt.datetime.now(dt.UTC).date()
    firsts = [dt.date(year, 11, 1) for year in (today.year, today.year + 1)]
    sundays = [first + dt.timedelta(days=6 - first.weekday()) for first in firsts]
    return next(sunday for sunday in sundays if sunday > today)


class TestSending:
    def test_a_time_is_read_off_the_newsletters_clock_and_shown_before_it_counts(self) -> None:
        issue = make_issue(make_newsletter(time_zone="America/New_York"))
        client = signed_in("editor")
        day = dt.date(dt.date.today().year + 1, 7, 1)
        shown = text(client.get(page_of(issue, "send"), {"day": f"{day}", "time": "08:00"}))
        assert f"It goes out on {day:%a} 1 Jul {day.year}, 08:00 EDT" in shown
        assert f"1 Jul {day.year}, 12:00 UTC" in shown
        assert not Dispatch.objects.exists()
        client.post(page_of(issue, "send"), {"do": "schedule", "day": f"{day}", "time": "08:00"})
        assert Dispatch.objects.get().due_at == dt.datetime(day.year, 7, 1, 12, tzinfo=dt.UTC)

    def test_says_what_the_clocks_skip_and_what_they_show_twice(self) -> None:
        skipped = sending.moment(dt.datetime(2027, 3, 14, 2, 30), "America/New_York")
        assert "skip 02:30" in skipped.notes[0]
        assert (skipped.words, skipped.twice) == ("Sun 14 Mar 2027, 03:30 EDT", False)
        twice = sending.moment(dt.datetime(2027, 11, 7, 1, 30), "America/New_York")
        assert twice.twice
        assert "twice" in twice.notes[0]
        assert sending.moment(dt.datetime(2027, 6, 1, 8), "America/New_York").notes == ()

    def test_the_second_of_two_can_be_meant(self) -> None:
        issue = make_issue(make_newsletter(time_zone="America/New_York"))
        day = next_clocks_back()
        posted = {"do": "schedule", "day": f"{day}", "time": "01:30", "second": "on"}
        signed_in("editor").post(page_of(issue, "send"), posted)
        assert Dispatch.objects.get().due_at == dt.datetime.combine(day, dt.time(6, 30), dt.UTC)

    @pytest.mark.parametrize(
        ("day", "said"),
        [
            ("0001-01-01", "This day has passed."),
            ("2020-01-01", "This day has passed."),
            ("2206-01-01", "This day is more than two years ahead."),
            ("9999-12-31", "This day is more than two years ahead."),
        ],
    )
    def test_a_day_that_cannot_be_meant_is_refused_at_the_field_and_offers_nothing_to_confirm(
        self, day: str, said: str
    ) -> None:
        issue = make_issue(make_newsletter(time_zone="America/New_York"))
        client = signed_in("editor")
        asked = {"day": day, "time": "23:00"}
        for answer in (
            client.get(page_of(issue, "send"), asked),
            client.post(page_of(issue, "send"), asked | {"do": "schedule"}),
        ):
            assert said in text(answer)
            assert 'aria-invalid="true"' in text(answer)
            assert "Schedule it" not in text(answer)
        assert not Dispatch.objects.exists()

    def test_a_time_of_today_that_has_passed_is_refused_at_the_field(self) -> None:
        zone = "UTC" if dt.datetime.now(dt.UTC).hour else "Pacific/Kiritimati"
        here = scheduling.wall_time_in(dt.datetime.now(dt.UTC), zone)
        issue = make_issue(make_newsletter(time_zone=zone))
        asked = {"day": f"{here.date()}", "time": "00:00"}
        shown = text(signed_in("editor").get(page_of(issue, "send"), asked))
        assert "This time has passed" in shown
        assert "Schedule it" not in shown

    def test_send_now_leaves_time_to_undo(self) -> None:
        issue = make_issue(make_newsletter())
        client = signed_in("editor")
        answer = client.post(page_of(issue, "send"), {"do": "now"}, follow=True)
        dispatch = Dispatch.objects.get()
        assert dispatch.due_at is not None
        left = dispatch.due_at - dt.datetime.now(dt.UTC)
        assert dt.timedelta(seconds=5) < left <= scheduling.UNDO_WINDOW
        assert "Undo" in text(answer)
        client.post(f"/admin/newsletter/dispatch/{dispatch.pk}/unschedule/")
        dispatch.refresh_from_db()
        assert dispatch.status == Dispatch.Status.DRAFT

    def test_a_second_press_does_nothing(self) -> None:
        issue = make_issue(make_newsletter())
        client = signed_in("editor")
        client.post(page_of(issue, "send"), {"do": "now"})
        assert "is scheduled" in text(client.post(page_of(issue, "send"), {"do": "now"}, follow=True))
        assert Dispatch.objects.count() == 1


class TestProof:
    def send(self, issue: Issue, sink: SmtpSink, monkeypatch: pytest.MonkeyPatch, **posted: Any) -> Any:
        monkeypatch.setattr("newsletter.transports.ENV", _with_relay(sink))
        asked = {"do": "test", "address": "me@desk.example", "tier": "0", **posted}
        return signed_in("editor").post(page_of(issue, "send"), asked, follow=True)

    def test_is_the_mail_of_that_tier_marked_and_untracked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        newsletter = make_newsletter()
        issue = make_issue(newsletter, paid=SECRET)
        with SmtpSink() as sink:
            answer = self.send(issue, sink, monkeypatch, tier="1")
            assert "is on its way to me@desk.example" in text(answer)
            mail = sink.messages("me@desk.example")[0].parsed()
        assert mail["Subject"].startswith("[Test] ")
        html = mail.get_body(("html",))
        assert html is not None
        assert SECRET in html.get_content()
        assert "https://example.com/a?b=c#d" in unescape(html.get_content())
        assert "/c/" not in html.get_content()
        assert mail["List-Unsubscribe"] is None
        assert not Dispatch.objects.exists()

    def test_opened_and_followed_by_its_author_counts_nowhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        newsletter = make_newsletter()
        assert newsletter.tracking == Newsletter.Tracking.INDIVIDUAL
        with SmtpSink() as sink:
            self.send(make_issue(newsletter, paid=SECRET), sink, monkeypatch, tier="1")
            parts = [part.get_content() for part in sink.messages()[0].parsed().walk() if not part.is_multipart()]
        assert len(parts) == 2
        for site, path in re.findall(r"(https?://[\w.:-]+)(/[\w./?=&-]*)", " ".join(map(unescape, parts))):
            assert not re.match("/[oc]/", path)
            if site == settings.SITE_URL:
                Client().get(path)
        assert intake.waiting() == {}
        assert not Event.objects.exists()

    def test_of_a_lower_tier_holds_nothing_of_the_paid_section(self, monkeypatch: pytest.MonkeyPatch) -> None:
        issue = make_issue(make_newsletter(), paid=SECRET)
        with SmtpSink() as sink:
            self.send(issue, sink, monkeypatch)
            assert SECRET not in sink.messages()[0].parsed().as_string()

    def test_is_not_sent_to_an_address_that_must_not_be_written_to(self, monkeypatch: pytest.MonkeyPatch) -> None:
        issue = make_issue(make_newsletter())
        gone = make_subscriber("me@desk.example")
        Suppression.objects.create(fingerprint=gone.fingerprint, reason=Suppression.Reason.COMPLAINT)
        with SmtpSink() as sink:
            assert "must not be written to" in text(self.send(issue, sink, monkeypatch))
            assert sink.count() == 0

    def test_is_not_sent_while_the_site_is_halted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        issue = make_issue(make_newsletter())
        scheduling.halt("The relay was sold.")
        with SmtpSink() as sink:
            assert "All sending is halted: The relay was sold (since " in text(self.send(issue, sink, monkeypatch))
            assert sink.count() == 0

    def test_says_what_the_relay_answered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        issue = make_issue(make_newsletter())
        with SmtpSink() as sink:
            outcome = self.send(issue, sink, monkeypatch, address="refuse550-me@desk.example")
        assert "was not sent. The mail server said: 550" in text(outcome)

    def test_is_refused_for_what_is_no_address(self) -> None:
        with pytest.raises(proofs.ProofRefused, match="is not an e-mail address"):
            proofs.send(make_issue(make_newsletter()), "nobody", Profile())


def _with_relay(sink: SmtpSink) -> Any:
    from newsletter.settings import ENV

    return ENV.model_copy(update={"smtp_url": sink.url})


class TestRoles:
    @pytest.mark.parametrize(
        ("role", "allowed"),
        [
            ("author", {"look", "change", "import", "add"}),
            ("editor", {"look", "change", "import", "add", "send"}),
            ("analyst", {"look"}),
        ],
    )
    def test_each_may_do_what_its_role_says(self, role: str, allowed: set[str]) -> None:
        issue = make_issue(make_newsletter())
        client = signed_in(role)
        asked = {
            "look": [client.get(page_of(issue, name)) for name in ("change", "frame", "preview", "forms")],
            "change": [client.post(page_of(issue), {"title": ""})],
            "import": [client.get(IMPORT), client.post(IMPORT, {})],
            "add": [client.get(f"{LIST}add/")],
            "send": [client.get(page_of(issue, "send")), client.post(page_of(issue, "send"), {"do": "schedule"})],
        }
        for name, answers in asked.items():
            statuses = {answer.status_code for answer in answers}
            assert statuses == ({200} if name in allowed else {403}), name

    @pytest.mark.parametrize("role", ["author", "analyst"])
    def test_no_button_leads_to_a_refusal(self, role: str) -> None:
        issue = make_issue(make_newsletter())
        shown = text(signed_in(role).get(page_of(issue)))
        assert "Schedule or send" not in shown

    def test_who_is_not_signed_in_sees_nothing(self) -> None:
        issue = make_issue(make_newsletter())
        for name in ("change", "frame", "preview", "forms", "send"):
            assert "/admin/login/" in Client().get(page_of(issue, name))["Location"]
        assert "/admin/login/" in Client().get(IMPORT)["Location"]

    def test_what_was_scheduled_once_is_never_deleted(self) -> None:
        issue = make_issue(make_newsletter())
        client = signed_in("editor")
        assert client.get(page_of(issue, "delete")).status_code == 200
        scheduling.unschedule(scheduling.schedule(issue))
        assert client.post(page_of(issue, "delete"), {"post": "yes"}).status_code == 403
        assert Issue.objects.filter(pk=issue.pk).exists()

    def test_looking_changes_nothing(self) -> None:
        issue = make_issue(make_newsletter())
        client = signed_in("editor")
        assert client.get(page_of(issue, "send"), {"do": "now"}).status_code == 200
        assert not Dispatch.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("counted", [50_000, 1])
def test_how_much_is_through_is_known_of_small_and_large_sends(monkeypatch: pytest.MonkeyPatch, counted: int) -> None:
    monkeypatch.setattr(listing, "COUNTED", counted)
    dispatch = make_dispatch(make_newsletter(slug="through"), readers=4)
    assert listing.percent_done([dispatch]) == {dispatch.pk: 0}
    first = dispatch.deliveries.order_by("pk")[:1].values("pk")
    Delivery.objects.filter(pk__in=first).update(status="sent", tries=1)
    batch = Batch.objects.get(dispatch=dispatch)
    Attempt.objects.create(batch=batch, worker="w", transport="smtp", idempotency_key="1" * 32, accepted=1)
    assert listing.percent_done([dispatch]) == {dispatch.pk: 25}
