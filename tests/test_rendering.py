"""From a view to a mail: what the HTML and the text of every issue must be."""

from __future__ import annotations

import datetime as dt
import itertools
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lxml import html as lxml_html
from pytest_django import Settings

from newsletter import authoring, fields, gate, rendering
from newsletter.content import (
    Audience,
    AudienceKind,
    IssueContent,
    Profile,
    SectionContent,
    ThemeContent,
    TrackingMode,
    WhenLocked,
)
from newsletter.rendering import Medium, Rendered, RenderingError, colours, highlighting, preheader, sizes

VALUES = {
    "name": "Ada Lovelace",
    "first_name": "Ada",
    "unsubscribe_url": "https://news.example/u/1",
    "preferences_url": "https://news.example/p/1",
    "web_url": "https://news.example/w/1",
    "upgrade_url": "https://news.example/up",
    "delivery_token": "TOKEN",
}

# One of everything an author may write.
FULL = """Hi {{ first_name|default:"there" }}, a **bold** start with `code {{ name }}`, ~~gone~~ and H<sub>2</sub>O.
A [titled link](https://example.org/a?b=1&c=2 "a & title"), [leave]({{ unsubscribe_url }}) or <https://example.org/x>
or <desk@example.org>.[^why]

[Read the story](https://example.org/story){.button}

![A chart](https://example.org/chart.png)

[![A photo](https://example.org/photo.jpg){width=200}](https://example.org/gallery)

### A smaller heading

1. one
2. two
   - nested ![inline](https://example.org/i.png)
3. three

   a paragraph in a list

- [ ] to do
- [x] done

> Quoted *wisdom*
>
> > nested

##### Levels skipped

```python
def hello(name: str) -> None:
    return None  # a comment
```

| Model | Size |
|:------|-----:|
| [Small](https://example.org/small) | 1 B |
| Large | **70 B** |

---

<details><summary>More</summary>Press <kbd>Ctrl</kbd> <a href="https://example.org/raw">raw</a></details>

[^why]: A *note* with [its link](https://example.org/note).
"""


def make_issue(*bodies: str | SectionContent, **fields_: Any) -> IssueContent:
    """An issue; a body given as text is a section of its own, the first the lead."""
    sections = tuple(
        body if isinstance(body, SectionContent) else SectionContent(f"Section {index}" if index else "", body)
        for index, body in enumerate(bodies)
    )
    defaults = {
        "newsletter_slug": "weekly",
        "newsletter_name": "The Weekly",
        "number": 7,
        "title": "Lamps & <ladders>",
        "subject": "Lamps, again",
        "preheader": "",
        "date": dt.date(2026, 8, 19),
        "postal_address": "1 Lamp Street\nHarbour Town",
    }
    return IssueContent(sections=sections, **{**defaults, **fields_})


def prefix(url: str) -> str:
    """A tracked link's static part, unlike its target."""
    return "https://news.example/c/" + url.encode().hex() + "/"


def rendered(issue: IssueContent, profile: Profile | None = None, **options: Any) -> Rendered:
    options.setdefault("tracking", TrackingMode.OFF)
    return rendering.render(gate.view(issue, profile or Profile()), **options)


def tracked(issue: IssueContent, **options: Any) -> Rendered:
    options = {"tracking": TrackingMode.INDIVIDUAL, "link": prefix, "pixel_url": "https://news.example/o/", **options}
    return rendered(issue, **options)


def filled(result: Rendered, part: str = "html") -> str:
    return fields.SlotTable(list(result.slots)).fill(getattr(result, part), VALUES)


def tree(result: Rendered) -> Any:
    return lxml_html.document_fromstring(filled(result))


def hrefs(root: Any) -> list[str]:
    return [link.get("href") for link in root.iter("a")]


def visible_text(root: Any) -> str:
    return " ".join(root.find("body").text_content().split())


