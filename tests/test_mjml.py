"""The compiler's known gaps, each mended, and the linter that says what is wrong in which line."""

from __future__ import annotations

import pytest
from lxml import html as lxml_html
from mjml import mjml2html

from newsletter import mjml


def compiled(body: str, head: str = "") -> str:
    source = f"<mjml><mj-head>{head}</mj-head><mj-body>{body}</mj-body></mjml>"
    return mjml.compile_document(source, name="layout.mjml", language="de", direction="ltr")


def in_column(content: str, head: str = "") -> str:
    return compiled(f"<mj-section><mj-column>{content}</mj-column></mj-section>", head)


def problems(source: str, parent: str | None = "mj-column", files: dict[str, str] | None = None) -> list[str]:
    include = (files or {}).get
    return [str(problem) for problem in mjml.lint("a.mjml", source, parent=parent, include=include)]


# What the compiler does on its own. Should one of these fail, a mend of ours has become needless.


def raw(content: str) -> str:
    source = f"<mjml><mj-body><mj-section><mj-column>{content}</mj-column></mj-section></mj-body></mjml>"
    return mjml2html(source)


def test_the_compiler_alone_still_prints_attributes_in_debug_form() -> None:
    assert 'title="a\\nb"' in raw('<mj-image src="x" title="a\nb" />')
    assert "\\u{200d}" in raw('<mj-image src="x" title="a\u200db" />')


def test_the_compiler_alone_still_leaves_alt_away_and_refuses_bare_html() -> None:
    assert "alt=" not in raw('<mj-image src="x" />')
    with pytest.raises(ValueError, match=r".+"):
        raw("<mj-text>1 < 2</mj-text>")


# The mends.


def test_attribute_values_come_out_as_they_went_in() -> None:
    html = in_column(
        """<mj-image src="https://x.example/a.png" title='say "hi"' alt="a\n\tb 👩\u200d💻\u00a0\\ c" />"""
    )
    image = lxml_html.document_fromstring(html).find(".//img")
    assert image is not None
    assert image.get("title") == 'say "hi"'
    assert image.get("alt") == "a b 👩\u200d💻 \\ c"
    assert "\\u{" not in html


def test_values_that_the_compiler_must_read_keep_their_meaning() -> None:
    html = in_column('<mj-text font-family="Font\n  One, \'Two\u200d\'" css-class="a\\b">x</mj-text>')
    assert "font-family:Font One, 'Two&#x200d;'" in html
    assert 'class="a&#92;b"' in html


def test_rules_marked_inline_are_inlined_and_others_stay_in_the_head() -> None:
    html = in_column(
        '<mj-text><p class="x">a</p><!--[if mso]><i>kept</i><![endif]--></mj-text>',
        '<mj-style inline="inline">.x { margin: 0 }</mj-style><mj-style>.x > i { color: red }</mj-style>',
    )
    assert '<p class="x" style="margin:0">' in html
    assert ".x { margin" not in html
    assert ".x > i { color: red }" in html
    assert "<!--[if mso]><i>kept</i><![endif]-->" in html


def test_an_image_without_alternative_text_gets_an_empty_one() -> None:
    assert 'alt=""' in in_column('<mj-image src="https://x.example/a.png" />')


def test_html_between_tags_is_not_touched() -> None:
    content = (
        '<p>1 &lt; 2 <a href="https://x.example/?a=1&amp;b=2" title="\\n">b</a><br>c</p>\n<pre>  two\n  lines</pre>'
    )
    assert content in in_column(f"<mj-text>{content}</mj-text>")


def test_text_that_looks_like_what_the_compiler_is_given_instead_stays_text() -> None:
    html = in_column("<mj-text>kept-0- kept-99-</mj-text><mj-text css-class='kept-0-'>second</mj-text>")
    assert "kept-0- kept-99-" in html
    assert 'class="kept-0-"' in html
    assert "second" in html


def test_no_font_is_fetched_from_elsewhere() -> None:
    assert "fonts.googleapis" not in in_column('<mj-text font-family="Roboto, Ubuntu">x</mj-text>')


def test_language_and_direction_stand_on_the_root_and_on_the_first_element() -> None:
    source = "<mjml><mj-body></mj-body></mjml>"
    html = mjml.compile_document(source, name="layout.mjml", language="he", direction="rtl")
    root = lxml_html.document_fromstring(html)
    first = root.find("body/div")
    assert first is not None
    assert [(node.get("lang"), node.get("dir")) for node in (root, first)] == [("he", "rtl")] * 2


def test_a_title_with_quotes_stays_in_its_attribute() -> None:
    html = compiled("<mj-section></mj-section>", "<mj-title>Say &quot;hi&quot; &amp; bye</mj-title>")
    root = lxml_html.document_fromstring(html)
    assert root.findtext("head/title") == 'Say "hi" & bye'
    assert [node.get("aria-label") for node in root.iter("div") if node.get("aria-label")] == ['Say "hi" & bye']


def test_what_the_compiler_refuses_names_the_file() -> None:
    with pytest.raises(mjml.TemplateError, match=r"^weekly/layout\.mjml: "):
        mjml.compile_document("<mjml><mj-body>", name="weekly/layout.mjml", language="en", direction="ltr")


