"""The gate: who sees which section, and that nothing else gets out."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from newsletter import gate, rendering
from newsletter.content import (
    Audience,
    AudienceKind,
    IssueContent,
    Profile,
    SectionContent,
    TrackingMode,
    WhenLocked,
)

FREE, PAID, FOUNDING = 0, 1, 2


def make_section(heading: str = "News", body: str = "Text.", **fields: object) -> SectionContent:
    return SectionContent(heading, body, **fields)  # type: ignore[arg-type]


def make_issue(*sections: SectionContent, **fields: object) -> IssueContent:
    values: dict[str, object] = {
        "newsletter_slug": "weekly",
        "newsletter_name": "The Weekly",
        "number": 3,
        "title": "An issue",
        "subject": "An issue",
        "preheader": "",
        **fields,
    }
    return IssueContent(sections=sections, **values)  # type: ignore[arg-type]


def headings(issue: IssueContent, profile: Profile) -> list[str]:
    return [section.heading for section in gate.visible_sections(issue, profile)]


def from_tier(level: int | None) -> Audience:
    return Audience(AudienceKind.FROM_TIER, level)


def below_tier(level: int | None) -> Audience:
    return Audience(AudienceKind.BELOW_TIER, level)


def test_a_section_for_everyone_is_seen_by_every_tier() -> None:
    assert all(gate.may_see(Audience(), level) for level in (None, FREE, PAID, FOUNDING))


def test_a_section_from_a_tier_is_seen_by_that_tier_and_those_above() -> None:
    assert [gate.may_see(from_tier(PAID), level) for level in (FREE, PAID, FOUNDING)] == [False, True, True]


def test_a_section_below_a_tier_is_seen_only_below_it() -> None:
    assert [gate.may_see(below_tier(PAID), level) for level in (FREE, PAID, FOUNDING)] == [True, False, False]


def test_an_unknown_tier_of_the_reader_is_taken_as_free() -> None:
    assert not gate.may_see(from_tier(PAID), None)
    assert gate.may_see(below_tier(PAID), None)


def test_a_section_of_a_deleted_tier_is_seen_by_nobody() -> None:
    assert not any(gate.may_see(from_tier(None), level) for level in (None, FREE, PAID, FOUNDING))


def test_an_upgrade_prompt_of_a_deleted_tier_is_seen_by_all() -> None:
    assert all(gate.may_see(below_tier(None), level) for level in (None, FREE, PAID, FOUNDING))


def test_an_unknown_kind_of_audience_is_seen_by_nobody() -> None:
    assert not any(gate.may_see(Audience("friends", FREE), level) for level in (None, FOUNDING))  # type: ignore[arg-type]


def test_a_locked_section_is_left_out_or_leaves_its_heading() -> None:
    hidden = make_section("Papers", "Secret.", audience=from_tier(PAID))
    teased = make_section("Deep dive", "Secret.", audience=from_tier(PAID), when_locked=WhenLocked.TEASE)
    seen = gate.visible_sections(make_issue(hidden, teased), Profile())
    assert seen == (gate.LockedSection("Deep dive"),)


def test_an_upgrade_prompt_leaves_no_heading_with_those_it_is_not_for() -> None:
    prompt = make_section("Join us", audience=below_tier(PAID), when_locked=WhenLocked.TEASE)
    assert headings(make_issue(prompt), Profile(tier_level=PAID)) == []


def test_a_muted_standing_section_is_left_out_even_where_it_is_locked() -> None:
    muted = make_section("Jobs", standing_section=7)
    locked = make_section("Papers", audience=from_tier(PAID), when_locked=WhenLocked.TEASE, standing_section=8)
    kept = make_section("News", standing_section=9)
    assert headings(make_issue(muted, locked, kept), Profile(muted=frozenset({7, 8}))) == ["News"]


def test_sections_keep_their_order() -> None:
    issue = make_issue(*(make_section(name) for name in "badc"))
    assert headings(issue, Profile()) == list("badc")


def test_a_view_holds_nothing_but_what_may_be_seen() -> None:
    issue = make_issue(make_section("Papers", "Secret.", audience=from_tier(PAID)), make_section("News", "Open."))
    view = gate.view(issue, Profile())
    assert "Secret" not in repr(view)
    assert view.issue.sections == ()


levels = st.one_of(st.none(), st.integers(0, 3))
audiences = st.builds(Audience, st.sampled_from(AudienceKind), levels)
markdown_forms = st.sampled_from(
    [
        "{}",
        'Hi {{{{ first_name|default:"{}" }}}}',
        "- {}\n- more",
        "[label](https://example.org/{})",
        '[label](https://example.org "{}")',
        "![{}](https://example.org/a.png)",
        "```\n{}\n```",
        "| a |\n|---|\n| {} |",
        "<details>{}</details>",
        "note[^1]\n\n[^1]: {}",
        "### {}",
        "[Go](https://example.org/{}){{.button}}",
    ]
)


@st.composite
def issues(draw: st.DrawFn) -> IssueContent:
    """Issues whose sections each hold a word of their own in heading and body: secret-heading-N and secret-body-N."""
    sections = [
        SectionContent(
            heading=draw(st.sampled_from(["", f"secret-heading-{index}-x"])),
            body=draw(markdown_forms).format(f"secret-body-{index}-x"),
            audience=draw(audiences),
            when_locked=draw(st.sampled_from(WhenLocked)),
            standing_section=draw(st.one_of(st.none(), st.integers(1, 3))),
        )
        for index in range(draw(st.integers(1, 5)))
    ]
    return make_issue(*sections, upgrade_url=draw(st.sampled_from(["", "https://example.org/up"])))


profiles = st.builds(
    Profile,
    tier_level=levels,
    muted=st.frozensets(st.integers(1, 3)),
    text_only=st.booleans(),
    tracking=st.sampled_from(TrackingMode),
)


def everything_rendered(issue: IssueContent, profile: Profile) -> str:
    rendered = rendering.render(
        gate.view(issue, profile),
        tracking=profile.tracking,
        text_only=profile.text_only,
        link=lambda url: f"https://news.example/c/{url}/",
        pixel_url="https://news.example/o/",
    )
    return repr(rendered)


@given(issues(), profiles)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_byte_of_a_section_reaches_a_reader_it_is_not_for(issue: IssueContent, profile: Profile) -> None:
    out = everything_rendered(issue, profile)
    level = profile.tier_level or FREE
    for index, section in enumerate(issue.sections):
        muted = section.standing_section in profile.muted
        audience = section.audience
        allowed = {
            AudienceKind.EVERYONE: True,
            AudienceKind.FROM_TIER: audience.tier_level is not None and level >= audience.tier_level,
            AudienceKind.BELOW_TIER: audience.tier_level is None or level < audience.tier_level,
        }[audience.kind]
        teased = section.when_locked == WhenLocked.TEASE and audience.kind == AudienceKind.FROM_TIER
        shown = f"secret-body-{index}-x" in out
        assert shown == (allowed and not muted) or (profile.text_only and not shown)  # text has no titles of links
        if section.heading:
            assert (f"secret-heading-{index}-x" in out) == ((allowed or teased) and not muted)


@given(issues(), st.integers(0, 3), st.integers(0, 3))
def test_a_higher_tier_sees_all_that_a_lower_one_sees_but_upgrade_prompts(
    issue: IssueContent, one: int, other: int
) -> None:
    lower, higher = sorted((one, other))
    seen_below = [s for s in issue.sections if gate.may_see(s.audience, lower)]
    lost = [s for s in seen_below if not gate.may_see(s.audience, higher)]
    assert all(section.audience.kind == AudienceKind.BELOW_TIER for section in lost)