class Balance(HTMLParser):
    """Notes tags that are closed out of order or not at all."""

    VOID = frozenset({"br", "hr", "img", "meta", "link", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if len({name for name, _ in attrs}) < len(attrs):
            self.wrong.append(f"<{tag}> has an attribute twice")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> at {self.getpos()}")


def unbalanced(html: str) -> list[str]:
    balance = Balance()
    balance.feed(html)
    balance.close()
    return balance.wrong + [f"<{tag}> left open" for tag in balance.open]


def as_outlook_reads(html: str) -> str:
    opened = re.sub(r"<!--\[if (?:mso|mso \| IE|lte mso 11)\]>(.*?)<!\[endif\]-->", r"\1", html, flags=re.DOTALL)
    return re.sub(r"<!--\[if !mso\]><!-->.*?<!--<!\[endif\]-->", "", opened, flags=re.DOTALL)


def check_html(html: str) -> None:
    """The rules that hold for the HTML of every issue."""
    assert unbalanced(html) == []
    assert unbalanced(as_outlook_reads(html)) == []
    assert "\\u{" not in html
    assert not re.search("[\ue000-\uf8ff]", html)
    root = lxml_html.document_fromstring(html)
    body = root.find(".//body")
    assert body is not None
    first = next(node for node in body.iter("div") if node.get("lang"))
    assert first.getparent() is body
    for node in (root, first):
        assert node.get("lang")
        assert node.get("dir") in ("ltr", "rtl")
    assert root.findtext("head/title")
    levels = [int(node.tag[1]) for node in root.iter("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(image.get("alt") is not None for image in root.iter("img"))
    assert all(link.get("href") and visible(link) for link in root.iter("a"))
    for table in root.iter("table"):
        is_data = table.find(".//th") is not None and table.find(".//table") is None
        assert (table.get("role") == "presentation") != is_data
        if is_data:
            assert all(cell.get("scope") == "col" for cell in table.iter("th"))
    sizes_used = {float(size) for size in re.findall(r"font(?:-size)?:\s*(\d+)px", html)}
    assert all(size >= 14 or size in (0, 1, 13) for size in sizes_used)
    assert not [node for node in root.iter() if "font-size:13px" in (node.get("style") or "") and visible(node)]


def visible(node: Any) -> bool:
    return bool("".join(node.itertext()).strip() or [i for i in node.iter("img") if i.get("alt")])


# The HTML.


def test_a_full_issue_is_well_formed_and_accessible() -> None:
    result = tracked(make_issue(FULL, FULL))
    check_html(filled(result))
    assert "{{ name }}" in visible_text(tree(result))  # in code it is text


# Pieces of Markdown and HTML that make trouble side by side.
PIECES = [
    *(
        "*",
        "**",
        "_",
        "`",
        "~~",
        "[",
        "]",
        "(",
        "|",
        "\\",
        "^",
        "<",
        ">",
        '"',
        "'",
        "word ",
        "字",
        "\n",
        "\n\n",
        "    ",
    ),
    *("```\n", "- ", "1. ", "> ", "# ", "### ", "---\n", "- [x] ", "[^1]", "\n\n[^1]: note\n", "&amp;", "&#xe000;"),
    *(
        "](https://a.example/x)",
        "](/relative)",
        "![",
        "{.button}",
        "{width=9}",
        "<https://u.example>",
        "<me@x.example>",
    ),
    *('{{ name|default:"x" }}', "{{ web_url }}", "]({{ web_url }})", "| a | b |\n|---|---|\n| c | d |\n"),
    *("<b>", "</b>", '<a href="https://r.example">', "</a>", "<div>", "</div>", "<br>", "<p>", "</td>", "<li>", "<h1>"),
    *("<table><tr><td>", '<img src="https://i.example/a.png">', "<script>", "</script>", "<style>", "<svg>", "<title>"),
    *(
        "<textarea>",
        "<!-- ",
        "-->",
        "<![CDATA[",
        "<![",
        "<?x ",
        "</mj-text>",
        '<span style="position:fixed;color:red">',
    ),
]
written = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=20).map("".join)


@example('<a href="https://r.example">never closed', '<a href="https://r.example">nor here', "<![no section>")
@given(written, written, written)
@settings(max_examples=80, deadline=None)
def test_whatever_an_author_writes_both_parts_are_well_formed_and_hold_the_same_links(
    lead: str, heading: str, body: str
) -> None:
    issue = make_issue(lead, SectionContent(heading, body))
    if rendering.problems(issue):
        with pytest.raises(RenderingError):
            tracked(issue)
        return
    result = tracked(issue)
    html, text = filled(result), filled(result, "text")
    assert unbalanced(html) == []
    root = lxml_html.document_fromstring(html)
    assert len(list(root.iter("h1"))) == 1
    assert not list(root.iter("script", "svg", "textarea", "iframe"))
    assert not [node for node in root.iter() if "fixed" in (node.get("style") or "")]
    assert [href for href in hrefs(root) if href[0] != "#" and href.removeprefix("mailto:") not in text] == []


def test_a_section_has_the_same_bytes_in_every_variant() -> None:
    free = SectionContent("News", 'Hi {{ name|default:"you" }}, [read](https://example.org).')
    paid = SectionContent("Papers", "{{ web_url }} [a](https://example.org/b)", Audience(AudienceKind.FROM_TIER, 1))
    issue = make_issue("Lead.", paid, free, SectionContent("End", "Bye."))

    def between(level: int) -> str:
        html = filled(rendered(issue, Profile(tier_level=level)))
        return html[html.index(">News<") : html.index(">End<")]

    assert "https://example.org" in between(0)
    assert between(0) == between(1)


def test_headings_inside_a_section_go_on_from_its_own() -> None:
    result = rendered(make_issue("#### In the lead", "### A\n\n##### B\n\n### C\n\n# D\n\n###### E"))
    assert [(node.tag, node.text) for node in tree(result).iter("h1", "h2", "h3", "h4", "h5", "h6")] == [
        ("h1", "Lamps & <ladders>"),
        ("h2", "In the lead"),
        ("h2", "Section 1"),
        ("h3", "A"),
        ("h4", "B"),
        ("h3", "C"),
        ("h3", "D"),
        ("h4", "E"),
    ]


def test_a_heading_may_hold_markup_and_fields() -> None:
    result = rendered(make_issue("a", SectionContent('*Big* `x` for {{ name|default:"you" }} & <co>', "b")))
    heading = tree(result).find(".//h2")
    assert heading.text_content() == "Big x for Ada Lovelace & <co>"
    assert heading.find("em").text == "Big"
    assert "Big x for Ada Lovelace & <co>\n-----" in filled(result, "text")


@pytest.mark.parametrize(
    ("language", "direction"), [("en", "ltr"), ("he", "rtl"), ("ar", "rtl"), ("fa-ir", "rtl"), ("ur", "rtl")]
)
def test_language_and_direction_follow_the_newsletter(language: str, direction: str) -> None:
    html = filled(rendered(make_issue("> quoted", language=language)))
    check_html(html)
    root = lxml_html.document_fromstring(html)
    assert (root.get("lang"), root.get("dir")) == (language, direction)
    assert f"direction:{'ltr' if direction == 'rtl' else 'rtl'}" not in html
    assert f"border-{'right' if direction == 'rtl' else 'left'}:3px" in html


def test_dark_mode_uses_the_theme() -> None:
    night = ThemeContent(dark_background="#010203", dark_surface="#040506", dark_text="#a1b2c3", dark_accent="#c1d2e3")
    html = rendered(make_issue(FULL, theme=night)).html
    dark = html[html.index("prefers-color-scheme: dark") :].partition("</style>")[0]
    assert all(colour in dark for colour in ("#010203", "#040506", "#a1b2c3", "#c1d2e3"))
    assert all(colour in dark for pair in highlighting.PALETTE.values() for colour in pair)
    assert '<meta name="color-scheme" content="light dark">' in html
    assert '<meta name="supported-color-schemes" content="light dark">' in html


def test_every_ground_that_is_light_has_a_rule_for_dark_mode() -> None:
    result = rendered(make_issue(FULL, FULL))
    dark = result.html[result.html.index("prefers-color-scheme: dark") :].partition("</style>")[0]
    grounds = [node for node in tree(result).iter("div") if "background" in (node.get("style") or "")]
    assert len(grounds) >= 3
    for node in grounds:
        assert f".{node.get('class')}" in dark
        assert f".{node.get('class')} > table" in dark or node.get("class") == "page"


def test_the_default_theme_can_be_read_in_light_and_dark() -> None:
    look = ThemeContent()
    for ink in (look.text, look.muted, look.accent):
        assert min(colours.contrast(ink, look.surface), colours.contrast(ink, look.background)) >= 4.5
    for ink in (look.dark_text, look.dark_muted, look.dark_accent):
        assert min(colours.contrast(ink, look.dark_surface), colours.contrast(ink, look.dark_background)) >= 4.5
    for light, dark in highlighting.PALETTE.values():
        assert colours.contrast(light, look.background) >= 4.5
        assert colours.contrast(dark, look.dark_background) >= 4.5


def test_code_can_be_read_on_a_theme_that_is_dark_by_day() -> None:
    night = ThemeContent(background="#0a0a12", dark_background="#000000")
    html = rendered(make_issue("```python\ndef f(): return 'x'\n```", theme=night)).html
    used = set(re.findall(r'<span style="color:(#\w{6})"', html))
    assert used
    assert min(colours.contrast(colour, night.background) for colour in used) >= 4.5
    assert "span[style" not in html


@pytest.mark.parametrize("accent", ["#000000", "#ffffff", "#ffd700", "#0b57d0", "#777777"])
def test_a_button_can_be_read_whatever_the_accent(accent: str) -> None:
    assert colours.contrast(colours.readable_on(accent), accent) >= 4.4


def test_code_is_highlighted_with_inline_styles_and_wraps() -> None:
    root = tree(
        rendered(make_issue("```python\ndef f(): return 1\n```\n\n```nosuch\n<b> & c\n```\n\n- a\n\n  ```\n  x\n  ```"))
    )
    first, second, third = root.iter("pre")
    assert [span.get("style") for span in first.iter("span")]
    assert not [node for node in first.iter() if node.get("class")]
    assert second.text_content().strip() == "<b> & c"
    assert all("white-space:pre-wrap" in node.get("style") for node in (first, second, third))


def test_a_table_of_data_scrolls_and_names_its_columns() -> None:
    root = tree(rendered(make_issue("| a | b |\n|:--|--:|\n| 1 | 2 |")))
    table = root.find(".//div[@class='scroll']/table")
    assert [cell.get("scope") for cell in table.iter("th")] == ["col", "col"]
    assert "text-align:right" in list(table.iter("td"))[1].get("style")


def test_images_are_no_wider_than_the_mail() -> None:
    narrow = ThemeContent(width=500)
    body = "![a](https://x.example/a.png)\n\n![b](https://x.example/b.png){width=900}\n\nc ![d](https://x.example/d.png){width=40}"
    images = list(tree(rendered(make_issue(body, theme=narrow))).iter("img"))
    assert [image.get("width") for image in images] == ["444", "444", "40"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("![](https://x.example/a.png)", "https://x.example/a.png has no alternative text"),
        ("a ![](https://x.example/a.png)", "https://x.example/a.png has no alternative text"),
        ('<img src="https://x.example/a.png">', "https://x.example/a.png has no alternative text"),
        ("![a](/a.png)", "The image /a.png cannot be found from a mail"),
        ("![a](data:image/png;base64,AAAA)", "stands in the text itself"),
        ("[a](/about)", "The link to /about leads nowhere"),
        ("[a](ftp://x.example/)", "The link to ftp://x.example/ leads nowhere"),
        ("[a](https:///about)", "The link to https:///about leads nowhere"),
        ("[a](javascript:alert(1))", "The link to javascript:alert(1) leads nowhere"),
        ("[a](data:text/plain,b)", "The link to data:text/plain,b leads nowhere"),
        ("[a](vbscript:b){.button}", "The link to vbscript:b leads nowhere"),
        ("[a][1]\n\n[1]: javascript:b", "The link to javascript:b leads nowhere"),
        ("![a](file:///a.png)", "The image file:///a.png cannot be found from a mail"),
        ("words ![a](file:///a.png)", "The image file:///a.png cannot be found from a mail"),
        ("words ![a](data:text/html,b)", "stands in the text itself"),
        ('<img src="file:///a.png" alt="a">', "An image has no address from which a mail can show it"),
    ],
)
def test_what_a_mail_cannot_show_is_left_out_with_a_warning(body: str, words: str) -> None:
    result = rendered(make_issue(body))
    assert len(result.warnings) == 1
    assert words in result.warnings[0]
    check_html(filled(result))
    root = tree(result)
    assert not [i for i in root.iter("img") if not i.get("src").startswith("https://")]
    assert not [h for h in hrefs(root) if not h.startswith("https://")]
    assert not re.search(r"\]\(|javascript:|file:|data:|vbscript:", filled(result) + filled(result, "text"))


DEEP_LIST = "".join("  " * depth + "- item\n" for depth in range(49)) + "  " * 49 + "innermost"


@pytest.mark.parametrize("body", [DEEP_LIST, ">" * 98 + " innermost"], ids=["lists", "quotes"])
def test_what_is_nested_as_deep_as_may_be_is_rendered(body: str) -> None:
    result = rendered(make_issue(body))
    assert result.warnings == ()
    assert "innermost" in result.html
    assert "innermost" in result.text


def test_html_of_the_author_is_sanitised() -> None:
    body = """<script>alert(1)</script><b onclick="x()">bold</b> <iframe src="https://x.example"></iframe>

<style>p { color: red }</style>

<a href="javascript:alert(1)">bad</a> <div style="position:fixed;color:red">d</div></div></td></mj-text>

[x](javascript:alert(1)) <sup>up</sup><br><kbd>K</kbd> <h1>big</h1> <p>unclosed"""
    html = filled(rendered(make_issue(body)))
    check_html(html)
    inside = html[html.index("<body") :]
    assert not re.search(r"<script|onclick|<iframe|position:|alert\(1\)\W*</|href=\"javascript", inside)
    assert "<b>bold</b>" in inside
    assert "<sup>up</sup><br><kbd>K</kbd>" in inside


def test_footnotes_stand_at_the_end_of_their_section_without_anchors() -> None:
    result = rendered(make_issue("One.[^b] Two.[^a]\n\n[^a]: Aye.\n[^b]: Bee.\n\nThree.", "Next."))
    root = tree(result)
    assert [node.text for node in root.iter("sup")] == ["[1]", "[2]"]
    assert [" ".join(node.text_content().split()) for node in root.iter("li")] == ["Bee.", "Aye."]
    assert "#fn" not in result.html
    text = result.text
    assert text.index("Three.") < text.index("[^1] Bee.\n[^2] Aye.") < text.index("Section 1")


def test_task_lists_show_what_is_done() -> None:
    result = rendered(make_issue("- [ ] open\n- [x] closed"))
    assert "☐ open" in visible_text(tree(result))
    assert "☑ closed" in visible_text(tree(result))
    assert "- ☐ open\n- ☑ closed" in result.text
    assert "<input" not in result.html


# Links, fields, slots.


def test_web_links_are_tracked_with_the_token_of_the_delivery() -> None:
    result = tracked(
        make_issue("[a](https://x.example/?b=1&c=2) [again](https://x.example/?b=1&c=2) [d](http://y.example)")
    )
    assert result.links == ("https://x.example/?b=1&c=2", "http://y.example")
    links = hrefs(tree(result))
    assert links.count(prefix("https://x.example/?b=1&c=2") + "TOKEN") == 2
    assert prefix("http://y.example") + "TOKEN" in links
    assert "https://x.example" not in result.html + result.text


def test_a_link_that_cannot_be_tracked_stays_as_it_is_with_a_warning() -> None:
    def refuse(url: str) -> str:
        raise ValueError(f"The link {url} cannot be tracked.")

    result = tracked(make_issue("[a](https://x.example)"), link=refuse)
    assert "https://x.example" in hrefs(tree(result))
    assert result.links == ()
    assert result.warnings == ("The link https://x.example cannot be tracked.",)


def test_anonymous_links_carry_nothing_of_the_reader() -> None:
    result = tracked(make_issue("[a](https://x.example)"), tracking=TrackingMode.ANONYMOUS)
    assert fields.Slot("delivery_token") not in result.slots
    assert prefix("https://x.example") in hrefs(tree(result))
    assert '<img src="https://news.example/o/" width="1"' in result.html


@pytest.mark.parametrize(
    "options", [{"tracking": TrackingMode.OFF}, {"link": None, "pixel_url": ""}, {"medium": Medium.WEB}]
)
def test_untracked_links_stay_as_they_are_and_there_is_no_pixel(options: dict[str, Any]) -> None:
    result = tracked(make_issue("[a](https://x.example)"), **options)
    assert "https://x.example" in hrefs(tree(result))
    assert result.links == ()
    assert "news.example/o/" not in result.html
    assert fields.Slot("delivery_token") not in result.slots


def test_only_web_addresses_are_tracked() -> None:
    body = "[a](mailto:a@x.example) [b](tel:+123) [c](#d) [e]({{ unsubscribe_url }}) [f]({{ upgrade_url }})"
    result = tracked(make_issue(body, upgrade_url="https://x.example/"))
    assert result.links == ()
    expected = {"mailto:a@x.example", "tel:+123", "#d", "https://news.example/u/1", "https://news.example/up"}
    assert expected <= set(hrefs(tree(result)))


def test_the_pixel_ends_the_mail_and_says_nothing() -> None:
    html = filled(tracked(make_issue("a")))
    assert html.endswith(
        '<img src="https://news.example/o/TOKEN" width="1" height="1" alt="" style="display:block"></body></html>'
    )


def test_the_text_holds_every_link_of_the_html() -> None:
    result = tracked(make_issue(FULL, FULL))
    text = filled(result, "text")
    missing = [href for href in hrefs(tree(result)) if href.removeprefix("mailto:") not in text]
    assert missing == []


def test_fields_work_in_subject_preheader_title_and_footer() -> None:
    hello = '{{ first_name|default:"you" }}'
    look = ThemeContent(footer=f"Bye {hello}")
    result = rendered(make_issue("a", subject=f"S {hello}", preheader=f"P {hello}", title=f"T {hello}", theme=look))
    assert filled(result, "subject") == "S Ada"
    assert filled(result, "preheader") == "P Ada"
    assert "T Ada" in visible_text(tree(result))
    assert tree(result).findtext("head/title") == "T Ada"
    assert "Bye Ada" in filled(result, "text")


def test_fallbacks_stand_where_a_reader_has_no_name() -> None:
    result = rendered(make_issue('Hi {{ name|default:"friend" }}'))
    assert "Hi friend" in fields.SlotTable(list(result.slots)).fill(result.html, {})


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"subject": "{{ nmae }}"}, "The subject: {{ nmae }}"),
        ({"preheader": "{{ name }}"}, "The preheader: {{ name }} needs a fallback"),
        ({"theme": ThemeContent(footer="{{ nmae }}")}, "The footer: {{ nmae }}"),
        ({"theme": ThemeContent(accent="blue")}, "The theme's accent 'blue' is no colour"),
        ({"theme": ThemeContent(dark_text="#fff")}, "The theme's dark text '#fff' is no colour"),
        ({"theme": ThemeContent(font="a}</style><script>")}, "The theme's font"),
        ({"theme": ThemeContent(logo_url="/logo.png")}, "The logo's address '/logo.png'"),
        ({"theme": ThemeContent(width=90)}, "The theme's width of 90 pixels"),
        ({"sections": (SectionContent("Papers", "{{ nmae }}"),)}, "Section “Papers”: {{ nmae }}"),
        ({"sections": (SectionContent("{{ nmae }}", "a"),)}, "{{ nmae }} is not a merge field"),
        ({"sections": (SectionContent("", "{{ nmae }}"),)}, "The lead: {{ nmae }}"),
    ],
)
def test_a_wrong_field_or_theme_is_named_with_its_place(change: dict[str, Any], where: str) -> None:
    issue = IssueContent(**{**vars(make_issue("a")), **change})
    assert where in rendering.problems(issue)[0]
    with pytest.raises(RenderingError, match=re.escape(where)):
        rendered(issue)