# The linter.


def test_a_fine_partial_has_no_problems() -> None:
    source = """{# A comment with <tags> #}
    {% if href %}
      <mj-button href="{{ href }}" {% if wide %}width="100%"{% endif %} color="#fff">{{ label }}</mj-button>
    {% endif %}
    {% comment %}<mj-old>{% endcomment %}
    <mj-image src="{% if a %}{{ a }}{% else %}{{ b }}{% endif %}" width="{{ width }}px" />
    <mj-text padding="0 {{ side }}px" css-class="body"><p>One<br>two &amp; <img src="x" alt=""></p>{{ a }}</mj-text>"""
    assert problems(source) == []


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("<mj-text>\n<p>a</mj-text>", 2, "<p> is never closed"),
        ("\n<mj-text>", 2, "<mj-text> is never closed"),
        ("a\n", 1, "Text stands directly in <mj-column>"),
        ("<mj-text></p></mj-text>", 1, "</p> stands where </mj-text> is due"),
        ("</mj-text>", 1, "closes what was never opened"),
        ("\n\n<mj-buton href='x'>b</mj-buton>", 3, "<mj-buton> is not an MJML component"),
        ("<mj-text\n  colour='#fff'>b</mj-text>", 2, "has no attribute colour"),
        ("<mj-text color='#ff'>b</mj-text>", 1, 'color="#ff" of <mj-text> is no colour'),
        ("<mj-text padding='10'>b</mj-text>", 1, "is no units"),
        ("<mj-text align='middle'>b</mj-text>", 1, "is no align"),
        ("<mj-section></mj-section>", 1, "<mj-section> cannot stand in <mj-column>, only in <mj-body> or <mj-wrapper>"),
        ("<mj-text><mj-button>b</mj-button></mj-text>", 1, "<mj-button> cannot stand in <mj-text>"),
        ("<mj-image src='a'><p>b</p></mj-image>", 1, "<p> stands directly in <mj-image>"),
        ("<p>b</p>", 1, "<p> stands directly in <mj-column>"),
        ("<mj-text>1 < 2</mj-text>", 1, "A bare <"),
        ("<mj-text align=left>b</mj-text>", 1, "needs quotes"),
        ("<mj-text align='left' align='right'>b</mj-text>", 1, "has the attribute align twice"),
        ("\n<mj-include path='x' />", 2, "<mj-include> does not work here. Write {% include"),
        ("\n{% include 'gone.mjml' %}", 2, "includes gone.mjml, which does not exist"),
        ("<mj-raw position='file-start'><p>b</p></mj-raw>", 1, "does not work here; put it into <mj-head>"),
    ],
)  # fmt: skip
def test_a_malformed_partial_is_named_with_its_line(source: str, line: int, words: str) -> None:
    found = problems(source)
    assert found
    assert found[0].startswith(f"a.mjml, line {line}: ")
    assert words in found[0]


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("", 1, "there is none"),
        ("\n<mjml><mj-head></mj-head></mjml>", 2, "has no <mj-body>"),
        ("<mjml><mj-body></mj-body>\n</mjml>\n<mj-text>a</mj-text>", 3, "cannot stand outside <mjml>"),
        ("<mjml>\n<mj-html-attributes></mj-html-attributes><mj-body></mj-body></mjml>", 2, "does not work here"),
        ("<mjml>\n<mj-section></mj-section><mj-body></mj-body></mjml>", 2, "cannot stand in <mjml>"),
    ],
)
def test_a_malformed_layout_is_named_with_its_line(source: str, line: int, words: str) -> None:
    found = problems(source, None)
    assert found
    assert found[0].startswith(f"a.mjml, line {line}: ")
    assert words in found[0]


def test_an_included_file_is_checked_where_it_stands() -> None:
    files = {"b.mjml": "\n<mj-text>a</mj-text><p>"}
    found = problems('<mj-section>\n{% include "b.mjml" %}</mj-section>', "mj-body", files)
    assert found[0].startswith("b.mjml, line 2: <mj-text> cannot stand in <mj-section>")


def test_a_body_may_come_from_an_included_file() -> None:
    files = {"b.mjml": "<mj-body></mj-body>"}
    assert problems('<mjml>{% include "b.mjml" %}</mjml>', None, files) == []


def test_a_file_that_includes_itself_is_a_problem_not_a_crash() -> None:
    found = problems('{% include "a.mjml" %}', files={"a.mjml": '{% include "a.mjml" %}'})
    assert "may not include itself" in found[0]


def test_attributes_of_defaults_are_those_of_the_component() -> None:
    head = (
        '<mj-attributes><mj-all font-family="Arial" /><mj-text font-size="16px" /><mj-class name="x" /></mj-attributes>'
    )
    assert problems(head, "mj-head") == []
    assert "no attribute size" in problems('<mj-attributes><mj-text size="16px" /></mj-attributes>', "mj-head")[0]


def test_rules_of_style_are_not_read_as_tags() -> None:
    assert problems("<mj-style>a > b { color: red } /* <p> */</mj-style>", "mj-head") == []
