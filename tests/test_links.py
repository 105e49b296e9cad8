"""Links in an issue: which are tracked, what they tell the author's web statistics, and which stay as they are."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsletter import authoring, fields, gate, rendering, utm
from newsletter.content import IssueContent, Profile, SectionContent, ThemeContent, TrackingMode, UtmContent
from newsletter.rendering import Medium, Rendered

TAGS = UtmContent("{newsletter}", "email", "{newsletter}-{number}")
TAGGED = "utm_source=weekly&utm_medium=email&utm_campaign=weekly-7"
URLS = {name: f"https://news.example/{name}" for name in ("unsubscribe_url", "preferences_url", "web_url")}

parts = st.text(st.sampled_from("aZ09-._~%41%2F%26=&;+:@!$'()*,/?ä日"), max_size=40)
urls = st.builds(
    lambda scheme, user, host, port, path, query, fragment: (
        f"{scheme}://{user}{host}{port}/{path.replace('?', '')}{query}{fragment}"
    ),
    st.sampled_from(["http", "https"]),
    st.sampled_from(["", "ada@", "ada:s3cret@"]),
    st.sampled_from(["example.org", "bücher.example", "xn--bcher-kva.example", "127.0.0.1", "[::1]"]),
    st.sampled_from(["", ":8080"]),
    parts,
    parts.map(lambda text: f"?{text}") | st.just(""),
    parts.map(lambda text: f"#{text}") | st.just(""),
)


def make_issue(*bodies: str, **fields_: Any) -> IssueContent:
    defaults = {"newsletter_slug": "weekly", "newsletter_name": "The Weekly", "number": 7, "date": dt.date(2026, 8, 19)}
    lines = {"title": "Lamps & ladders", "subject": "Lamps", "preheader": ""}
    sections = tuple(SectionContent("", body) for body in bodies)
    return IssueContent(**{**defaults, **lines, "sections": sections, **fields_})


def rendered(issue: IssueContent, mode: TrackingMode = TrackingMode.ANONYMOUS, **options: Any) -> Rendered:
    options = {"link": lambda url: f"https://news.example/c/{url.encode().hex()}", **options}
    return rendering.render(gate.view(issue, Profile()), tracking=mode, **options)


def both_parts(result: Rendered) -> list[str]:
    table = fields.SlotTable(list(result.slots))
    return [table.fill(part, URLS).replace("&amp;", "&") for part in (result.html, result.text)]


@pytest.mark.parametrize(
    "body",
    [
        "See [this](https://x.example/a?b=c#d){.untracked}.",
        "[this](https://x.example/a?b=c#d){.button .untracked}",
        "[this](https://x.example/a?b=c#d){.untracked .button}",
        '[this](https://x.example/a?b=c#d "A title"){.untracked}',
        "[![A lamp](https://x.example/lamp.png)](https://x.example/a?b=c#d){.untracked}",
        "See <https://x.example/a?b=c#d>{.untracked}",
        "See [this][there]{.untracked}.\n\n[there]: https://x.example/a?b=c#d",
        'See <a class="untracked" href="https://x.example/a?b=c#d">this</a>.',
        '<div><a href="https://x.example/a?b=c#d" class="untracked">this</a></div>',
        "| a |\n|---|\n| [this](https://x.example/a?b=c#d){.untracked} |",
        "> [this](https://x.example/a?b=c#d){.untracked}",
        "Note[^1]\n\n[^1]: [this](https://x.example/a?b=c#d){.untracked}",
    ],
)
@pytest.mark.parametrize("mode", [TrackingMode.ANONYMOUS, TrackingMode.INDIVIDUAL])
def test_an_untracked_link_stays_as_it_is_in_both_parts(body: str, mode: TrackingMode) -> None:
    result = rendered(make_issue(body, utm=TAGS), mode)
    assert result.links == ()
    assert result.warnings == ()
    for part in both_parts(result):
        assert "https://x.example/a?b=c#d" in part
        assert "untracked" not in part
        assert "utm_" not in part


def test_only_the_marked_link_is_untracked() -> None:
    result = rendered(make_issue("[a](https://x.example){.untracked} [b](https://x.example) [c](https://y.example)"))
    assert result.links == ("https://x.example", "https://y.example")
    html, text = both_parts(result)
    assert 'href="https://x.example"' in html
    assert "] https://x.example\n" in text


def test_the_footer_may_hold_an_untracked_link() -> None:
    look = ThemeContent(footer="[Imprint](https://x.example/imprint){.untracked}")
    result = rendered(make_issue("Hello.", theme=look))
    assert result.links == ()
    assert all("https://x.example/imprint" in part for part in both_parts(result))


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("{.untraked}", ".untraked"),
        ("{.button .untrackd}", ".untrackd"),
        ("{untracked}", "{untracked} (which readers see)"),
        ("{untracked=yes}", "untracked"),
        ("{#untracked}", "id"),
    ],
)
def test_a_misspelt_mark_is_said_with_its_place(mark: str, said: str) -> None:
    [warning] = rendered(make_issue(f"A [link](https://x.example/a){mark} here.")).warnings
    assert warning == (
        f"The lead: Behind the link to https://x.example/a stands {said}, which means nothing: "
        "there are {.button} and {.untracked}."
    )


@pytest.mark.parametrize("body", ["[a](https://x.example/a) {later}", "`[a](https://x.example){x}`", "{x} alone"])
def test_braces_elsewhere_are_words(body: str) -> None:
    assert rendered(make_issue(body)).warnings == ()


def test_importing_keeps_the_mark() -> None:
    body = "See [this](https://x.example/a){.untracked}."
    parsed = authoring.read(f"# The week\n\nLead.\n\n## News\n\n{body}\n".encode(), filename="issue.md")
    assert body in [section.body.strip() for section in parsed.sections]


@pytest.mark.parametrize("mode", TrackingMode)
def test_links_say_which_issue_they_come_from_whatever_is_tracked(mode: TrackingMode) -> None:
    result = rendered(make_issue("[a](https://x.example/?b=1#c)", utm=TAGS), mode)
    there = f"https://x.example/?b=1&{TAGGED}#c"
    if mode == TrackingMode.OFF:
        assert all(there in part for part in both_parts(result))
    else:
        assert result.links == (there,)
        assert all(there.encode().hex() in part for part in both_parts(result))


def test_nothing_is_added_where_the_newsletter_does_not_ask_for_it() -> None:
    assert "utm_" not in rendered(make_issue("[a](https://x.example/)"), TrackingMode.OFF).html


def test_a_page_in_the_browser_and_a_single_message_say_nothing_of_the_mail() -> None:
    issue = make_issue("[a](https://x.example/)", utm=TAGS)
    assert "utm_" not in rendered(issue, medium=Medium.WEB).html
    assert "utm_" not in rendered(replace(issue, single=True), TrackingMode.OFF).html


def test_links_of_the_reader_and_to_people_get_no_parameters() -> None:
    body = "[a](mailto:a@x.example) [b](tel:+123) [c](#d) [e]({{ unsubscribe_url }}) [f]({{ preferences_url }})"
    for part in both_parts(rendered(make_issue(body, utm=TAGS), TrackingMode.OFF)):
        assert "utm_" not in part
        assert URLS["unsubscribe_url"] in part


@pytest.mark.parametrize(
    ("hosts", "host", "tagged"),
    [
        (("example.org",), "example.org", True),
        (("example.org",), "EXAMPLE.org", True),
        (("example.org",), "shop.example.org", True),
        (("example.org",), "example.org:8443", True),
        (("example.org",), "ada@example.org", True),
        (("example.org",), "notexample.org", False),
        (("example.org",), "example.org.evil.example", False),
        (("example.org",), "example.org@evil.example", False),
        (("bücher.example",), "xn--bcher-kva.example", True),
        (("xn--bcher-kva.example",), "www.bücher.example", True),
        ((), "whatever.example", True),
    ],
)
def test_only_links_to_the_hosts_that_are_named_get_parameters(hosts: tuple[str, ...], host: str, tagged: bool) -> None:
    tag = utm.tagger(make_issue("a", utm=replace(TAGS, hosts=hosts)))
    assert ("utm_" in tag(f"https://{host}/")) is tagged


@pytest.mark.parametrize(
    ("url", "becomes"),
    [
        ("https://x.example", f"https://x.example?{TAGGED}"),
        ("https://x.example/a?", f"https://x.example/a?{TAGGED}"),
        ("https://x.example/a?b&", f"https://x.example/a?b&{TAGGED}"),
        ("https://x.example/a#/route?x=1", f"https://x.example/a?{TAGGED}#/route?x=1"),
        ("https://x.example/?a=1&a=2&a=", f"https://x.example/?a=1&a=2&a=&{TAGGED}"),
        ("https://x.example/?a=%26%3D&b=ä", f"https://x.example/?a=%26%3D&b=ä&{TAGGED}"),
        (
            "https://x.example/?utm_source=mine",
            "https://x.example/?utm_source=mine&utm_medium=email&utm_campaign=weekly-7",
        ),
        ("https://x.example/?UTM_Source=&utm_medium=a&utm%5Fcampaign=b", None),
    ],
)
def test_query_and_fragment_stay_and_a_links_own_parameters_win(url: str, becomes: str | None) -> None:
    assert utm.tagger(make_issue("a", utm=TAGS))(url) == (becomes or url)


@given(urls)
def test_any_url_keeps_all_it_had(url: str) -> None:
    tagged = utm.tag(url, values={"utm_source": "a b&c=d#e", "utm_campaign": "é"})
    before, after = urlsplit(url), urlsplit(tagged)
    assert (after.scheme, after.netloc, after.path, after.fragment) == (*before[:3], before.fragment)
    assert after.query.startswith(before.query)
    had = parse_qsl(before.query, keep_blank_values=True)
    assert parse_qsl(after.query, keep_blank_values=True) == [*had, ("utm_source", "a b&c=d#e"), ("utm_campaign", "é")]
    assert utm.tag(tagged, values={"utm_source": "other", "utm_campaign": "x"}) == tagged


def test_entities_in_an_address_are_decoded_once() -> None:
    result = rendered(make_issue("[a](https://x.example/?a=1&amp;b=%26amp%3B&copy=2)", utm=TAGS))
    assert result.links == (f"https://x.example/?a=1&b=%26amp%3B&copy=2&{TAGGED}",)


@pytest.mark.parametrize(
    ("template", "number", "said"),
    [
        ("{newsletter}-{number}", 12, "weekly-12"),
        ("{newsletter}-{number}", None, "weekly"),
        ("{title}", 1, "lamps-ladders"),
        ("autumn", 1, "autumn"),
        ("", 1, ""),
    ],
)
def test_a_value_names_the_issue(template: str, number: int | None, said: str) -> None:
    assert utm.fill(template, make_issue("a", number=number)) == said


@pytest.mark.parametrize("wrong", ["{nummer}", "{number", "number}", "{{ number }}"])
def test_a_field_that_there_is_not_is_said(wrong: str) -> None:
    assert "{newsletter}, {number}, {title}" in utm.problem(wrong)
    assert utm.problem("{newsletter}-{number} {title}") == ""


def test_parameters_are_frozen_with_the_issue() -> None:
    issue = make_issue("a", utm=replace(TAGS, hosts=("x.example",)))
    assert IssueContent.from_json(json.loads(json.dumps(issue.as_json()))) == issue
    older = issue.as_json()
    del older["utm"]
    assert IssueContent.from_json(older).utm == UtmContent()