def test_problems_look_into_sections_that_only_some_readers_see() -> None:
    hidden = SectionContent("Papers", "{{ nmae }}", Audience(AudienceKind.FROM_TIER, 1))
    issue = make_issue("a", hidden)
    assert "Papers" not in rendered(issue).text
    assert "Section “Papers”" in rendering.problems(issue)[0]
    assert rendering.problems(make_issue(FULL)) == []


# Reader's links, locked sections, the web.


def test_a_mail_ends_with_the_way_out_and_the_postal_address() -> None:
    result = rendered(make_issue("a"))
    assert {VALUES["unsubscribe_url"], VALUES["preferences_url"], VALUES["web_url"]} <= set(hrefs(tree(result)))
    text = filled(result, "text")
    assert text.endswith("1 Lamp Street\nHarbour Town\n")
    assert "Unsubscribe:\nhttps://news.example/u/1\n" in text
    assert "1 Lamp Street" in visible_text(tree(result))


def test_a_readers_own_page_has_their_links_but_none_to_itself() -> None:
    result = rendered(make_issue("a"), medium=Medium.WEB)
    links = set(hrefs(tree(result)))
    assert VALUES["unsubscribe_url"] in links
    assert VALUES["web_url"] not in links


def test_everybodys_page_has_no_readers_links() -> None:
    body = "[leave]({{ unsubscribe_url }}) [choose]({{ preferences_url }}) [see]({{ web_url }}) [up]({{ upgrade_url }})"
    result = rendered(make_issue(body, upgrade_url="https://x.example/"), medium=Medium.WEB, for_reader=False)
    check_html(filled(result))
    assert hrefs(tree(result)) == [VALUES["upgrade_url"]]
    assert "leave choose see up" in visible_text(tree(result))
    assert "Unsubscribe" not in result.text


