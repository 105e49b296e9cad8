"""Plain text: what is a heading and what is not, and nothing in it changes its meaning or gets lost."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from newsletter import authoring
from newsletter.authoring import KnownSection, paragraphs, plain
from newsletter.authoring.headings import by_name

LONG = "A paragraph of the usual length, which goes on for a good while so that nobody takes it for anything but one. "
KNOWN = (KnownSection("Story of the Week", ("Big Story",), 1), KnownSection("Quick Hits", (), 2))


def headings(text: str, *, known: tuple[KnownSection, ...] = (), filename: str = "weekly.txt") -> list[str]:
    issue = authoring.read(f"Loom Weekly # 5\n{text}".encode(), filename=filename, known=known)
    return [section.heading for section in issue.sections if section.heading]


def rendered(text: str) -> str:
    """The words a reader sees of plain text once it has become Markdown and then HTML."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    html = parser.render(paragraphs.to_markdown(text.split("\n"), items=False))
    plain = re.sub(r"<[^>]*>", "", html)
    for entity, char in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        plain = plain.replace(entity, char)
    return plain


@pytest.mark.parametrize(
    "line",
    [
        "🏆 Story of the Week: The Mill — From Rags to Rugs",
        "🏆 Story of the Week: The Mill That Left the U.S.",
        "🎉 Ten Thousand Readers!",
        "🧪 Lab Notes",
        "⚙️ Tools and Toys",
        "🧑‍💻 Jobs",
        "📅 This week in numbers",
        "🇫🇷 News from France",
        "🤔 What Did We Learn?",
        "🧵 新闻",
    ],
)
def test_a_short_line_that_begins_with_an_emoji_is_a_heading(line: str) -> None:
    assert headings(f"Hello.\n{line}\n{LONG}\n") == [line]


@pytest.mark.parametrize(
    "line",
    [
        "✅ done this",
        "✅ Done This",
        "👉 Read more: the whole story",
        "🔗 More: https://looms.example/x",
        "👋 Hey everybody",
        "🎉 Thanks for reading",
        "🚀 we launched",
        "🚀 We launched a brand new loom yesterday in the old mill",
        "🍎 Apples are dear.",
        "1️⃣ First Thing",
        "🏆",
        "🚀 Looms are cheap. Buy one",
        "Weavers of the world 🧵",
        f"🏆 {LONG}",
        "• 🏆 Story of the Week",
    ],
)
def test_an_item_a_greeting_or_a_sentence_with_an_emoji_is_no_heading(line: str) -> None:
    assert headings(f"Hello.\n{line}\n{LONG}\n") == []


def test_the_same_emoji_again_and_emoji_in_a_row_are_bullets() -> None:
    assert headings(f"🔥 Alpha Wool\n{LONG}\n🧵 Threads\n{LONG}\n🔥 Gamma Wool\n{LONG}\n") == ["🧵 Threads"]
    assert headings(f"🥇 First Thing\n\n🥈 Second Thing\n\n🥉 Third Thing\n{LONG}\n") == []


def test_a_heading_needs_something_below_it() -> None:
    assert headings(f"{LONG}\n🧵 Threads\n") == []
    assert headings("🧵 Threads\nhttps://looms.example/threads\n") == []


def test_a_table_of_contents_is_no_row_of_headings() -> None:
    contents = "In this issue:\n🏆 Story of the Week\n🧵 Threads\n⚡ Quick Hits\n"
    sections = f"🏆 Story of the Week: Wool\n{LONG}\n🧵 Threads\n{LONG}\n⚡ Quick Hits\n{LONG}\n"
    expected = ["🏆 Story of the Week: Wool", "🧵 Threads", "⚡ Quick Hits"]
    assert headings(contents + sections) == expected
    assert headings(contents + sections, known=KNOWN) == expected


@pytest.mark.parametrize(
    "line",
    [
        "Story of the Week",
        "story of the week!",
        "Story of the Week 🏆",
        "🎯 Big Story: Wool",
        "Big Story: The Mill That Would Not Close",
        "QUICK HITS:",
    ],
)
def test_a_standing_section_is_a_heading_by_name_or_alias(line: str) -> None:
    assert headings(f"Hello.\n{line}\nshort text\n", known=KNOWN) == [line]
    assert headings(f"Hello.\n{line}\n", known=KNOWN) == [line], "even with nothing below it"


@pytest.mark.parametrize(
    "line",
    [
        "Quick hits: this week saw so many things happen that we could hardly write them all down.",
        "Our Story of the Week",
        "• Quick Hits",
        "Quick Hits: https://looms.example/hits",
    ],
)
def test_a_sentence_that_only_begins_like_a_standing_section_is_text(line: str) -> None:
    assert headings(f"Hello.\n{line}\n{LONG}\n", known=KNOWN) == []


