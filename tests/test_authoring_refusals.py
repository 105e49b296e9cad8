"""What is no issue is refused in a sentence, and any bytes at all give an issue or that sentence."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from newsletter import authoring, content
from newsletter.authoring import ImportRefused, ParsedIssue


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b" \r\n\t\n ", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        ("\u200b\n\u2060".encode(), "is empty"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "an image"),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
        (b"PK\x03\x04\x14", "a zip archive"),
        (b"{\\rtf1\\ansi hello}", "a rich text document"),
        (b"text\x00text", "is binary"),
        (b"Weekly # 4\n\nCaf\xe9 au lait\n", "line 3 holds the byte 0xE9"),
        (b"\xff\xfeW\x00e", "begins like UTF-16"),
        (b"<!DOCTYPE html>\n<html><body>x</body></html>", "is an HTML page"),
        (b"\n<html lang='en'>", "is an HTML page"),
        (b"<!-- buttondown-editor-mode: fancy --><p>Hi</p>", "is an HTML page"),
        (b"<!-- only a note -->", "no text"),
        (b"# Only a title\n", "no text"),
        (b"Title: Only headers\nNumber: 3\n\n", "no text"),
        (b"Date: 2026-01-02", "no text"),
        (b"---\ntitle: [broken\ndate: 2026-01-01\n---\ntext\n", "see line 3"),
        (b"---\ntitle: 'open\n---\n\ntext\n", "see line"),
        (b"+++\ntitle = broken\n+++\ntext\n", "see line 2"),
        (b"---\ntitle: never closed\n\ntext\n", "never closed"),
        (b"---\ntitle: t\nx: " + b"[" * 5000 + b"\n---\ntext\n", "front matter"),
        (b"---\ntitle: t\nx: " + b"y" * 30_000 + b"\n---\ntext\n", "longer than"),
        (b"a\n" * 60_000, "more than 10,000 lines"),
        (b"## A\n\n" + b"[" * 60_000, "paragraph of more than"),
        (b"## A\n\n" + b">" * 101 + b" deep\n", "Line 3 of the text is nested too deep"),
        (b"## A\n\n" + b"".join(b"  " * n + b"- n\n" for n in range(51)), "Line 52 of the text is nested too deep"),
    ],
)
def test_what_is_no_issue_is_refused_in_a_sentence(data: bytes, said: str) -> None:
    with pytest.raises(ImportRefused, match=said) as refusal:
        authoring.read(data)
    assert str(refusal.value).endswith(".")


def test_fifty_megabytes_are_refused_before_they_are_decoded() -> None:
    data = b"\xff" * 50_000_000
    with pytest.raises(ImportRefused, match=r"47\.7 MB"):
        authoring.read(data)


def test_a_page_is_known_by_its_name_too() -> None:
    with pytest.raises(ImportRefused, match="HTML"):
        authoring.read(b"<p>Hello</p>", filename="issue.HTML")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_every_unicode_encoding_and_line_end_gives_the_same_issue(encoding: str, line_end: str) -> None:
    text = "Loom Weekly # 4\nHello – you\n🏆 Story of the Week: Wool\nA text.\n"
    issue = authoring.read(text.replace("\n", line_end).encode(encoding))
    assert issue.title == "Loom Weekly # 4"
    assert [section.heading for section in issue.sections] == ["", "🏆 Story of the Week: Wool"]
    assert any("UTF-" in note for note in issue.notes) == (not encoding.startswith("utf-8"))


@pytest.mark.parametrize(
    ("written", "date"),
    [
        ("2026-08-19", dt.date(2026, 8, 19)),
        ("2026-08-19 12:00", dt.date(2026, 8, 19)),
        ("2026-08-19T23:30:00-08:00", dt.date(2026, 8, 19)),
        ("2026-08-19 12:00:00 +0000", dt.date(2026, 8, 19)),
        ("Wed, 19 Aug 2026 10:00:00 +0000", dt.date(2026, 8, 19)),
        ("August 19th, 2026", dt.date(2026, 8, 19)),
        ("Wednesday, 19 August 2026", dt.date(2026, 8, 19)),
        ("19.08.2026", dt.date(2026, 8, 19)),
        ("8/19/2026", dt.date(2026, 8, 19)),
        ("19/8/2026", dt.date(2026, 8, 19)),
    ],
)
def test_dates_are_read_as_people_write_them(written: str, date: dt.date) -> None:
    assert authoring.read(f"Title: T\nDate: {written}\n\nText.\n".encode()).date == date


@pytest.mark.parametrize("written", ["32 May", "2026-13-01", "7/8/2026", "soon", "99999999999999999999"])
def test_a_date_that_is_not_certain_is_a_note(written: str) -> None:
    for text in (f"Title: T\nDate: {written}\n\nText.\n", f"---\ntitle: T\ndate: {written}\n---\n\nText.\n"):
        issue = authoring.read(text.encode())
        assert issue.date is None
        assert any(written in note for note in issue.notes)


@pytest.mark.parametrize(
    ("title", "number"),
    [
        ("Loom Weekly # 3", 3),
        ("Loom Weekly # 10 - The week linen", 10),
        ("Loom Weekly #10: Linen", 10),
        ("Loom Weekly (#10)", 10),
        ("Loom Weekly, Issue 12", 12),
        ("Issue #78: Linen", 78),
        ("Loom Weekly No. 4", 4),
        ("Loom Weekly № 4", 4),
        ("Loom Weekly Nr. 4", 4),
        ("Loom Weekly Vol. 3", 3),
        ("Loom Weekly Vol. 3, No. 4", 4),
        ("This Week in Looms 665", 665),
        ("The #1 mistake of weavers", None),
        ("What C# 8 brought", None),
        ("Weaving in 2025", None),
        ("Loom 3.12", None),
        ("Issue 3.5", None),
        ("Loom # 99999999999", None),
    ],
)
def test_the_number_is_read_from_the_title(title: str, number: int | None) -> None:
    assert authoring.read(f"{title}\nText below it.\n".encode()).number == number


def test_a_number_without_a_sign_is_noted_as_a_guess_and_a_header_wins() -> None:
    guessed = authoring.read(b"Title: This Week in Looms 665\n\nText.\n")
    assert guessed.number == 665
    assert any("665" in note for note in guessed.notes)
    stated = authoring.read(b"Title: This Week in Looms 665\nNumber: #7\n\nText.\n")
    assert (stated.number, stated.notes) == (7, ())


@pytest.mark.parametrize("written", ["seven", "-5", "99999999999", "3.5", "9" * 5000])
def test_a_number_that_is_none_is_named_with_what_is_taken_instead(written: str) -> None:
    for text in (
        f"Title: Looms\nNumber: {written}\n\nText.\n",
        f"---\ntitle: Looms\nnumber: {written}\n---\n\nText.\n",
    ):
        issue = authoring.read(text.encode())
        (note,) = issue.notes
        assert issue.number is None
        assert f"“{written[:100]}" in note
        assert len(note) < 400
        assert "set it in the issue" in note
    titled = authoring.read(f"Title: Looms # 8\nNumber: {written}\n\nText.\n".encode())
    assert titled.number == 8
    assert any("8 was taken from the title" in note for note in titled.notes)


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("\"Looms: a 'short' story # 8\"", "Looms: a 'short' story # 8"),
        ("'Looms # 8'", "Looms # 8"),
        ('"Looms" and "Mills" # 8', '"Looms" and "Mills" # 8'),
        ('"Looms # 8', '"Looms # 8'),
    ],
)
def test_quotes_around_a_header_are_no_part_of_it(written: str, title: str) -> None:
    issue = authoring.read(f'Title: {written}\nNumber: "8"\nDate: "2026-01-02"\n\nText.\n'.encode())
    assert (issue.title, issue.number, issue.date) == (title, 8, dt.date(2026, 1, 2))


def test_headers_count_only_at_the_top_and_only_when_they_say_something() -> None:
    assert authoring.read(b"Status: it is complicated\nMore of it.\n").title == "Status: it is complicated"
    issue = authoring.read(b"TITLE: Looms\nNote: mind the gap\nA text.\nDate: 2026-01-01\n")
    assert (issue.title, issue.date) == ("Looms", None)
    assert issue.sections[0].body.split() == ["Note:", "mind", "the", "gap", "A", "text.", "Date:", "2026-01-01"]


def test_a_header_we_do_not_know_is_noted() -> None:
    issue = authoring.read(b"Title: Looms\nMood: fair\nSummary: one\n  two\n\nText.\n")
    assert issue.preheader == "one two"
    assert any("Mood" in note for note in issue.notes)


def test_a_subject_stands_in_for_a_title_that_is_missing() -> None:
    issue = authoring.read(b"---\nsubject: Looms # 4\npublish_date: 2026-01-02\n---\n\nText.\n", filename="x.md")
    assert (issue.title, issue.subject, issue.number) == ("Looms # 4", "Looms # 4", 4)
    assert (issue.date, issue.notes) == (dt.date(2026, 1, 2), ())


def test_text_between_two_rules_is_no_front_matter() -> None:
    issue = authoring.read(b"---\n\nMind this: it is prose, and: not YAML.\n\n---\n\n*More.*\n", filename="on-rules.md")
    assert issue.title == "On rules"
    assert "it is prose" in issue.sections[0].body


def test_the_files_name_gives_date_and_title_where_the_text_does_not() -> None:
    issue = authoring.read(b"Some *text* only.\n", filename="2026-02-03-of-looms.md")
    assert (issue.title, issue.date) == ("Of looms", dt.date(2026, 2, 3))
    assert len(issue.notes) == 2


def test_what_is_too_long_for_a_line_is_shortened_and_nothing_of_a_heading_is_lost() -> None:
    heading = "word " * 100
    issue = authoring.read(f"---\ntitle: {'t' * 500}\n---\n\n## {heading}\n\nText.\n".encode())
    assert len(issue.title) == len(issue.sections[0].heading) == 200 or len(issue.sections[0].heading) < 200
    assert issue.sections[0].body.split() == [*heading.split(), "Text."]
    assert len(issue.notes) == 2


def check(issue: ParsedIssue) -> None:
    assert issue.title
    assert issue.sections
    for line in (issue.title, issue.subject, issue.preheader, *(section.heading for section in issue.sections)):
        assert line == content.clean_line(line)
        assert len(line) <= 200
    for section in issue.sections:
        assert section.heading or section.body
        assert section.body == content.clean_text(section.body)
    assert issue.number is None or 0 <= issue.number < 2**31


SIGNS = (
    "---\n|+++\n|title: x\n|Title: x\n|Date: 2026-01-01\n|# |## |### |===\n|<!--|-->|```|`|[a]: /u\n|[a]|[^1]|[^1]: n\n"
    "|![|](|> |- |* |1. |• |◦ |– | — |🏆 |⚡|Quick Hits|: |{{ name }}|{{|}}|https://a.b/|\\"
    "|*|_|<|\n|\n\n|    |\t|\r|\0|\x85|\ue010|\ue000|word |Word |. |é|#|~~~\n"
)
PIECES = st.sampled_from(["|", *SIGNS.split("|")])
MIXED = st.lists(PIECES).map("".join).map(str.encode)


def read_or_refuse(data: bytes, name: str) -> ParsedIssue | None:
    """The issue, checked, or None where the file is refused in a sentence; anything else fails the test."""
    try:
        issue = authoring.read(data, filename=name, known=[authoring.KnownSection("Quick Hits", (), 1)])
    except ImportRefused as refusal:
        sentence = str(refusal)
    else:
        check(issue)
        return issue
    assert sentence.endswith(".")
    return None


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode) | MIXED)
@example(b'---\nx: "\\UFFFFFFFF"\n---\nt')
@example(b"+++\na = 1\n...\nt")
@example("\ue010\ue011<!--\ue000".encode())
def test_any_bytes_give_an_issue_or_a_sentence(data: bytes) -> None:
    for name in ("", "a.md", "a.txt"):
        read_or_refuse(data, name)


LARGE = (
    "🏆 Foo\n",
    "👨‍👩‍👧‍👦",
    "[",
    "![",
    "**a ",
    "`a``b```c",
    "a — b (c) ",
    "• a\n",
    "1. a\n",
    "<!-- ",
    "<!-- --> `\n",
    "[a]: x\n\n[a]\n",
)


@pytest.mark.parametrize("piece", LARGE)
@pytest.mark.parametrize("name", ["issue.md", "issue.txt"])
def test_a_large_file_of_nothing_but_mark_up_is_read_or_refused(piece: str, name: str) -> None:
    size = authoring.MAX_BYTES // 4
    data = b"Weekly # 3\n\n" + (piece * (size // len(piece.encode()))).encode()
    data = b"\n".join(data.split(b"\n")[:2_500])
    read_or_refuse(data, name)
