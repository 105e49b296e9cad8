"""Whole files: the shapes people bring come in with their titles, numbers and sections."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import emoji
import pytest

from newsletter import authoring
from newsletter.authoring import KnownSection, ParsedIssue

FIXTURES = Path(__file__).parent / "fixtures" / "issues"
SAMPLES = os.environ.get("SAMPLES", "")

LOOM = tuple(
    KnownSection(name, aliases, number)
    for number, (name, aliases) in enumerate(
        {
            "Story of the Week": ("Big Story",),
            "Yarns That Arrived This Week": (),
            "Patterns That Matter": (),
            "What This Week Was Really About": (),
            "Quick Hits": ("In Brief",),
            "Fairs and Markets": (),
        }.items(),
        start=1,
    )
)
MLWHIZ = tuple(
    KnownSection(name, id=number)
    for number, name in enumerate(
        (
            "Story of the Week",
            "Models That Dropped This Week",
            "Papers That Matter",
            "Some Good Reads",
            "What This Week Was Really About",
            "Quick Hits",
        ),
        start=1,
    )
)


def read_fixture(name: str, *, known: tuple[KnownSection, ...] = ()) -> ParsedIssue:
    return authoring.read((FIXTURES / name).read_bytes(), filename=name, known=known)


def headings(issue: ParsedIssue) -> list[str]:
    return [section.heading for section in issue.sections]


def body(issue: ParsedIssue, heading: str) -> str:
    (index,) = authoring.match_headings([heading], issue.sections)
    return issue.sections[index].body


def without_emoji(data: bytes) -> bytes:
    return emoji.replace_emoji(data.decode(), "").encode()


def test_a_pelican_file_gives_title_number_date_and_every_second_level_heading_as_a_section() -> None:
    issue = read_fixture("harbour-letter-212.md")
    assert (issue.title, issue.number, issue.date) == ("The Harbour Letter 212", 212, dt.date(2026, 4, 8))
    assert issue.subject == issue.title
    assert headings(issue) == [
        "",
        "News from the Yards",
        "Plank of the Week",
        "Wanted: hands and heads",
        "Tides",
        "Saying of the Week",
    ]
    assert issue.notes == ()


def test_comments_go_with_their_lines_and_code_keeps_them() -> None:
    issue = read_fixture("harbour-letter-212.md")
    yards = body(issue, "News from the Yards")
    assert "Dear contributors" not in yards
    assert "late entries" not in yards
    assert "* [A cutter in twelve weeks](https://harbour.example/cutter)\n* [Steam, again]" in yards
    assert 'echo "<!-- kept -->"' in body(issue, "Wanted")
    assert body(issue, "Tides") == "See the `<!-- tide -->` table."


def test_tables_nested_lists_quotes_images_and_inline_html_stay_as_they_were() -> None:
    original = (FIXTURES / "harbour-letter-212.md").read_text(encoding="utf-8")
    issue = read_fixture("harbour-letter-212.md")
    yards = body(issue, "News from the Yards")
    for piece in (
        "### Launches",
        "| North <br /> (a) | 4     | ✅ +1    |",
        "    * [**Visiting day**](https://harbour",
    ):
        assert piece in yards
    assert "![A plank](https://harbour.example/plank.png)" in body(issue, "Plank of the Week")
    assert body(issue, "Saying of the Week") == original.split("# Saying of the Week")[1].strip()


def test_each_section_carries_the_definitions_and_footnotes_it_uses_and_no_others() -> None:
    issue = read_fixture("harbour-letter-212.md")
    plank = '[plank]: https://harbour.example/larch "Larch"'
    guild = "[guild]: https://guild.example/"
    assert body(issue, "Plank of the Week").endswith(f"{plank}\n{guild}")
    wanted = body(issue, "Wanted")
    assert plank in wanted
    assert guild in wanted, "the footnote uses it"
    assert wanted.endswith("[^1]: By post, as the [guild] asks.")
    assert "guild" not in body(issue, "Tides")


@pytest.mark.parametrize("known", [(), LOOM], ids=["nothing known", "standing sections known"])
def test_a_pasted_text_gives_its_lead_and_its_emoji_headings(known: tuple[KnownSection, ...]) -> None:
    issue = read_fixture("loom-weekly-4.txt", known=known)
    assert (issue.title, issue.number, issue.date) == ("Loom Weekly Weaving/Dyeing Newsletter # 4", 4, None)
    assert headings(issue) == [
        "",
        "🏆 Story of the Week: The Mill That Would Not Close — From Rags to Rugs",
        "🧵 Yarns That Arrived This Week",
        "📐 Patterns That Matter",
        "💡 What This Week Was Really About",
        "⚡ Quick Hits",
    ]
    assert issue.sections[0].body == "A short week, but a full basket."
    assert [section.standing_section for section in issue.sections] == ([None, 1, 2, 3, 4, 5] if known else [None] * 6)


@pytest.mark.parametrize("known", [(), LOOM], ids=["nothing known", "standing sections known"])
def test_the_greeting_and_the_lines_of_lists_are_no_headings(known: tuple[KnownSection, ...]) -> None:
    issue = read_fixture("loom-weekly-11.txt", known=known)
    assert issue.title == "Loom Weekly Newsletter # 11 - The week linen crossed from a cloth to a currency"
    assert (issue.number, issue.subject) == (11, issue.title)
    assert headings(issue) == [
        "",
        "🏆 Story of the Week: The Bale That Bought a House",
        "🧵 Yarns That Arrived This Week",
        "🗺 Fairs and Markets",
        "⚡ Quick Hits",
    ]
    assert issue.sections[0].body.startswith("Good to see you, Ada writing! 👋 This letter")
    assert body(issue, "Fairs and Markets") == (
        "- Northfield, first Sunday\n"
        "  - bring your own stool\n"
        "- Eastbridge, whenever the ferry runs\n"
        "1. Book the ferry: <https://ferry.example/book_now> (early).\n"
        '2. Tell {{ name|default:"a friend" }} about it.'
    )


@pytest.mark.parametrize("name", ["loom-weekly-4.txt", "loom-weekly-11.txt"])
def test_standing_sections_are_recognised_when_the_emoji_are_gone(name: str) -> None:
    with_emoji = read_fixture(name, known=LOOM)
    bare = authoring.read(without_emoji((FIXTURES / name).read_bytes()), filename=name, known=LOOM)
    assert [authoring.bare_name(h) for h in headings(bare)] == [authoring.bare_name(h) for h in headings(with_emoji)]
    assert [s.standing_section for s in bare.sections] == [s.standing_section for s in with_emoji.sections]


def test_the_lead_of_an_item_is_bold_and_an_essays_dashes_are_dashes() -> None:
    fourth, eleventh = read_fixture("loom-weekly-4.txt"), read_fixture("loom-weekly-11.txt")
    yarns = body(fourth, "Yarns That Arrived This Week")
    assert yarns.startswith("**Fen Wool (Marsh & Sons, April 2)** — A coarse yarn")
    assert "They sell \\*samples\\* as well" in yarns
    assert "**Double Cloth without Tears** — Both" in body(fourth, "Patterns That Matter")
    assert "**“When Flax Spins Itself” (Institute of Thread)** — A study" in body(
        eleventh, "Yarns That Arrived This Week"
    )
    assert "**Indigo is late** — the ship" in body(eleventh, "Quick Hits")
    assert "**" not in body(fourth, "Story of the Week")
    assert "**" not in body(fourth, "What This Week Was Really About")


def test_front_matter_gives_subject_and_preheader_and_a_link_may_lead_to_a_merge_field() -> None:
    issue = read_fixture("garden-notes.md")
    assert (issue.title, issue.number, issue.date) == ("Garden notes: the frost came back", 31, dt.date(2026, 5, 12))
    assert (issue.subject, issue.preheader) == ("The frost came back", "What survived, and what to sow again.")
    assert headings(issue) == ["", "Setext Heading Under Glass", "Outside"]
    assert issue.sections[1].body.endswith("[seed]: {{ web_url }}")
    assert issue.sections[2].body == "1. Beans: gone.\n2. Peas: fine."


def sample(name: str) -> bytes:
    if not SAMPLES:
        pytest.skip("SAMPLES names no folder")
    return (Path(SAMPLES) / "issues" / name).read_bytes()


WEEKLY_3 = [
    "",
    "🏆 Story of the Week: The AI Stack Fragments — From Silicon to Society",
    "🤖 Models That Dropped This Week",
    "🧠 Papers That Matter",
    "📝 Some Good Reads",
    "💡 What This Week Was Really About",
    "⚡ Quick Hits",
]
WEEKLY_10 = [
    "",
    "🏆 Story of the Week: The $35 Billion Deal That Turned AI Chips Into Toll Roads",
    "🤖 Models That Dropped This Week",
    "🧠 Papers That Matter",
    "📝 Some Good Reads",
    "⚡ Quick Hits",
]
RUST_528 = [
    "",
    "Updates from Rust Community",
    "Crate of the Week",
    "Call for Participation; projects and speakers",
    "Updates from the Rust Project",
    "Upcoming Events",
    "Jobs",
    "Quote of the Week",
]
RUST_665 = [*RUST_528[:3], "Calls for Testing", *RUST_528[3:]]


@pytest.mark.parametrize(
    ("name", "number", "date", "expected"),
    [
        ("2024-01-03-this-week-in-rust.md", 528, dt.date(2024, 1, 3), RUST_528),
        ("2026-08-19-this-week-in-rust.md", 665, dt.date(2026, 8, 19), RUST_665),
        ("mlwhiz-weekly-03.txt", 3, None, WEEKLY_3),
        ("mlwhiz-weekly-10.txt", 10, None, WEEKLY_10),
    ],
)
@pytest.mark.parametrize("known", [(), MLWHIZ], ids=["nothing known", "standing sections known"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_the_sample_files_come_in_with_exactly_their_sections(
    name: str, number: int, date: dt.date | None, expected: list[str], known: tuple[KnownSection, ...], line_end: bytes
) -> None:
    issue = authoring.read(sample(name).replace(b"\n", line_end), filename=name, known=known)
    assert (issue.number, issue.date) == (number, date)
    assert headings(issue) == expected
    assert all(section.body for section in issue.sections)
    assert not any("<!--" in section.body for section in issue.sections)


@pytest.mark.parametrize(
    ("name", "expected"), [("mlwhiz-weekly-03.txt", WEEKLY_3), ("mlwhiz-weekly-10.txt", WEEKLY_10)]
)
@pytest.mark.parametrize("known", [(), MLWHIZ], ids=["nothing known", "standing sections known"])
def test_the_pasted_samples_keep_their_sections_without_emoji(
    name: str, expected: list[str], known: tuple[KnownSection, ...]
) -> None:
    issue = authoring.read(without_emoji(sample(name)), filename=name, known=known)
    assert [authoring.bare_name(heading) for heading in headings(issue)] == [authoring.bare_name(h) for h in expected]


def test_the_samples_items_have_bold_leads_and_their_essays_have_none() -> None:
    third, tenth = (authoring.read(sample(name)) for name in ("mlwhiz-weekly-03.txt", "mlwhiz-weekly-10.txt"))
    counts = {heading: body(third, heading).count("**") // 2 for heading in headings(third) if heading}
    assert list(counts.values()) == [0, 7, 4, 4, 0, 5]
    assert "**Gemma 4 12B (Google)** — The first" in body(tenth, "Models That Dropped This Week")
    assert "**" not in body(tenth, "Story of the Week")
