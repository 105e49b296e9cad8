"""Markdown: cut at the headings that the parser sees, so that each section stands alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsletter import authoring
from newsletter.authoring import ParsedIssue, comments


def read(text: str, *, filename: str = "issue.md") -> ParsedIssue:
    return authoring.read(text.encode(), filename=filename)


def parts(text: str) -> list[tuple[str, str]]:
    return [(section.heading, section.body) for section in read(text).sections]


@pytest.mark.parametrize(
    ("text", "title", "headings"),
    [
        ("# T\n\nlead\n\n## A\n\na\n\n### B\n\nb\n\n## C\n\nc\n", "T", ["", "A", "C"]),
        ("# A\n\na\n\n# B\n\nb\n", "Issue", ["A", "B"]),
        ("# Looms # 5\n\nlead\n\n# A\n\na\n\n# B\n\nb\n", "Looms # 5", ["", "A", "B"]),
        ("# T\n\n## A\n\na\n\n# B\n\nb\n", "T", ["A", "B"]),
        ("### A\n\na\n\n#### B\n\nb\n\n### C\n\nc\n", "Issue", ["A", "C"]),
        ("# T\n\nonly text\n", "T", [""]),
        ("T\n===\n\nlead\n\nA\n---\n\na\n", "T", ["", "A"]),
        ("Looms # 5\n\nlead\n\n## A\n\na\n", "Looms # 5", ["", "A"]),
        ("---\ntitle: T\n---\n# T\n\nlead\n\n## A\n\na\n", "T", ["", "A"]),
        ("---\ntitle: T\n---\n# U\n\nu\n\n## A\n\na\n", "T", ["U", "A"]),
        ("## A\n\na\n\n## A\n\nb\n", "Issue", ["A", "A"]),
        ("## A\n\n## B\n\nb\n", "Issue", ["A", "B"]),
        (
            "lead\n\n## `Code`, *em* & [link](https://a.example) &amp; ![alt](x.png) ##\n\na\n",
            "Issue",
            ["", "Code, em & link & alt"],
        ),
    ],
)
def test_the_highest_level_present_begins_the_sections(text: str, title: str, headings: list[str]) -> None:
    issue = read(text)
    assert issue.title == title
    assert [section.heading for section in issue.sections] == headings


def test_what_only_looks_like_a_heading_begins_nothing() -> None:
    body = "```\n## code\n```\n\n    ## indented code\n\n> ## quoted\n\n- ## listed\n\n##no space\n\n\\## escaped\n\n##"
    assert parts(f"# T\n\n## A\n\n{body}\n") == [("A", body)]


def test_a_rule_under_a_long_paragraph_makes_no_heading_of_it() -> None:
    paragraph = "word " * 60
    assert parts(f"# T\n\n## A\n\n{paragraph}\n---\n\nb\n") == [("A", f"{paragraph}\n---\n\nb")]


def test_a_linked_heading_is_plain_text_and_noted() -> None:
    issue = read("# T\n\n## [A](https://a.example)\n\na\n")
    assert issue.sections[0].heading == "A"
    assert any("“A” was a link" in note for note in issue.notes)


def test_a_definition_goes_only_where_it_is_used_wherever_it_stood() -> None:
    text = (
        "# T\n\n## Free\n\n[one][a] and ![i][img]\n\n[secret]: https://secret.example\n\n"
        "> [b]: <https://b.example>\n> 'B'\n\n"
        "## Paid\n\n[s][SECRET], [b] and [a][]\n\n[a]: https://a.example\n[img]:\n  /i.png\n[a]: https://second.example\n"
        "[nobody]: https://nobody.example\n"
    )
    assert parts(text) == [
        ("Free", "[one][a] and ![i][img]\n\n[a]: https://a.example\n[img]: /i.png"),
        (
            "Paid",
            "[s][SECRET], [b] and [a][]\n\n"
            "[secret]: https://secret.example\n[b]: <https://b.example> 'B'\n[a]: https://a.example",
        ),
    ]


def test_a_definition_in_code_is_code() -> None:
    assert parts("# T\n\n## A\n\n```\n[a]: /x\n```\n\n[a]\n") == [("A", "```\n[a]: /x\n```\n\n[a]")]


def test_footnotes_follow_their_references_with_what_they_use() -> None:
    text = "# T\n\n## A\n\nx[^1]\n\n## B\n\ny ^[z [c]]\n\n"
    text += "[^1]: n[^2]\n\n    more [c]\n\n[^2]: m\n[^3]: nobody\n\n[c]: /c\n"
    issue = read(text)
    assert [section.body for section in issue.sections] == [
        "x[^1]\n\n[c]: /c\n\n[^1]: n[^2]\n\n    more [c]\n\n[^2]: m",
        "y ^[z [c]]\n\n[c]: /c",
    ]
    assert any("“3” is used nowhere" in note for note in issue.notes)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("* a\n<!-- c -->\n* b\n", "* a\n* b\n"),
        ("* a\n  <!-- c\n  d -->\n  * b\n", "* a\n  * b\n"),
        ("* a\n* <!-- c -->\n* b\n", "* a\n* b\n"),
        ("* a\n<!-- c -->\ntext\n", "* a\n\ntext\n"),
        ("a\n<!-- c -->\nb\n", "a\n\nb\n"),
        ("a\n\n<!-- c\n\n## d\n\n-->\n\nb\n", "a\n\nb\n"),
        ("a <!-- b --> c\n", "a  c\n"),
        ("a <!-- b\nc --> d\n", "a  d\n"),
        ("<!--> a\n<!---> b\n", " a\n b\n"),
        ("`<!-- a -->` ``<!-- ` -->`` <!-- `x` -->\n", "`<!-- a -->` ``<!-- ` -->``\n"),
        ("` <!-- a ` -->\n", "` <!-- a ` -->\n"),
        ("a ` b\n\n<!-- c -->\n\nd ` e\n", "a ` b\n\nd ` e\n"),
        ("```\n<!-- a -->\n```\n\n    <!-- b -->\n", "```\n<!-- a -->\n```\n\n    <!-- b -->\n"),
        ("\\<!-- a -->\n", "\\<!-- a -->\n"),
        ("<div><!-- a `b` --></div>\n<!-- c -->\n", "<div></div>\n"),
    ],
)
def test_comments_go_and_break_nothing(text: str, left: str) -> None:
    assert comments.remove(text) == (left, [])


def test_a_comment_that_is_never_closed_hides_nothing() -> None:
    issue = read("# T\n\n## A\n\na\n\n<!-- open\n\n## Paid\n\nb `<!--` <!-- again\n")
    assert [(s.heading, s.body) for s in issue.sections] == [("A", "a\n\nopen"), ("Paid", "b `<!--` again")]
    assert any("opened in line 7" in note for note in issue.notes)


def test_code_that_is_never_closed_is_noted() -> None:
    assert any("“```rust” is never closed" in note for note in read("# T\n\n## A\n\n```rust\nfn\n\n## B\n\nb\n").notes)
    assert not read("# T\n\n## A\n\n```rust\nfn\n```\n").notes


def test_bold_and_emoji_lines_head_the_sections_of_a_text_without_headings() -> None:
    text = (
        "Looms # 5\n\nHello **all**.\n\n🏆 Story of the Week: Wool\n\nText.\n\n"
        "**Quick Hits**\n\n- a\n\n**Bold beginning** of a text.\n"
    )
    issue = read(text)
    assert issue.title == "Looms # 5"
    assert [section.heading for section in issue.sections] == ["", "🏆 Story of the Week: Wool", "Quick Hits"]
    assert any("“Quick Hits”" in note for note in issue.notes)


def test_markdown_is_told_from_plain_text_by_what_stands_in_it() -> None:
    assert read("Looms\n\n* a\n\n*b*\n", filename="x.md").sections[0].body == "* a\n\n*b*"
    assert read("Looms\n• a\n*b*\n", filename="x.txt").sections[0].body == "- a\n\n\\*b\\*"
    assert read("Looms\n\n## A\n\n*a*\n", filename="x.txt").sections[-1].body == "*a*"
    assert read("# 10 - The week\nlead\n🏆 Story of Wool\ntext\n", filename="x.txt").number == 10


def test_a_merge_field_in_a_heading_or_a_target_stays_as_written() -> None:
    field = '{{ name|default:"*you*" }}'
    assert parts(f"# T\n\n## For {field}\n\n[go][u] {field}\n\n[u]: {{{{ upgrade_url }}}}\n") == [
        (f"For {field}", f"[go][u] {field}\n\n[u]: {{{{ upgrade_url }}}}")
    ]


BLOCKS = st.lists(
    st.sampled_from(
        [
            "word",
            "- item\n  - nested",
            "> quote\n> more",
            "```\n## code\n```",
            "| a | b |\n|---|---|\n| 1 | 2 |",
            "### Sub",
            "    code",
            "1. one\n2. two",
        ]
    ),
    min_size=1,
    max_size=5,
)


@given(st.lists(BLOCKS, min_size=1, max_size=5))
def test_bodies_come_out_byte_for_byte(sections: list[list[str]]) -> None:
    bodies = ["\n\n".join(blocks) for blocks in sections]
    text = "# T\n\n" + "".join(f"## S{index}\n\n{body}\n\n" for index, body in enumerate(bodies))
    assert parts(text) == [(f"S{index}", body) for index, body in enumerate(bodies)]