def test_a_locked_section_shows_its_heading_and_an_upgrade_button() -> None:
    locked = SectionContent(
        "Deep [dive](https://example.org/secret)", "Secret.", Audience(AudienceKind.FROM_TIER, 1), WhenLocked.TEASE
    )
    result = tracked(make_issue("a", locked, upgrade_url="https://shop.example/up"))
    assert "secret" not in (result.html + result.text).lower()
    assert "https://example.org/secret" not in repr(result)
    root = tree(result)
    assert root.find(".//h2").text_content() == "Deep dive"
    button = next(link for link in root.iter("a") if link.text == "Upgrade to read it")
    assert button.get("href") == VALUES["upgrade_url"]
    assert fields.Slot("upgrade_url", "https://shop.example/up") in result.slots
    assert "Deep dive\n---------\n" in result.text


@pytest.mark.parametrize("on_web", [False, True])
def test_a_locked_section_has_no_button_where_there_is_no_way_to_upgrade(on_web: bool) -> None:
    locked = SectionContent("Deep dive", "Secret.", Audience(AudienceKind.FROM_TIER, 1), WhenLocked.TEASE)
    result = rendered(make_issue("a", locked), medium=Medium.WEB if on_web else Medium.MAIL, for_reader=not on_web)
    check_html(filled(result))
    words = visible_text(tree(result))
    assert "Deep dive This part is for readers who support the newsletter." in words
    assert "Upgrade" not in words + result.text
    assert "Deep dive\n---------\n\nThis part is for readers" in result.text
    assert fields.Slot("upgrade_url") not in result.slots
    assert rendering.problems(make_issue("a", locked)) == []


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"sections": (SectionContent("", "[up]({{ upgrade_url }})"),)}, "The lead: "),
        ({"sections": (SectionContent("", "[up]({{ upgrade_url }}){.button}"),)}, "The lead: "),
        ({"sections": (SectionContent("Papers", "see {{ upgrade_url }}"),)}, "Section “Papers”: "),
        ({"sections": (SectionContent("[Up]({{ upgrade_url }})", "a"),)}, "Section “Up”: "),
        ({"subject": "{{ upgrade_url }}"}, "The subject: "),
        ({"theme": ThemeContent(footer="[up]({{ upgrade_url }})")}, "The footer: "),
    ],
)
def test_a_way_to_upgrade_that_the_newsletter_does_not_have_is_a_problem(change: dict[str, Any], place: str) -> None:
    issue = IssueContent(**{**vars(make_issue("a")), **change})
    (problem,) = rendering.problems(issue)
    assert problem.startswith(place)
    assert "the newsletter has no upgrade address" in problem
    assert VALUES["upgrade_url"] not in hrefs(tree(rendered(issue))), "a mail that goes out all the same leads nowhere"
    assert rendering.problems(IssueContent(**{**vars(issue), "upgrade_url": "https://shop.example/up"})) == []


