from __future__ import annotations

from django.core.management.base import CommandError, CommandParser

from newsletter import commands, creation, utm
from newsletter.commands import Answer
from newsletter.models import Newsletter

_FIELDS = (
    "from_address",
    "from_name",
    "language",
    "time_zone",
    "postal_address",
    "tracking",
    "ask_first",
    "upgrade_url",
    "utm_source",
    "utm_medium",
    "utm_campaign",
    "utm_hosts",
)


class Command(commands.Command):
    """`manage.py create_newsletter SLUG --name NAME`: begin a newsletter, with the default look and tiers."""

    help = "Create a newsletter; what is not given here can be changed in the admin."

    def add_arguments(self, parser: CommandParser) -> None:
        """SLUG stands in the newsletter's address; everything but the name has a default."""
        parser.add_argument("slug", help="Its word in addresses and commands: letters, digits, hyphens.")
        parser.add_argument("--name", required=True, help="What readers know it by.")
        parser.add_argument("--from-address", help="The address that its mail comes from.")
        parser.add_argument("--from-name", help="The sender's name; the newsletter's without it.")
        parser.add_argument("--language", help="Its language, like en or pt-BR.")
        parser.add_argument("--time-zone", help="The author's time zone, like Europe/Berlin.")
        parser.add_argument("--postal-address", help="Stands in every mail; the law asks for it.")
        parser.add_argument("--tracking", choices=Newsletter.Tracking.values, help="Without it anonymous.")
        parser.add_argument(
            "--ask-first",
            action="store_true",
            help="With individual tracking: only readers who agreed; without it those never asked, too.",
        )
        parser.add_argument("--upgrade-url", help="Where a reader gets a higher tier.")
        parser.add_argument("--utm-source", help="What links tell web statistics: utm_source, like {newsletter}.")
        parser.add_argument("--utm-medium", help="utm_medium, as a rule email.")
        parser.add_argument("--utm-campaign", help="utm_campaign, like {newsletter}-{number}.")
        parser.add_argument("--utm-hosts", help="Only links to these hosts get them, like 'example.org example.net'.")

    def run(self, options: commands.Options) -> Answer:
        """Create it; refuses fields that cannot be used and a slug that is taken."""
        given = {field: options[field] for field in _FIELDS if options[field] is not None}
        try:
            given["utm_hosts"] = utm.hosts_in(options["utm_hosts"] or "")
        except ValueError as error:
            raise CommandError(str(error)) from error
        if options["ask_first"] and options["tracking"] != Newsletter.Tracking.INDIVIDUAL:
            raise CommandError("--ask-first goes with --tracking individual: else there is nothing to agree to.")
        newsletter = Newsletter(slug=options["slug"], name=options["name"], **given)
        creation.create(newsletter)
        data = {"id": newsletter.pk, "newsletter": newsletter.slug, "name": newsletter.name}
        data |= {field: getattr(newsletter, field) for field in _FIELDS}
        return Answer(
            f"“{newsletter.name}” is there as {newsletter.slug}, tracking {newsletter.tracking}. "
            f"Next: `manage.py import_subscribers FILE --newsletter {newsletter.slug}`.",
            data,
        )
