from __future__ import annotations

from collections import Counter

from newsletter import commands
from newsletter.commands import Answer
from newsletter.demo import seeding
from newsletter.models import Newsletter
from subscribers import importing
from subscribers.models import Subscription, Tier, tier_level_of


class Command(commands.Command):
    """`manage.py seed_demo`: a newsletter with readers and issues to look at; a second run changes nothing."""

    help = f"Make the newsletter {seeding.SLUG} with sections, readers on three tiers and two issues."
    refusals = (importing.ImportRefused,)

    def run(self, options: commands.Options) -> Answer:
        """Seed, or leave the newsletter that is there, and say what it has."""
        made = seeding.seed()
        newsletter = Newsletter.objects.get(slug=seeding.SLUG)
        levels = Subscription.objects.filter(newsletter=newsletter).values_list(tier_level_of("subscriber"), flat=True)
        held = Counter(levels)
        tiers = {tier.slug: held[tier.level] for tier in Tier.objects.all()}
        issues = list(newsletter.issues.order_by("number", "pk"))
        readers = held.total()
        first = "" if made else f"There is a newsletter {newsletter.slug} already; nothing was changed.\n"
        text = (
            f"{first}“{newsletter.name}” ({newsletter.slug}) has {readers} readers ("
            + ", ".join(f"{tier} {count}" for tier, count in tiers.items())
            + f") and {len(issues)} issues:\n"
            + commands.table(["issue", "title"], [(issue.pk, issue.title) for issue in issues])
        )
        data = {
            "newsletter": newsletter.slug,
            "readers": readers,
            "tiers": tiers,
            "issues": [issue.pk for issue in issues],
            "changed": made,
        }
        return Answer(text, data)
