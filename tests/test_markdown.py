"""What an author writes: read once into blocks, merge fields kept apart from Markdown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsletter import fields, markdown


def kinds(source: str) -> list[str]:
    return [block.kind.value for block in markdown.parse(source).blocks()]


def contents(document: markdown.Document) -> list[str]:
    return [token.content for token in markdown.flat(document.tokens) if token.content]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("One.\n\nTwo.\n\n- a\n\n### b", ["text"]),
        ("One.\n\n![a](https://x.example/a.png)\n\nTwo.", ["text", "image", "text"]),
        ("![a](https://x.example/a.png)\n![b](https://x.example/b.png)", ["image", "image"]),
        ("[![a](https://x.example/a.png)](https://x.example)", ["image"]),
        ("Look: ![a](https://x.example/a.png)", ["text"]),
        ("[Go](https://x.example){.button}", ["button"]),
        ("[Go](https://x.example){.button} now", ["text"]),
        ("[Go](https://x.example)", ["text"]),
        ("```\na\n```\n\n    b", ["code", "code"]),
        ("> a\n\n---\n\n| a |\n|---|\n| b |", ["quote", "divider", "table"]),
        ("- a\n\n  ```\n  b\n  ```", ["text"]),
        ("", []),
    ],
)
def test_each_block_becomes_one_partial_and_a_run_of_prose_one_text(source: str, expected: list[str]) -> None:
    assert kinds(source) == expected


def test_merge_fields_are_markers_in_text_and_themselves_in_code() -> None:
    document = markdown.parse('Hi {{ name|default:"you_all_*x*" }}, `{{ name }}`\n\n    {{ nonsense }}')
    assert document.errors == ()
    text, code, block = contents(document)
    assert fields.without_markers(text) == "Hi , "
    assert document.as_written(code) == "{{ name }}"
    assert document.as_written(block).strip() == "{{ nonsense }}"


def test_markers_become_the_slots_of_a_table() -> None:
    document = markdown.parse('{{ name|default:"you" }} and {{ name|default:"them" }}')
    slots = fields.SlotTable([fields.Slot("upgrade_url")])
    filled = document.with_slots(contents(document)[0], slots)
    assert slots.fill(filled, {}) == "you and them"


def test_a_link_may_lead_to_a_field_that_is_an_address() -> None:
    assert markdown.parse("[leave]({{ unsubscribe_url }}) [x]: {{ web_url }}").errors == ()
    assert markdown.parse("[a][1]\n\n[1]: {{upgrade_url}}").errors == ()


@pytest.mark.parametrize(
    "source",
    [
        '[a](https://x.example/{{ name|default:"b" }})',
        '[a]({{ name|default:"javascript:alert(1)" }})',
        "[a]({{ web_url }}?b=c)",
        "![a]({{ web_url }})",
    ],
)
def test_an_address_with_a_field_inside_is_an_error(source: str) -> None:
    assert "cannot be an address" in markdown.parse(source).errors[0]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ nmae }}", "{{ nmae }} is not a merge field"),
        ("{{ name }}", "needs a fallback"),
        ("- *{{ nmae }}*", "not a merge field"),
        ("[a]({{ nmae }})", "not a merge field"),
        ("![{{ nmae }}](https://x.example/a.png)", "not a merge field"),
        ("<b>{{ nmae }}</b>", "not a merge field"),
        ("<div>\n{{ nmae }}\n</div>", "not a merge field"),
    ],
)
def test_a_field_that_cannot_be_used_is_an_error_wherever_it_stands(source: str, words: str) -> None:
    errors = markdown.parse(source).errors
    assert len(errors) == 1
    assert words in errors[0]


@pytest.mark.parametrize(
    "disguised",
    [
        "\ue0000\ue001",
        "&#xe000;0&#xE001;",
        "&#57344;0&#57345;",
        "[a](https://x.example/%ee%80%800%EE%80%81)",
        "[a](https://x.example/%EE%80%EE%80%80%800%EE%80%EE%80%81%81)",
        '<a href="&#xE000;0&#xE001;">a</a>',
    ],
)
def test_an_author_cannot_write_a_marker(disguised: str) -> None:
    document = markdown.parse(disguised)
    assert document.written == ()
    for token in markdown.flat(document.tokens):
        assert fields.indexes(f"{token.content} {token.attrs.get('href', '')}") == []


def test_a_line_is_not_read_as_a_block() -> None:
    document = markdown.parse_line("# 3 - *The* week\nin which")
    assert "".join(contents(document)) == "# 3 - The week in which"
    assert kinds("# 3") == ["text"]


def test_curly_braces_that_are_no_field_stay() -> None:
    document = markdown.parse('Use `format!("{{}}")` or { this } and {{ not closed')
    assert document.errors == ()
    assert contents(document)[-1].endswith("or { this } and {{ not closed")


@given(st.text(max_size=200))
def test_any_text_can_be_read_and_no_token_is_lost_in_blocks(source: str) -> None:
    document = markdown.parse(source)
    for token in markdown.flat(document.tokens):
        document.as_written(token.content)
    in_blocks = [token for block in document.blocks() for token in markdown.flat(block.tokens)]
    words = [token.content for token in markdown.flat(document.tokens) if token.type in ("text", *markdown.CODE)]
    assert [token.content for token in in_blocks if token.type in ("text", *markdown.CODE) and token.content] == [
        word for word in words if word
    ]


def test_angle_brackets_that_are_no_html_are_text() -> None:
    document = markdown.parse("A Vec<String> and <b>bold</b>, <script>")
    kinds_of = {token.content: token.type for token in markdown.flat(document.tokens)}
    assert kinds_of["<String>"] == "text"
    assert kinds_of["<b>"] == kinds_of["<script>"] == "html_inline"


def test_a_document_without_links_keeps_their_labels() -> None:
    document = markdown.parse_line('Deep [*dive*](https://x.example "t") <A href="https://y.example">in</A>, `x`')
    undone = document.without_links()
    assert undone.plain() == document.plain() == "Deep dive in, x"
    assert not [token for token in markdown.flat(undone.tokens) if "href" in f"{token.attrs}{token.content}"]
    assert [token for token in markdown.flat(document.tokens) if token.attrs.get("href")]


def nested(lists: int, quotes: int) -> str:
    """A list in a list and so on, with a word in a quote in a quote and so on in the innermost."""
    items = "".join(f"{'  ' * depth}- item {depth}\n" for depth in range(lists))
    return f"{items}{'  ' * lists}{'>' * quotes} innermost\n"


@given(st.integers(0, 60), st.integers(0, 110))
def test_what_is_nested_deep_is_read_or_named(lists: int, quotes: int) -> None:
    document = markdown.parse(nested(lists, quotes))
    if 2 * lists + quotes <= 99:
        assert document.errors == ()
        assert "innermost" in document.plain()
    else:
        assert "innermost" in document.plain() or "is nested too deep" in document.errors[0]


def test_what_is_nested_too_deep_is_named_by_its_line() -> None:
    (error,) = markdown.parse(f"words\n\n{nested(40, 60)}").errors
    assert error.startswith("Line 43 is nested too deep in lists and quotes")