def test_a_field_that_code_shows_needs_no_way_to_upgrade() -> None:
    assert rendering.problems(make_issue("Write `{{ upgrade_url }}`.")) == []


@pytest.mark.parametrize(
    ("language", "written"),
    [("en", "2 January 2026"), ("en-us", "2 January 2026"), ("de", "2. Januar 2026"), ("fr", "2 janvier 2026")],
)
def test_the_date_is_written_out_in_the_newsletters_language(language: str, written: str) -> None:
    result = rendered(make_issue("a", language=language, date=dt.date(2026, 1, 2)))
    assert written in visible_text(tree(result))
    assert written in result.text


# The text part.


def test_text_is_laid_out_to_be_read() -> None:
    body = (
        "A paragraph that is long enough to be wrapped because it has more than seventy-six characters in it.\n\n"
        "See [one](https://example.org/1) and [two](https://example.org/2).\n\n"
        "1. first\n2. second\n   - inner\n\n"
        "> quoted\n\n"
        "```\n  code stays\n```\n\n"
        "| Name | Size |\n|---|---|\n| Small | 1 |\n\n"
        "- [alone](https://example.org/3)\n"
    )
    result = rendered(make_issue("Lead.", body))
    expected = """Section 1
---------

A paragraph that is long enough to be wrapped because it has more than
seventy-six characters in it.

See one [1] and two [2].

[1] https://example.org/1
[2] https://example.org/2

1. first
2. second
   - inner

> quoted

      code stays

Name   Size
-----  ----
Small  1

- alone
  https://example.org/3
"""
    assert expected in result.text


