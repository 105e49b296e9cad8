from django.apps import AppConfig


class NewsletterConfig(AppConfig):
    """The app that publishes and sends."""

    name = "newsletter"
    verbose_name = "Newsletters"

    def ready(self) -> None:
        """Register the system checks."""
        from newsletter import checks  # noqa: F401
