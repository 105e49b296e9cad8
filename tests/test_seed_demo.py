"""The demo's newsletter: what it shows, and that a second run leaves it alone."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import Any

import pytest
from django.core.management import call_command
from django.db.models import Model

from newsletter import gate, rendering
from newsletter.content import Profile, TrackingMode
from newsletter.demo import seeding
from newsletter.models import Issue, Newsletter, Section, StandingSection, Theme
from subscribers.models import ConsentRecord, Membership, Subscriber, Subscription, Tier
from tests.making import make_newsletter

pytestmark = pytest.mark.django_db

MODELS: tuple[type[Model], ...] = (
    Newsletter,
    Theme,
    StandingSection,
    Issue,
    Section,
    Subscriber,
    Subscription,
    Membership,
    ConsentRecord,
    Tier,
)


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("seed_demo", *arguments, stdout=out)
    return out.getvalue()


def everything() -> dict[str, list[dict[str, Any]]]:
    return {model.__name__: list(model._base_manager.order_by("pk").values()) for model in MODELS}


def test_answers_in_json_with_readers_on_three_tiers_and_two_issues() -> None:
    answer = json.loads(run("--json"))
    assert answer == {
        "newsletter": "weekly",
        "readers": 60,
        "tiers": {"free": 43, "paid": 13, "founding": 4},
        "issues": list(Issue.objects.order_by("number").values_list("pk", flat=True)),
        "changed": True,
    }
    assert list(Issue.objects.order_by("number").values_list("number", flat=True)) == [1, 2]


def test_a_second_run_changes_nothing_and_says_so() -> None:
    assert "60 readers" in run()
    before = everything()
    assert "nothing was changed" in run()
    assert everything() == before
    assert json.loads(run("--json"))["changed"] is False


def test_a_newsletter_of_that_name_that_somebody_made_is_left_alone() -> None:
    make_newsletter(slug=seeding.SLUG)
    assert "nothing was changed" in run()
    assert not Subscriber.objects.exists()
    assert not Issue.objects.exists()


def test_one_reader_paused_one_left_and_one_reads_text_only() -> None:
    seeding.seed()
    statuses = Counter(Subscription.objects.values_list("status", flat=True))
    assert statuses == {"active": 58, "paused": 1, "unsubscribed": 1}
    assert Subscriber.objects.filter(text_only=True).count() == 1
    domains = {address.rpartition("@")[2] for address in Subscriber.objects.values_list("address", flat=True)}
    assert domains == {"example.org", "example.com", "example.net"}


def test_every_section_is_a_standing_one_and_one_is_for_paid_readers() -> None:
    seeding.seed()
    for issue in Issue.objects.all():
        lead, *others = issue.sections.all()
        assert lead.heading == ""
        pitch = [section for section in others if section.audience == Section.AudienceChoice.BELOW_TIER]
        assert all(section.standing_section for section in others if section not in pitch)
        paid = [section for section in others if section.audience == Section.AudienceChoice.FROM_TIER]
        assert [(section.heading, section.when_locked) for section in paid] == [("🧠 Papers That Matter", "tease")]
        assert paid[0].tier is not None
        assert paid[0].tier.level == 1


def test_only_readers_who_do_not_pay_are_asked_to() -> None:
    seeding.seed()
    first = Issue.objects.get(number=1).content()
    for level, asked in ((None, True), (0, True), (1, False), (2, False)):
        rendered = rendering.render(gate.view(first, Profile(tier_level=level)), tracking=TrackingMode.OFF)
        for part in (rendered.html, rendered.text):
            assert ("Would you like the papers too?" in part) == asked
            assert ("Become a paid reader" in part) == asked
            assert ("practise forgetting" in " ".join(part.split())) != asked


@pytest.mark.parametrize("level", [0, 1, 2])
def test_every_issue_renders_for_every_tier_without_a_warning(level: int) -> None:
    seeding.seed()
    for issue in Issue.objects.all():
        content = issue.content()
        assert rendering.problems(content) == []
        rendered = rendering.render(gate.view(content, Profile(tier_level=level)), tracking=TrackingMode.OFF)
        assert rendered.warnings == ()
        secret = "practise forgetting" if issue.number == 1 else "rooms of"
        assert (secret in " ".join(rendered.html.split())) == (level >= 1)
        assert (secret in " ".join(rendered.text.split())) == (level >= 1)