def test_lines_of_text_are_short_but_addresses_whole() -> None:
    address = "https://example.org/" + "long/" * 30
    result = rendered(make_issue(f"{'word ' * 60}\n\n- [a]({address})\n- {'item ' * 40}\n\n> {'said ' * 40}"))
    lines = filled(result, "text").split("\n")
    assert max(len(line) for line in lines if "https://" not in line) <= 76
    assert f"  {address}" in lines


def test_a_table_too_wide_for_a_line_becomes_a_list_of_its_cells() -> None:
    row = "| " + " | ".join(["a fairly long cell"] * 5) + " |"
    result = rendered(make_issue(f"| One | Two | Three | Four | Five |\n|---|---|---|---|---|\n{row}"))
    assert "One: a fairly long cell\nTwo: a fairly long cell" in result.text


def test_raw_html_keeps_its_words_and_links_in_the_text() -> None:
    body = (
        '<details><summary>More</summary>\nWords <a href="https://example.org/a">here</a></details>\n\n'
        "a<br>b <script>no</script>"
    )
    text = rendered(make_issue(body)).text
    assert "More" in text
    assert "Words here" in text
    assert "https://example.org/a" in text
    assert "a\nb" in text
    assert "no" not in text.partition("a\nb")[2].partition("-----")[0]


