"""The people. Lowest layer: imports nothing of the newsletter app, refers to its models by name only.

Every change of consent (Subscription.status, Suppression) is made in `subscribers.consent`.
"""

from __future__ import annotations

import secrets
from typing import ClassVar, Self

from django.db import models
from django.db.models import Case, Exists, F, Max, OuterRef, Q, Subquery, Value, When
from django.db.models.functions import Coalesce, Now

FREE_LEVEL = 0


def random_id() -> int:
    """A random public id of 63 bits: nobody can guess another one, and it says nothing of how many there are."""
    return secrets.randbits(63)


class Tier(models.Model):
    """An ordered level, site-wide: free 0, paid 1, founding 2 …"""

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=100)
    level = models.PositiveSmallIntegerField(unique=True, help_text="0 is free; a higher level sees all lower ones do.")

    class Meta:
        ordering: ClassVar = ["level"]

    def __str__(self) -> str:
        return self.name


def tier_level_of(subscriber: str) -> Coalesce:
    """The highest level of the memberships held now by the subscriber in field `subscriber`; free without any."""
    best = Membership.objects.current().filter(subscriber=OuterRef(subscriber)).order_by("-tier__level")
    return Coalesce(Subquery(best.values("tier__level")[:1]), Value(FREE_LEVEL))


class SubscriberQuerySet(models.QuerySet["Subscriber"]):
    def with_tier_level(self) -> Self:
        """Adds `tier_level`."""
        return self.annotate(tier_level=tier_level_of("pk"))


class Subscriber(models.Model):
    """A person with an address. The address stands here and nowhere else; erasing a person deletes this row."""

    class Tracking(models.TextChoices):
        NEWSLETTER = "newsletter", "never asked: as the newsletter does"
        AGREED = "agreed", "one by one: they agreed"
        ANONYMOUS = "anonymous", "without saying whose it is"
        OFF = "off", "not at all"

    public_id = models.BigIntegerField(unique=True, default=random_id, editable=False)
    address = models.CharField(max_length=320, help_text="As given; mail is sent to it.")
    address_key = models.CharField(max_length=320, unique=True, editable=False)
    fingerprint = models.CharField(max_length=40, unique=True, editable=False)
    name = models.CharField(max_length=200, blank=True)
    text_only = models.BooleanField(default=False)
    tracking = models.CharField(max_length=12, choices=Tracking, default=Tracking.NEWSLETTER)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = SubscriberQuerySet.as_manager()

    class Meta:
        # The operator class lets PostgreSQL find a name by how it begins, whatever the database's collation.
        indexes: ClassVar = [
            models.Index(fields=["name"], opclasses=["varchar_pattern_ops"], name="subscriber_by_name"),
        ]

    def __str__(self) -> str:
        return self.name or f"Subscriber {self.pk}"


class MembershipQuerySet(models.QuerySet["Membership"]):
    def current(self) -> Self:
        """Those that count now, by the database's clock."""
        return self.filter(Q(starts_at__lte=Now()), Q(ends_at=None) | Q(ends_at__gt=Now()))

    def levels(self) -> models.QuerySet[Membership, tuple[int, int]]:
        """The same as `tier_level_of` for everybody at once: subscriber_id and level of those who hold any tier."""
        highest = self.current().values("subscriber").annotate(level=Max("tier__level"))
        return highest.values_list("subscriber_id", "level")


