"""An imported issue becomes a draft: the same one for the same file, and never one that readers may have."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from newsletter import importing, scheduling, wording
from newsletter.authoring import MAX_BYTES, ImportRefused
from newsletter.models import Dispatch, Issue, Newsletter, Section, StandingSection
from subscribers.models import Tier
from tests.making import make_newsletter

pytestmark = pytest.mark.django_db

ISSUE = """---
title: "The Weekly # 7"
date: 2026-03-05
---

Good morning, {{ name|default:"reader" }}.

## 🏆 Story of the Week: A Lighthouse Reopens

Two **quiet** words and [a link](https://example.com/long/address).

## 🤖 Models That Dropped

- One
- Two

## Quick Hits

Done.
"""

SAMPLE_SECTIONS = {
    "2024-01-03-this-week-in-rust.md": (
        528,
        [
            "",
            "Updates from Rust Community",
            "Crate of the Week",
            "Call for Participation; projects and speakers",
            "Updates from the Rust Project",
            "Upcoming Events",
            "Jobs",
            "Quote of the Week",
        ],
    ),
    "2026-08-19-this-week-in-rust.md": (
        665,
        [
            "",
            "Updates from Rust Community",
            "Crate of the Week",
            "Calls for Testing",
            "Call for Participation; projects and speakers",
            "Updates from the Rust Project",
            "Upcoming Events",
            "Jobs",
            "Quote of the Week",
        ],
    ),
    "mlwhiz-weekly-03.txt": (
        3,
        [
            "",
            "🏆 Story of the Week",
            "🤖 Models That Dropped This Week",
            "🧠 Papers That Matter",
            "📝 Some Good Reads",
            "💡 What This Week Was Really About",
            "⚡ Quick Hits",
        ],
    ),
    "mlwhiz-weekly-10.txt": (
        10,
        [
            "",
            "🏆 Story of the Week",
            "🤖 Models That Dropped This Week",
            "🧠 Papers That Matter",
            "📝 Some Good Reads",
            "⚡ Quick Hits",
        ],
    ),
}


def imported(newsletter: Newsletter, text: str = ISSUE, **options: Any) -> Issue:
    stored, _ = importing.import_issue(newsletter, text.encode(), filename="issue.md", **options)
    return Issue.objects.get(pk=stored.issue.pk)


def audiences(issue: Issue) -> list[tuple[str, int | None, str]]:
    return [(row.audience, row.tier.level if row.tier else None, row.when_locked) for row in issue.sections.all()]


EVERYONE = ("everyone", None, "hide")
PAID = ("from_tier", 1, "hide")


def make_tiers() -> None:
    Tier.objects.create(slug="free", name="Free", level=0)
    Tier.objects.create(slug="gold", name="Gold", level=5)
    Tier.objects.create(slug="paid", name="Paid", level=1)


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("import_issue", *arguments, stdout=out)
    return out.getvalue()


def test_stores_title_number_date_and_sections_in_order() -> None:
    issue = imported(make_newsletter())
    assert (issue.title, issue.number, str(issue.date)) == ("The Weekly # 7", 7, "2026-03-05")
    assert issue.subject == issue.title
    assert [section.heading for section in issue.sections.all()] == [
        "",
        "🏆 Story of the Week: A Lighthouse Reopens",
        "🤖 Models That Dropped",
        "Quick Hits",
    ]
    assert audiences(issue) == [EVERYONE] * 4


@pytest.mark.parametrize(
    "heading",
    [
        "🏆 Story of the Week: A Lighthouse Reopens",
        "story of the week: a lighthouse reopens",
        "🏆 Story of the Week",
        "Story of the Week",
    ],
)
def test_paid_finds_a_heading_with_or_without_its_emoji(heading: str) -> None:
    make_tiers()
    assert audiences(imported(make_newsletter(), paid=[heading])) == [EVERYONE, PAID, EVERYONE, EVERYONE]


def test_paid_means_the_lowest_paid_tier_and_several_sections_may_be() -> None:
    make_tiers()
    issue = imported(make_newsletter(), paid=["Quick Hits", "models that dropped"], tease=True)
    teased = ("from_tier", 1, "tease")
    assert audiences(issue) == [EVERYONE, EVERYONE, teased, teased]


def test_an_unknown_heading_is_refused_with_those_found_and_nothing_is_stored() -> None:
    make_tiers()
    newsletter = make_newsletter()
    with pytest.raises(ImportRefused, match=r"no section “Papers”.*Story of the Week.*Models That Dropped.*Quick Hits"):
        imported(newsletter, paid=["Papers"], keep_headings=True)
    assert not Issue.objects.exists()
    assert not StandingSection.objects.exists()


def test_paid_without_a_paid_tier_is_refused_and_nothing_is_stored() -> None:
    Tier.objects.create(slug="free", name="Free", level=0)
    with pytest.raises(ImportRefused, match="There is no paid tier"):
        imported(make_newsletter(), paid=["Quick Hits"])
    assert not Issue.objects.exists()


def test_the_same_file_again_updates_the_same_draft() -> None:
    newsletter = make_newsletter()
    first = imported(newsletter)
    again = imported(newsletter, ISSUE.replace("Done.", "Done twice.").replace("The Weekly # 7", "The Weekly # 7: Fog"))
    assert again.pk == first.pk
    assert again.title == "The Weekly # 7: Fog"
    assert [section.body for section in again.sections.all()][-1] == "Done twice."
    assert Section.objects.count() == 4


def test_a_draft_of_that_number_that_another_file_made_is_updated_and_named() -> None:
    newsletter = make_newsletter()
    first = imported(newsletter)
    same, _ = importing.import_issue(newsletter, ISSUE.replace("Two", "Three").encode(), filename="issue.md")
    assert same.warnings == ()
    retitled = ISSUE.replace("The Weekly # 7", "Harbour News # 7")
    stored, _ = importing.import_issue(newsletter, retitled.encode(), filename="issue.md")
    assert (stored.issue.pk, stored.is_new) == (first.pk, False)
    (warning,) = stored.warnings
    assert warning.startswith("It replaced the draft “The Weekly # 7” of 2026-03-05, which had the same number")
    redated = retitled.replace("2026-03-05", "2026-03-12")
    (warning,) = importing.import_issue(newsletter, redated.encode(), filename="issue.md")[0].warnings
    assert warning.startswith("It replaced the draft “Harbour News # 7” of 2026-03-05")


def test_a_date_the_draft_did_not_have_or_the_file_does_not_say_makes_no_other_issue() -> None:
    newsletter = make_newsletter()
    undated = ISSUE.replace("date: 2026-03-05\n", "")
    for text in (undated, ISSUE, undated):
        stored, _ = importing.import_issue(newsletter, text.encode(), filename="issue.md")
        assert stored.warnings == ()


def test_without_a_number_title_and_date_tell_the_draft() -> None:
    newsletter = make_newsletter()
    text = "---\ntitle: Letters\ndate: {}\n---\n\nHello.\n"
    first = imported(newsletter, text.format("2026-03-05"))
    assert imported(newsletter, text.format("2026-03-05")).pk == first.pk
    assert imported(newsletter, text.format("2026-03-12")).pk != first.pk
    assert imported(make_newsletter(slug="other"), text.format("2026-03-05")).pk not in {first.pk, first.pk + 1}


def test_audiences_stay_when_the_file_comes_again_without_paid() -> None:
    make_tiers()
    newsletter = make_newsletter()
    issue = imported(newsletter, paid=["Story of the Week"], tease=True)
    Section.objects.filter(issue=issue, heading="").update(audience="below_tier", tier=Tier.objects.get(slug="gold"))
    retold = ISSUE.replace("A Lighthouse Reopens", "A Lighthouse Closes")
    assert audiences(imported(newsletter, retold)) == [
        ("below_tier", 5, "hide"),
        ("from_tier", 1, "tease"),
        EVERYONE,
        EVERYONE,
    ]


def test_of_two_sections_of_one_name_the_locked_one_gives_a_new_section_its_audience() -> None:
    make_tiers()
    newsletter = make_newsletter()
    text = "# The Weekly # 7\n\n## Story: Fog\n\nOpen.\n\n## Story: {}\n\nLocked.\n"
    imported(newsletter, text.format("Ice"), paid=["Story: Ice"])
    assert audiences(imported(newsletter, text.format("Snow"))) == [EVERYONE, PAID]


def test_paid_given_anew_replaces_the_audiences_of_before() -> None:
    make_tiers()
    newsletter = make_newsletter()
    imported(newsletter, paid=["Story of the Week"])
    assert audiences(imported(newsletter, paid=["Quick Hits"])) == [EVERYONE, EVERYONE, EVERYONE, PAID]


def test_a_section_whose_tier_was_deleted_stays_locked_when_the_file_comes_again() -> None:
    make_tiers()
    newsletter = make_newsletter()
    imported(newsletter, paid=["Quick Hits"])
    Tier.objects.get(slug="paid").delete()
    assert audiences(imported(newsletter))[-1] == ("from_tier", None, "hide")


def test_a_paid_section_whose_heading_changed_is_never_given_to_everyone() -> None:
    make_tiers()
    newsletter = make_newsletter()
    issue = imported(newsletter, paid=["Quick Hits"])
    renamed = ISSUE.replace("Quick Hits", "Odds and Ends")
    with pytest.raises(ImportRefused, match="“Quick Hits” was not for everyone"):
        imported(newsletter, renamed)
    assert issue.sections.filter(heading="Quick Hits", audience="from_tier").exists()
    imported(newsletter, renamed, paid=[])
    assert set(issue.sections.values_list("audience", flat=True)) == {"everyone"}


def test_what_the_file_does_not_say_stays_as_the_author_set_it() -> None:
    newsletter = make_newsletter()
    issue = imported(newsletter)
    Issue.objects.filter(pk=issue.pk).update(preheader="Read me")
    assert imported(newsletter).preheader == "Read me"


def test_kept_headings_become_standing_sections_once() -> None:
    newsletter = make_newsletter()
    issue = imported(newsletter, keep_headings=True)
    imported(newsletter, keep_headings=True)
    standing = StandingSection.objects.values_list("name", "aliases", "position")
    assert list(standing) == [
        ("Story of the Week", ["🏆 Story of the Week"], 0),
        ("Models That Dropped", ["🤖 Models That Dropped"], 1),
        ("Quick Hits", [], 2),
    ]
    names = [section.standing_section and section.standing_section.name for section in issue.sections.all()]
    assert names == [None, "Story of the Week", "Models That Dropped", "Quick Hits"]


def test_the_next_issue_is_recognised_without_emoji_by_the_headings_kept() -> None:
    newsletter = make_newsletter()
    imported(newsletter, keep_headings=True)
    pasted = "The Weekly # 8\nHello again.\nStory of the Week: Fog\nA long story.\nQuick Hits\nOne — two words.\n"
    stored, parsed = importing.import_issue(newsletter, pasted.encode(), filename="next.txt")
    assert stored.issue.number == 8
    assert [section.heading for section in parsed.sections] == ["", "Story of the Week: Fog", "Quick Hits"]
    assert all(section.standing_section for section in parsed.sections[1:])


@pytest.mark.parametrize("status", [s for s in Dispatch.Status if s not in {"draft", "missed", "cancelled"}])
def test_an_issue_that_is_scheduled_or_sent_is_never_changed(status: Dispatch.Status) -> None:
    make_tiers()
    newsletter = make_newsletter()
    issue = imported(newsletter)
    dispatch = scheduling.schedule(issue)
    Dispatch.objects.filter(pk=dispatch.pk).update(status=status, snapshot_at=dispatch.due_at)
    before = issue.content()
    with pytest.raises(scheduling.NotNow):
        imported(newsletter, ISSUE.replace("Done.", "Changed."), paid=["Quick Hits"], keep_headings=True)
    assert Issue.objects.get().content() == before
    assert not StandingSection.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_import_that_races_with_scheduling_never_changes_what_was_scheduled() -> None:
    newsletter = make_newsletter()
    for number in range(5):
        text = ISSUE.replace("# 7", f"# {number + 1}")
        issue = imported(newsletter, text)
        together = threading.Barrier(2)

        def import_again(text: str = text, together: threading.Barrier = together) -> None:
            together.wait(10)
            try:
                imported(newsletter, text.replace("Done.", "Changed."))
            except scheduling.NotNow:
                pass
            finally:
                connections.close_all()

        other = threading.Thread(target=import_again)
        other.start()
        together.wait(10)
        dispatch = scheduling.schedule(issue)
        other.join(30)
        assert not other.is_alive()
        assert Issue.objects.get(pk=issue.pk).content() == dispatch.revision.content


def test_the_command_answers_in_json_with_what_it_stored(tmp_path: Path) -> None:
    make_tiers()
    make_newsletter()
    path = tmp_path / "issue.md"
    path.write_text(ISSUE, encoding="utf-8")
    answer = json.loads(run(str(path), "--newsletter", "weekly", "--paid", "Quick Hits", "--json"))
    assert answer["html_bytes"] > 5000
    issue = Issue.objects.get()
    assert answer == {
        "issue": issue.pk,
        "number": 7,
        "subject": "The Weekly # 7",
        "html_bytes": answer["html_bytes"],
        "sections": [
            {"heading": "", "audience": "everyone", "words": 2},
            {"heading": "🏆 Story of the Week: A Lighthouse Reopens", "audience": "everyone", "words": 6},
            {"heading": "🤖 Models That Dropped", "audience": "everyone", "words": 2},
            {"heading": "Quick Hits", "audience": "paid", "words": 1},
        ],
        "warnings": [],
        "notes": [],
    }


def test_the_command_shows_a_table(tmp_path: Path) -> None:
    make_newsletter()
    path = tmp_path / "issue.md"
    path.write_text(ISSUE, encoding="utf-8")
    text = run(str(path), "--newsletter", "weekly")
    assert f"as a draft of The Weekly 7; `manage.py send_issue {Issue.objects.get().pk}` sends it." in text
    assert "Quick Hits" in text
    assert "bytes of HTML." in text
    assert "Updated “The Weekly # 7”" in run(str(path), "--newsletter", "weekly")


def test_an_unknown_merge_field_is_a_warning_and_no_size(tmp_path: Path) -> None:
    make_newsletter()
    path = tmp_path / "issue.md"
    path.write_text(ISSUE.replace("Done.", "Dear {{ surname }}."), encoding="utf-8")
    answer = json.loads(run(str(path), "--newsletter", "weekly", "--json"))
    assert answer["html_bytes"] is None
    assert "surname" in answer["warnings"][0]
    assert "Warning: " in run(str(path), "--newsletter", "weekly")


def test_an_issue_that_gmail_cuts_off_is_warned_of_by_its_biggest_sections(tmp_path: Path) -> None:
    make_newsletter()
    path = tmp_path / "issue.md"
    path.write_text(ISSUE.replace("Done.", "Many words stand here. \n\n" * 2000), encoding="utf-8")
    answer = json.loads(run(str(path), "--newsletter", "weekly", "--json"))
    assert answer["html_bytes"] > 102_000
    assert "“Quick Hits”" in answer["warnings"][0]
    assert "102,000" in run(str(path), "--newsletter", "weekly")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n\0\0", "image"),
        ("Grüße an alle\n".encode("latin-1"), "not UTF-8"),
        (b"# A\n\nx\0y", "binary"),
        (b"---\ntitle: Only a title\n---\n", "no text"),
    ],
)
def test_a_file_that_is_no_issue_is_refused_and_nothing_is_stored(tmp_path: Path, content: bytes, reason: str) -> None:
    make_newsletter()
    path = tmp_path / "issue.md"
    path.write_bytes(content)
    with pytest.raises(CommandError, match=reason):
        run(str(path), "--newsletter", "weekly", "--keep-headings")
    assert not Issue.objects.exists()


def test_a_file_that_is_too_big_or_not_there_is_refused_unread(tmp_path: Path) -> None:
    make_newsletter()
    path = tmp_path / "big.md"
    with path.open("wb") as file:
        file.truncate(50 * MAX_BYTES + 1)
    for file_name, reason in ((path, "50.0 MB"), (tmp_path, "is a folder"), (tmp_path / "none.md", "cannot be read")):
        with pytest.raises(CommandError, match=reason):
            run(str(file_name), "--newsletter", "weekly")
    assert not Issue.objects.exists()


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    newsletter = make_newsletter()
    pipe = tmp_path / "pipe.md"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(CommandError, match=r"is no regular file: .*\.$"):
            run(str(path), "--newsletter", newsletter.slug)
    assert not Issue.objects.exists()


def test_tease_without_paid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="name one with --paid"):
        run(str(tmp_path / "x.md"), "--newsletter", "weekly", "--tease")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", 0),
        ("One two.", 2),
        ("One  \ntwo\nthree", 3),
        ('un**believ**able — [two words](https://example.com/a/b "title")', 3),
        ("<https://example.com/a> word", 1),
        ("![alt text](https://example.com/x.png)", 0),
        ("> quoted\n\n- item one\n- `code here`\n\n```python\nx = 1\n```\n", 7),
        ("| a | b |\n|---|---|\n| c | d |\n", 4),
        ("Note[^1].\n\n[^1]: The foot.\n", 3),
        ("<p>html <b>text</b></p>", 2),
        ('Hi {{ name|default:"you all" }}', 1),
    ],
)
def test_words_are_counted_as_a_reader_sees_them(source: str, words: int) -> None:
    assert wording.count(source) == words


@pytest.mark.parametrize("filename", SAMPLE_SECTIONS)
def test_the_samples_come_in_with_their_sections_in_order(samples: Path, filename: str) -> None:
    make_tiers()
    make_newsletter()
    answer = json.loads(run(str(samples / "issues" / filename), "--newsletter", "weekly", "--keep-headings", "--json"))
    number, found = SAMPLE_SECTIONS[filename]
    assert answer["number"] == number
    headings = [section["heading"] for section in answer["sections"]]
    assert [heading.split(":")[0] for heading in headings] == found
    print(f"{filename}: {answer['html_bytes']:,} bytes of HTML")
    assert 0 < answer["html_bytes"] < 102_000