def test_text_only_has_no_html() -> None:
    result = tracked(make_issue(FULL), text_only=True)
    assert (result.html, result.html_bytes, result.section_bytes) == ("", 0, ())
    assert "https://example.org/story" in result.links


# The preheader.


def test_the_authors_preheader_is_kept() -> None:
    assert rendered(make_issue("a", preheader="As written.")).preheader == "As written."


def test_a_preheader_is_made_of_the_first_words_this_reader_sees() -> None:
    paid = SectionContent(
        "Papers", "Secret words that are for paying readers only, and long.", Audience(AudienceKind.FROM_TIER, 1)
    )
    issue = make_issue(
        paid, SectionContent("News", "## Oh\n\nThe [harbour](https://example.org) has a new lamp, and it is `bright`.")
    )
    assert rendered(issue).preheader == "Oh The harbour has a new lamp, and it is bright."
    assert rendered(issue, Profile(tier_level=1)).preheader.startswith("Secret words")


def test_a_preheader_skips_code_and_tables() -> None:
    line = rendered(make_issue("```\ncode\n```\n\n| a |\n|---|\n| b |\n\nWords.")).preheader
    assert line == "Words."


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["C"]), max_size=80).map(lambda t: " ".join(t.split())), max_size=9
    )
)
def test_a_preheader_is_never_too_long_nor_cut_inside_a_word(passages: list[str]) -> None:
    whole = " ".join(passage for passage in passages if passage)
    line = preheader.shorten(passages)
    assert len(line) <= preheader.LONGEST
    if line.endswith("…") and not whole.startswith(line):
        assert whole.startswith(line[:-1])
    else:
        assert whole.startswith(line)


def test_a_preheader_is_not_cut_inside_a_slot() -> None:
    line = preheader.shorten(["字" * 107 + fields.marker(12) + "字" * 20])
    assert fields.without_markers(line).count("\ue000") == 0


def test_the_preheader_comes_first_hidden_and_followed_by_filler() -> None:
    root = tree(rendered(make_issue("a", preheader="As written.")))
    first = root.find("body")[0]
    assert first.text_content().startswith("As written.")
    assert "display:none" in first.get("style")
    assert first.find("span").get("aria-hidden") == "true"
    assert not first.find("span").text.strip("\u034f\u2007")


# Sizes.


def test_sections_are_measured() -> None:
    result = rendered(make_issue("a", "word " * 2000))
    assert [heading for heading, _ in result.section_bytes] == ["", "Section 1"]
    assert result.section_bytes[1][1] > 10_000 > result.section_bytes[0][1]
    assert sum(size for _, size in result.section_bytes) < result.html_bytes
    assert "<!--section" not in result.html


def test_measured_is_what_a_reader_is_sent() -> None:
    result = tracked(make_issue("[a](https://x.example) " * 20))
    values = {**sizes.TYPICAL, "delivery_token": "y" * 22}
    assert result.html_bytes == len(fields.SlotTable(list(result.slots)).fill(result.html, values).encode())


def test_a_big_mail_is_warned_of_with_its_biggest_sections() -> None:
    small, big, bigger = "a", "word " * 8_000, "word " * 13_000
    (warning,) = rendered(make_issue(small, big, bigger)).warnings
    assert "Gmail cuts it off after 102,000" in warning
    assert re.search(
        r"“Section 2” \(6\d,\d{3} bytes\), “Section 1” \(4\d,\d{3} bytes\), “the lead” \(\d+ bytes\)", warning
    )


def test_a_mail_close_to_the_limit_is_warned_of_mildly() -> None:
    (warning,) = rendered(make_issue("word " * 17_000)).warnings
    assert "comes close to the 102,000" in warning


def test_a_small_mail_is_small() -> None:
    assert rendered(make_issue("Hello.")).html_bytes < 12_000


# Themes and overridden partials.