class Membership(models.Model):
    """Why someone holds a tier, and for how long."""

    class Kind(models.TextChoices):
        PAID = "paid"
        COMPLIMENTARY = "complimentary"
        GIFT = "gift"
        TRIAL = "trial"
        GROUP = "group"

    subscriber = models.ForeignKey(Subscriber, models.CASCADE, related_name="memberships")
    tier = models.ForeignKey(Tier, models.PROTECT, related_name="memberships", db_index=False)
    kind = models.CharField(max_length=13, choices=Kind, default=Kind.PAID)
    starts_at = models.DateTimeField(db_default=Now())
    ends_at = models.DateTimeField(null=True, blank=True)

    objects = MembershipQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(ends_at=None) | Q(ends_at__gte=F("starts_at")),
                name="membership_ends_late",
                violation_error_message="A membership cannot end before it begins.",
            )
        ]
        # With the id, as in Subscription.
        indexes: ClassVar = [models.Index(fields=["tier", "id"], name="membership_by_tier")]

    def __str__(self) -> str:
        return f"{self.tier} ({self.kind})"


def exclusion(*, everybody: bool = False, fingerprint: OuterRef | None = None) -> Case:
    """For a query over subscriptions: why this reader may not be written to now, or "" where they may.

    The only definition of that rule; the snapshot and every claim use it. `everybody` says that it is asked of a whole
    newsletter: then PostgreSQL answers from hashes of all suppressions, in place of looking each reader up.
    `fingerprint` is the reader's, where a query around this one has it already.
    """
    suppressions = Suppression.objects.filter(fingerprint=fingerprint or OuterRef("subscriber__fingerprint"))
    site, newsletter = Q(newsletter=None), Q(newsletter=OuterRef("newsletter"))
    # What stands in one EXISTS with an OR inside, PostgreSQL does not hash.
    apart = Q(Exists(suppressions.filter(site))) | Q(Exists(suppressions.filter(newsletter)))
    suppressed = apart if everybody else Q(Exists(suppressions.filter(site | newsletter)))
    return Case(
        When(~Q(status=Subscription.Status.ACTIVE), then=F("status")),
        When(suppressed, then=Value("suppressed")),
        default=Value(""),
        output_field=models.CharField(),
    )


class SubscriptionQuerySet(models.QuerySet["Subscription"]):
    def mailable(self) -> Self:
        """Those who may be written to now."""
        return self.annotate(exclusion=exclusion()).filter(exclusion="")


class Subscription(models.Model):
    """A subscriber's state for one newsletter.

    PENDING -> ACTIVE <-> PAUSED; any -> UNSUBSCRIBED -> (the person's own wish) ACTIVE
    """

    class Status(models.TextChoices):
        PENDING = "pending"
        ACTIVE = "active"
        PAUSED = "paused"
        UNSUBSCRIBED = "unsubscribed"

    subscriber = models.ForeignKey(Subscriber, models.CASCADE, related_name="subscriptions")
    newsletter = models.ForeignKey(
        "newsletter.Newsletter", models.CASCADE, related_name="subscriptions", db_index=False
    )
    status = models.CharField(max_length=12, choices=Status, default=Status.PENDING)
    # Ids of the standing sections this reader does not want, ascending, with commas: one column, so that the snapshot
    # can group by it.
    muted = models.TextField(blank=True, default="")
    paused_until = models.DateTimeField(null=True, blank=True, help_text="Empty: until the reader resumes.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    changed_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = SubscriptionQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["newsletter", "subscriber"], name="one_subscription_per_newsletter")
        ]
        # One per way to narrow the list of subscriptions: a page of it is read in its order from the index alone.
        indexes: ClassVar = [
            models.Index(fields=["newsletter", "status", "id"], name="subscription_by_both"),
            models.Index(fields=["newsletter", "id"], name="subscription_by_newsletter"),
            models.Index(fields=["status", "id"], name="subscription_by_status"),
        ]

    def __str__(self) -> str:
        return f"{self.subscriber} of {self.newsletter} ({self.status})"

    @property
    def muted_sections(self) -> frozenset[int]:
        """The standing sections this reader does not want, by id."""
        return frozenset(int(part) for part in self.muted.split(",") if part)


