"""Headings compared: with or without emoji, and an unknown one is an error that lists those found."""

from __future__ import annotations

import pytest

from newsletter import authoring
from newsletter.authoring import ImportRefused, KnownSection, ParsedSection


def make_sections(*headings: str) -> list[ParsedSection]:
    return [ParsedSection(heading, "Text.", None) for heading in headings]


@pytest.mark.parametrize(
    ("heading", "bare"),
    [
        ("🏆 Story of the Week", "story of the week"),
        ("Story  of the\tWeek 🏆", "story of the week"),
        ("👩‍💻 What’s New?", "whats new"),
        ("What's new", "whats new"),
        ("⚙️ Project/Tooling Updates", "project tooling updates"),
        ("1️⃣ First", "first"),
        ("ÉTÉ à Paris", "été à paris"),
        ("E\u0301te\u0301", "été"),
        ("Straße", "strasse"),
        ("新闻", "新闻"),
        ("🎉", ""),
        ("— … !", ""),
        ("", ""),
    ],
)
def test_a_bare_name_has_no_emoji_punctuation_or_case(heading: str, bare: str) -> None:
    assert authoring.bare_name(heading) == bare


@pytest.mark.parametrize(
    "wanted",
    [
        "🏆 Story of the Week: The Deal",
        "Story of the Week",
        "story OF the  week",
        "🎯 Story of the week!",
        "Story of the Week:",
    ],
)
def test_a_wanted_heading_matches_with_or_without_emoji_and_before_a_colon(wanted: str) -> None:
    assert authoring.match_headings([wanted], make_sections("", "🏆 Story of the Week: The Deal", "⚡ Quick Hits")) == {
        1
    }


def test_a_name_that_fits_several_sections_means_all_of_them() -> None:
    sections = make_sections("Jobs", "Jobs: Berlin", "Events")
    assert authoring.match_headings(["jobs"], sections) == {0, 1}
    assert authoring.match_headings(["Jobs: Berlin", "EVENTS"], sections) == {1, 2}


def test_an_unknown_heading_is_refused_with_those_found() -> None:
    with pytest.raises(ImportRefused, match=r"no section “Papers”\. .* “🏆 Story”, “⚡ Quick Hits”\."):
        authoring.match_headings(["Quick hits", "Papers"], make_sections("", "🏆 Story", "⚡ Quick Hits"))


@pytest.mark.parametrize("wanted", ["", "  ", "🎉", ":"])
def test_a_heading_without_letters_is_refused_and_never_means_the_lead(wanted: str) -> None:
    with pytest.raises(ImportRefused, match="must have letters"):
        authoring.match_headings([wanted], make_sections("", "🎉", "One"))


def test_an_issue_without_headings_says_so() -> None:
    with pytest.raises(ImportRefused, match="no headings at all"):
        authoring.match_headings(["One"], make_sections(""))


def test_nothing_wanted_matches_nothing() -> None:
    assert authoring.match_headings([], make_sections("", "One")) == set()


def test_a_standing_section_is_known_by_alias_in_markdown_too() -> None:
    known = [KnownSection("Quick Hits", ("In Brief", "🩳 Shorts"), 7), KnownSection("Unsaved")]
    issue = authoring.read(
        b"# T\n\n## In brief\n\na\n\n## Shorts: three\n\nb\n\n## Unsaved\n\nc\n\n## Other\n\nd\n", known=known
    )
    assert [section.standing_section for section in issue.sections] == [7, 7, None, None]