@pytest.fixture
def partials(tmp_path: Path, settings: Settings) -> Callable[[str, str], None]:
    """Writes a template file of a newsletter into a folder that comes before the project's."""
    (base,) = settings.TEMPLATES
    settings.TEMPLATES = [{**base, "DIRS": [tmp_path, *base["DIRS"]]}]

    def write(name: str, source: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")

    return write


def test_two_newsletters_look_different(partials: Callable[[str, str], None]) -> None:
    partials(
        "newsletters/harbour/mjml/heading.mjml",
        '<mj-text css-class="body harbour" align="center"><h2>~ {{ html }} ~</h2></mj-text>',
    )
    partials(
        "newsletters/harbour/mjml/divider.mjml", '<mj-divider border-color="{{ theme.accent }}" border-width="5px" />'
    )
    partials("newsletters/night/mjml/footer.mjml", '{% include "newsletters/night/mjml/legal.mjml" %}')
    partials(
        "newsletters/night/mjml/legal.mjml",
        '<mj-section><mj-column><mj-text font-size="14px">Night, {{ address }}</mj-text></mj-column></mj-section>',
    )
    body = "a\n\n---\n\nb"
    light = ThemeContent(
        accent="#8a1c1c", font="Georgia, serif", logo_url="https://harbour.example/logo.png", logo_alt="Harbour"
    )
    dark = ThemeContent(
        surface="#14213d", background="#000000", text="#e5e5e5", muted="#b0b0b0", accent="#fca311", width=520
    )
    harbour = rendered(make_issue(body, body, newsletter_slug="harbour", theme=light))
    night = rendered(make_issue(body, body, newsletter_slug="night", theme=dark, language="de"))
    plain = rendered(make_issue(body, body))
    for result in (harbour, night, plain):
        check_html(filled(result))
    assert "~ Section 1 ~" in harbour.html
    assert "border-top:solid 5px #8a1c1c" in harbour.html
    assert "font-family:Georgia, serif" in harbour.html
    assert 'src="https://harbour.example/logo.png"' in harbour.html
    assert "Night, 1 Lamp Street" in night.html
    assert "max-width:520px" in night.html
    assert "#14213d" in night.html
    for words in ("~ Section 1 ~", "Night, ", "#8a1c1c", "#14213d"):
        assert words not in plain.html


@pytest.mark.parametrize(
    ("partial", "source", "line", "words"),
    [
        ("button", "\n{% nosuch %}", 2, "Invalid block tag"),
        ("button", "\n\n{% if href %}<mj-spacer />", 3, "Unclosed tag"),
        ("button", "{{ href|nosuch }}", 1, "Invalid filter"),
        ("text", "\n<mj-text><p>{{ html }}</mj-text>", 2, "<p> is never closed"),
        ("text", "\n\n<mj-txt>{{ html }}</mj-txt>", 3, "is not an MJML component"),
        ("text", "<mj-text\nsize='3'>{{ html }}</mj-text>", 2, "no attribute size"),
        ("text", "<mj-section></mj-section>", 1, "cannot stand in <mj-column>"),
        ("layout", "<mjml>\n</mjml>", 1, "has no <mj-body>"),
        ("footer", '\n{% include "newsletters/weekly/mjml/gone.mjml" %}', 2, "does not exist"),
    ],
)
def test_a_malformed_partial_is_an_error_with_file_and_line(
    partials: Callable[[str, str], None], partial: str, source: str, line: int, words: str
) -> None:
    partials(f"newsletters/weekly/mjml/{partial}.mjml", source)
    issue = make_issue("[a](https://example.org){.button}\n\nb")
    with pytest.raises(RenderingError) as caught:
        rendered(issue)
    assert str(caught.value).startswith(f"newsletters/weekly/mjml/{partial}.mjml, line {line}: ")
    assert words in str(caught.value)
    assert str(caught.value) in rendering.problems(issue)
    assert rendering.problems(make_issue("a", newsletter_slug="other")) == []


def test_a_malformed_included_file_is_named_itself(partials: Callable[[str, str], None]) -> None:
    partials("newsletters/weekly/mjml/footer.mjml", '{% include "newsletters/weekly/mjml/inner.mjml" %}')
    partials("newsletters/weekly/mjml/inner.mjml", "\n\n{% nosuch %}")
    assert rendering.problems(make_issue("a"))[0].startswith("newsletters/weekly/mjml/inner.mjml, line 3: ")


def test_a_partial_that_is_no_text_is_an_error(partials: Callable[[str, str], None], tmp_path: Path) -> None:
    partials("newsletters/weekly/mjml/footer.mjml", "")
    (tmp_path / "newsletters/weekly/mjml/footer.mjml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RenderingError, match=r"footer\.mjml is not UTF-8"):
        rendered(make_issue("a"))


def test_text_only_needs_no_template(partials: Callable[[str, str], None]) -> None:
    partials("newsletters/weekly/mjml/layout.mjml", "<mjml>")
    assert rendered(make_issue("a"), text_only=True).text


# Values, and real issues.


def test_a_rendering_survives_json() -> None:
    result = tracked(make_issue(FULL))
    assert Rendered.from_json(result.as_json()) == result


def test_the_same_view_gives_the_same_bytes() -> None:
    assert tracked(make_issue(FULL)) == tracked(make_issue(FULL))


@pytest.mark.parametrize(
    "name",
    [
        "2024-01-03-this-week-in-rust.md",
        "2026-08-19-this-week-in-rust.md",
        "mlwhiz-weekly-03.txt",
        "mlwhiz-weekly-10.txt",
    ],
)
def test_a_real_issue_is_well_formed_and_small_enough(name: str, samples: Path) -> None:
    parsed = authoring.read((samples / "issues" / name).read_bytes(), filename=name)
    issue = make_issue(*(SectionContent(section.heading, section.body) for section in parsed.sections))
    result = rendered(issue)
    check_html(filled(result))
    assert result.warnings == ()
    assert result.html_bytes < sizes.CLOSE_TO_IT