class Suppression(models.Model):
    """An address never to be written to, kept as a keyed hash so that it outlives the person's row."""

    class Reason(models.TextChoices):
        HARD_BOUNCE = "hard bounce"
        SOFT_BOUNCE = "soft bounce"
        COMPLAINT = "complaint"
        ERASED = "erased"
        MANUAL = "manual"

    fingerprint = models.CharField(max_length=40, db_index=True)
    newsletter = models.ForeignKey(
        "newsletter.Newsletter", models.CASCADE, null=True, blank=True, help_text="Empty: for the whole site."
    )
    reason = models.CharField(max_length=12, choices=Reason)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["fingerprint", "newsletter", "reason"], name="one_suppression_per_newsletter_and_reason"
            ),
            models.UniqueConstraint(
                fields=["fingerprint", "reason"], condition=Q(newsletter=None), name="one_site_suppression_per_reason"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.reason} ({'site' if self.newsletter_id is None else self.newsletter})"


class ConsentRecord(models.Model):
    """What somebody agreed to or withdrew, when and by which way; never changed, kept without a name after erasure."""

    class Action(models.TextChoices):
        IMPORTED = "imported"
        REQUESTED = "requested"
        SUBSCRIBED = "subscribed"
        PAUSED = "paused"
        RESUMED = "resumed"
        UNSUBSCRIBED = "unsubscribed"
        SUPPRESSED = "suppressed"
        UNSUPPRESSED = "unsuppressed"
        TRACKING_OFF = "tracking off"
        TRACKING_ANONYMOUS = "not by name", "tracking, but not by name"
        TRACKING_ON = "tracking on"
        ADDRESS_CHANGED = "address changed"
        EXPORTED = "exported"
        ERASED = "erased"

    subscriber = models.ForeignKey(Subscriber, models.SET_NULL, null=True, related_name="consent_records")
    newsletter = models.ForeignKey("newsletter.Newsletter", models.SET_NULL, null=True)
    action = models.CharField(max_length=15, choices=Action)
    source = models.CharField(max_length=100, help_text="The way it came: one click, preferences page, import …")
    reason = models.CharField(max_length=300, blank=True, default="", help_text="Why, in the words of who did it.")
    text_version = models.CharField(max_length=64, blank=True, default="", help_text="Hash of the words agreed to.")
    network = models.CharField(max_length=43, blank=True, default="", help_text="The sender's network: /24 or /48.")
    agent = models.CharField(max_length=300, blank=True, default="", help_text="The User-Agent header, cut.")
    at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return f"{self.action} by {self.source}"


class OneTimeLink(models.Model):
    """A link for what the weak link of a mail may not do: it goes to the address itself, and works once and soon.

    Of its token only a hash is kept. OPEN is mailed and, when used, becomes a VISIT: the pages behind it while
    somebody looks. ADDRESS is mailed to a new address, which stands in the row `target` until it takes effect.
    """

    class Purpose(models.TextChoices):
        OPEN = "open"
        VISIT = "visit"
        ADDRESS = "address"

    subscriber = models.ForeignKey(Subscriber, models.CASCADE, related_name="one_time_links")
    purpose = models.CharField(max_length=7, choices=Purpose)
    digest = models.CharField(max_length=64, unique=True)
    target = models.ForeignKey(Subscriber, models.CASCADE, null=True, related_name="+")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(db_index=True)
    used_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(purpose="address", target__isnull=False) | (~Q(purpose="address") & Q(target=None)),
                name="a_new_address_has_its_row",
            )
        ]

    def __str__(self) -> str:
        return f"Link {self.pk} ({self.purpose})"


class FormPost(models.Model):
    """One use of a form that is open to everybody, whatever became of it: enough to slow a network down.

    Kept for an hour. It says nothing of the address that was typed, so counting it tells nobody who is known here.
    """

    form = models.CharField(max_length=20)
    network = models.CharField(max_length=43, blank=True)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes: ClassVar = [models.Index(fields=["form", "network", "at"], name="form_post_by_network")]

    def __str__(self) -> str:
        return f"{self.form} from {self.network} at {self.at}"