def test_without_any_emoji_short_title_case_lines_among_long_ones_are_headings_and_noted() -> None:
    lines = [
        "Loom Weekly # 5",
        LONG,
        "Patterns That Matter",
        LONG,
        LONG,
        "Count your bobbins (they will be dear),",
        LONG,
    ]
    text = "\n".join([*lines, "Some Good Looms", LONG])
    issue = authoring.read(text.encode())
    assert [section.heading for section in issue.sections] == ["", "Patterns That Matter", "Some Good Looms"]
    assert any("“Patterns That Matter”" in note for note in issue.notes)
    assert headings(f"{LONG}\nPatterns That Matter\n{LONG}\n") == [], "one alone is no pattern"
    short = "a short line\n" * 9
    assert headings(f"{short}Red Wool\n{LONG}\n{short}Blue Wool\n{LONG}\n") == [], "most lines are short"
    assert headings("Red Wool\nBlue Wool\nshort\nGreen Wool\nshort\n") == [], "a text of short lines is a list"


def test_the_first_line_is_the_title_unless_it_heads_a_section_or_greets() -> None:
    titled = authoring.read(b"Weekly # 3\nHello.\n")
    assert (titled.title, titled.number, [s.body for s in titled.sections]) == ("Weekly # 3", 3, ["Hello."])
    headed = authoring.read(b"Quick Hits\nHello.\n", known=KNOWN, filename="weekly-3.txt")
    assert (headed.title, headed.sections[0].heading) == ("Weekly 3", "Quick Hits")
    letter = authoring.read(b"Dear friends,\nHello.\n", filename="weekly-3.txt")
    assert (letter.title, letter.sections[0].body) == ("Weekly 3", "Dear friends,\n\nHello.")
    alone = authoring.read(b"One line only\n")
    assert (alone.title, alone.sections[0].body) == ("One line only", "One line only")


def test_a_title_from_headers_is_not_repeated() -> None:
    issue = authoring.read(b"Title: Loom Weekly\n\nLoom weekly\n\nHello.\n")
    assert [section.body for section in issue.sections] == ["Hello."]


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("# no heading", "\\# no heading"),
        ("#9 is finished", "#9 is finished"),
        ("> no quote", "\\> no quote"),
        ("*a* _b_ snake_case `c`", "\\*a\\* \\_b\\_ snake_case \\`c\\`"),
        ("[x](y) ![z]", "\\[x](y) !\\[z]"),
        ("<b> a < b <!-- c -->", "\\<b> a < b \\<!-- c -->"),
        ("&amp; a & b AT&T;", "\\&amp; a & b AT\\&T;"),
        ("~4 ~~5~~", "~4 \\~\\~5\\~\\~"),
        ("C:\\*.txt \\n", "C:\\\\\\*.txt \\n"),
        ("    indented", "indented"),
        ("1986. A good year", "1986\\. A good year"),
        ("- ", "\\-"),
        ("+5 and -3", "+5 and -3"),
        ("=====", "---"),
        ("see https://a.example/b_(c)_d.", "see <https://a.example/b_(c)_d>."),
        ("(https://a.example/x)", "(<https://a.example/x>)"),
        ("<https://a.example/x>, then", "<https://a.example/x>, then"),
        ('Hi {{ name|default:"*you*" }}_', 'Hi {{ name|default:"*you*" }}\\_'),
        ("– Jon Marsh", "– Jon Marsh"),
        ("– one\n– two", "- one\n- two"),
        ("• a\n◦ b\n▪ c\n◦ d\n• e", "- a\n  - b\n    - c\n  - d\n- e"),
        ("- a\n  - b\n* c", "- a\n  - b\n- c"),
        ("1. a\ntext\n2. b\n10. c", "1. a\n\ntext\n\n2. b\n\n10\\. c"),
        ("1. a\n   • b\n2. c", "1. a\n   - b\n2. c"),
        ("• a\n  and more", "- a and more"),
        ("one\ntwo\n\nthree", "one\n\ntwo\n\nthree"),
    ],
)
def test_plain_text_becomes_markdown_that_means_the_same(text: str, markdown: str) -> None:
    assert paragraphs.to_markdown(text.split("\n"), items=False) == markdown


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("Fen Wool (Marsh, May 3) — Coarse.", "**Fen Wool (Marsh, May 3)** — Coarse."),
        ("• Fen Wool (Marsh) – Coarse.", "- **Fen Wool (Marsh)** – Coarse."),
        ("Fen Wool (Marsh) - Coarse.", "**Fen Wool (Marsh)** - Coarse."),
        ("A*B (C) — D_", "**A\\*B (C)** — D\\_"),
        ("One thing — Text\nAnother thing — more text", "**One thing** — Text\n\n**Another thing** — more text"),
        ("One thing — text.", "One thing — text."),
        (
            "For most of May (a long one) — and it was — it rained.",
            "For most of May (a long one) — and it was — it rained.",
        ),
        (
            "It rained all day. Then it stopped (at last) — Hurrah.",
            "It rained all day. Then it stopped (at last) — Hurrah.",
        ),
        ("Third, we met — hard.\nLast, we left — Early.", "Third, we met — hard.\n\nLast, we left — Early."),
        (f"{'Very long lead ' * 8}(Marsh) — Text.", f"{'Very long lead ' * 8}(Marsh) — Text."),
        ("Fen-Wool—dense — Text", "Fen-Wool—dense — Text"),
    ],
)
def test_the_lead_of_an_item_is_bold(text: str, markdown: str) -> None:
    assert paragraphs.to_markdown(text.split("\n"), items=True) == markdown


