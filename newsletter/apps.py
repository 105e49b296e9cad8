from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class NewsletterConfig(AppConfig):
    """The app that publishes and sends."""

    name = "newsletter"
    verbose_name = "Publishing"

    def ready(self) -> None:
        """Register the system checks, the roles for when the permissions are there, and what listens: webhooks to
        changes, we to a provider's events.

        Permissions are made app by app after a migration; Django's auth stands behind ours in INSTALLED_APPS.
        """
        from newsletter import checks, incoming, roles  # noqa: F401
        from newsletter.hooks import occurring

        post_migrate.connect(roles.ensure, sender=apps.get_app_config("auth"), dispatch_uid="newsletter.roles")
        occurring.listen()
        incoming.listen()
