from django.apps import AppConfig


class SubscribersConfig(AppConfig):
    """The people: who reads what, at which tier, and what they agreed to."""

    name = "subscribers"
    verbose_name = "People"