def test_hard_wrapped_paragraphs_are_joined_and_lists_are_not() -> None:
    text = (
        "Loom Weekly # 5\n\n"
        "This was written in a mail program long ago, where lines\n"
        "were broken in the middle of their sentences, over and\n"
        "over again, until the end.\n\n"
        "And this is the second paragraph of the letter, with its\n"
        "own break.\n\n"
        "* a bullet\n* another bullet that is long enough to be broken\n  over two lines\n"
    )
    body = authoring.read(text.encode()).sections[0].body
    assert body.split("\n\n")[0].endswith("until the end.")
    assert "\n" not in body.split("\n\n")[0]
    assert body.endswith("- a bullet\n- another bullet that is long enough to be broken over two lines")


def test_short_items_are_not_taken_for_wrapped_lines() -> None:
    items = [f"Wool number {number} of the many kinds that we looked at (Marsh) — Coarse." for number in "abcd"]
    issue = authoring.read("\n".join(["Loom Weekly # 5", "🧵 Yarns", *items]).encode())
    assert issue.sections[0].body.count("\n\n") == 3


def test_a_pasted_text_with_a_stray_markdown_link_keeps_its_headings() -> None:
    text = f"Hello.\n🏆 Story of the Week: Wool\n{LONG}[more](https://a.example)\n{LONG}\n⚡ Quick Hits\n{LONG}\n"
    for name in ("weekly.txt", "weekly.md"):
        assert headings(text, filename=name) == ["🏆 Story of the Week: Wool", "⚡ Quick Hits"]


@pytest.mark.parametrize(
    ("above", "title", "number"),
    [
        ("Loom Weekly AI/ML Newsletter\n# 31 - The week of two lines", None, 31),
        ("Loom Weekly AI/ML Newsletter\n\n# 22", None, 22),
        ("Loom Weekly\n#27 (2026)", None, 27),
        ("Loom Weekly\nAI/ML Newsletter # 12 - The week of looms", None, 12),
        ("Loom Weekly\n\nNewsletter No. 12", None, 12),
        ("Loom Weekly\n# 3 reasons to weave", "Loom Weekly", None),
        ("Loom Weekly # 4\n# 5 - The fifth", "Loom Weekly # 4", 4),
        ("Loom Weekly\nWe weave, as in issue # 12", "Loom Weekly", None),
        ("Loom Weekly\nWelcome to Issue 12", "Loom Weekly", None),
        ("Loom Weekly\nHere is what was in # 12.", "Loom Weekly", None),
    ],
)
@pytest.mark.parametrize("name", ["weekly.txt", "weekly.md"])
@pytest.mark.parametrize("marked", ["", "*slightly* marked\n\n", "## Marked Up\n\n"], ids=["plain", "mark", "heading"])
def test_a_title_on_two_lines_is_one(above: str, title: str | None, number: int | None, name: str, marked: str) -> None:
    text = f"{above}\n\nHello to you all.\n\n{marked}{LONG}\n"
    issue = authoring.read(text.encode(), filename=name)
    assert issue.number == number
    if title is None:
        assert issue.title == issue.subject == " ".join(above.split())
        assert issue.sections[0].body.startswith("Hello to you all.")


def test_numbered_headings_are_no_title_on_two_lines() -> None:
    issue = authoring.read(f"Loom Weekly\n\n# 1: Wool\n\n{LONG}\n\n# 2: Linen\n\n{LONG}\n".encode())
    assert [section.heading for section in issue.sections][-2:] == ["1: Wool", "2: Linen"]
    assert issue.number is None


ESSAY = f"{LONG}\n{LONG}\n"
HALF_MARKED = (
    f"Loom Weekly # 10 - The week of wool\nHey, Ada here! {LONG}\n🏆 Story of the Week: The Mill\n{ESSAY}"
    f"🤖 Looms That Dropped\nFen Loom (Marsh) — Heavy. {LONG}\n🧠 Patterns That Matter\n{ESSAY}⚡ Quick Hits\n{LONG}\n"
)


@pytest.mark.parametrize("name", ["weekly.txt", "weekly.md", ""])
@pytest.mark.parametrize("extra", ["", "A [link](https://a.example) among it.\n"], ids=["plain", "link"])
@pytest.mark.parametrize(
    "marked",
    [
        ["🧠 Patterns"],
        ["🏆 Story"],
        ["⚡ Quick"],
        ["🏆 Story", "🤖 Looms", "⚡ Quick"],
        ["🏆 Story", "🤖 Looms", "🧠 Patterns", "⚡ Quick"],
    ],
    ids=len,
)
def test_a_pasted_text_in_which_a_heading_was_marked_keeps_the_others(marked: list[str], extra: str, name: str) -> None:
    text = HALF_MARKED.replace("⚡", f"{extra}⚡")
    for start in marked:
        text = text.replace(start, f"## {start}")
    issue = authoring.read(text.encode(), filename=name)
    assert (issue.title, issue.number) == ("Loom Weekly # 10 - The week of wool", 10)
    assert [section.heading for section in issue.sections] == [
        "",
        "🏆 Story of the Week: The Mill",
        "🤖 Looms That Dropped",
        "🧠 Patterns That Matter",
        "⚡ Quick Hits",
    ]
    assert issue.sections[0].body.startswith("Hey, Ada here!")
    if not extra and len(marked) < 4:
        assert issue.sections[2].body.startswith("**Fen Loom (Marsh)** — Heavy.")


def test_standing_sections_are_found_beside_a_heading_that_was_marked() -> None:
    text = f"Loom Weekly # 5\n{LONG}\nStory of the Week\n{ESSAY}## Wool\n{ESSAY}Quick Hits\n{LONG}\n"
    issue = authoring.read(text.encode(), known=KNOWN)
    assert issue.number == 5
    assert [section.heading for section in issue.sections] == ["", "Story of the Week", "Wool", "Quick Hits"]


def test_markdown_with_a_line_that_looks_like_a_heading_stays_as_it_is() -> None:
    looks = "🎉 Ten Thousand Readers!\n\nThey came.\n\n"
    text = f"## Wool\n\n{LONG}\n\n{looks}## Linen\n\nQuick Hits\n\n{LONG}\n\n## Silk\n\nShort.\n"
    for name in ("weekly.txt", "weekly.md"):
        issue = authoring.read(text.encode(), filename=name, known=KNOWN)
        assert [section.heading for section in issue.sections] == ["Wool", "Linen", "Silk"]


def test_a_name_and_a_title_begin_a_section_and_a_lone_phrase_is_asked_about() -> None:
    story = "Story of the Week: The Mill That Would Not Close"
    issue = authoring.read(f"Loom Weekly # 5\nHello.\n{story}\n{LONG}\nshort\nshort\nshort\n".encode())
    assert [section.heading for section in issue.sections] == ["", story]
    assert any(story in note for note in issue.notes)
    for line in ("Wool: The Mill That Closed", "Story of the week: the mill closed again", f"{story}."):
        assert headings(f"Hello.\n{line}\n{LONG}\nshort\nshort\n") == []
    asked = authoring.read(f"Loom Weekly # 5\n{LONG}\nPatterns That Matter\n{LONG}\n".encode())
    assert [section.heading for section in asked.sections] == [""]
    assert any("may be headings: “Patterns That Matter”" in note for note in asked.notes)
    certain = authoring.read(f"Loom Weekly # 5\n⚡ Quick Hits\n{LONG}\nPatterns That Matter\n{LONG}\n".encode())
    assert not any("may be headings" in note for note in certain.notes)


WORDS = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=12)
SIGNS = st.sampled_from(
    [*"#*_`[]()<>&!|\\~+-=.:;•◦▪–—🏆✅", "1.", "23)", "##", "---", "https://a.b/c_d.", "&amp;", "<b>", "](", "```"]
)
TEXTS = st.lists(st.lists(WORDS | SIGNS, max_size=6).map(" ".join), max_size=8).map("\n".join)


@given(TEXTS)
def test_a_reader_sees_the_words_that_were_pasted_in_their_order(text: str) -> None:
    def letters(shown: str) -> str:
        return "".join(char for char in shown if char.isalpha())

    assert letters(rendered(text)) == letters(text)


@given(TEXTS)
def test_no_word_of_a_pasted_text_is_lost(text: str) -> None:
    sections = plain.read(f"Weekly # 1\nlead\n{text}\nend\n", by_name(KNOWN)).sections
    found = "\n".join(f"{heading}\n{body}" for heading, body in sections)
    written = iter(re.findall(r"[^\W_]+", found))
    assert all(word in written for word in re.findall(r"[^\W_]+", f"lead\n{text}\nend"))
