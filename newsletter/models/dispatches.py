"""The rows of the sending engine. They are the queue: whatever a broker or a worker does, they say what is left."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import ClassVar, Self

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from newsletter.content import Profile, TrackingMode
from newsletter.models.issues import Issue, Revision
from newsletter.models.newsletters import Newsletter
from subscribers.models import Subscriber


class DispatchQuerySet(models.QuerySet["Dispatch"]):
    def live(self) -> Self:
        """Those that have not ended."""
        return self.exclude(status__in=Dispatch.ENDED)


class Dispatch(models.Model):
    """One run of the sending engine over an audience. Every change of `status` is made in `newsletter.scheduling`.

    DRAFT <-> SCHEDULED -> PREPARING -> SENDING <-> PAUSED -> SENT
    SCHEDULED -> MISSED -> DRAFT | SCHEDULED; PREPARING <-> PAUSED; any but SENT -> CANCELLED
    SCHEDULED <-> PAUSED where a backup was restored
    SENT -> SENDING by the author's word, to resend what is in doubt or was refused
    """

    class Status(models.TextChoices):
        DRAFT = "draft"
        SCHEDULED = "scheduled"
        PREPARING = "preparing"
        SENDING = "sending"
        PAUSED = "paused"
        SENT = "sent"
        MISSED = "missed"
        CANCELLED = "cancelled"

    ENDED = (Status.SENT, Status.CANCELLED)

    class Kind(models.TextChoices):
        ISSUE = "issue"
        SINGLE = "single", "single message"

    newsletter = models.ForeignKey(Newsletter, models.PROTECT, related_name="dispatches")
    kind = models.CharField(max_length=6, choices=Kind, default=Kind.ISSUE)
    issue = models.ForeignKey(Issue, models.PROTECT, null=True, related_name="dispatches")
    revision = models.ForeignKey(Revision, models.PROTECT, related_name="dispatches")
    sender_domain = models.CharField(
        max_length=255, blank=True, default="", help_text="Where its mail comes from, as its revision has it."
    )
    status = models.CharField(max_length=9, choices=Status, default=Status.DRAFT)
    # When to start: wall time and zone are the author's words, due_at what they mean by the current rules of that zone.
    wall_time = models.DateTimeField(null=True, help_text="The author's clock, stored as if it were UTC.")
    wall_time_is_second = models.BooleanField(default=False, help_text="Of an hour that comes twice, the later one.")
    time_zone = models.CharField(max_length=64, default="UTC")
    due_at = models.DateTimeField(null=True)
    spread = models.DurationField(default=timedelta, help_text="Over how long the batches begin.")
    started_at = models.DateTimeField(null=True)
    snapshot_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    pause_reason = models.TextField(blank=True, default="")
    useful_until = models.DateTimeField(
        null=True, help_text="Of a single message: until when whoever asked for it can use it."
    )
    # The audience as it was at the snapshot: candidates = deliveries + exclusions by reason.
    candidates = models.PositiveIntegerField(null=True)
    exclusions = models.JSONField(default=dict)
    # When its sums and accepts were last checked, and how many failures the author has taken note of by resuming.
    checked_at = models.DateTimeField(null=True)
    failures_seen = models.PositiveIntegerField(default=0)
    failures_seen_at = models.DateTimeField(null=True, help_text="When the author took note of them.")
    failures_looked_into = models.PositiveIntegerField(default=0, help_text="At how many they were looked into.")
    blocks_told = models.PositiveIntegerField(
        default=0, help_text="At how many mails blocked for our own fault the operator was told."
    )
    breached = models.BooleanField(default=False, help_text="Stopped for a breach, or told of one later.")
    sure_at = models.DateTimeField(
        null=True, help_text="When somebody was sure that it may go out though a backup was restored."
    )
    # Who prepares it, until when (by the database's clock).
    lease_token = models.UUIDField(null=True)
    leased_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = DispatchQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "dispatches"
        permissions: ClassVar = [("schedule_dispatch", "Can schedule, send, pause, resume and cancel issues")]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(kind="issue", issue__isnull=False) | Q(kind="single", issue=None),
                name="an_issue_dispatch_has_an_issue",
            ),
            models.UniqueConstraint(
                fields=["issue"], condition=~Q(status="cancelled"), name="one_dispatch_of_an_issue_at_a_time"
            ),
            models.CheckConstraint(
                condition=~Q(status__in=["sending", "sent"]) | Q(snapshot_at__isnull=False),
                name="no_sending_without_snapshot",
            ),
            models.CheckConstraint(
                condition=~Q(status="scheduled") | Q(due_at__isnull=False), name="no_schedule_without_a_time"
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["status", "due_at"],
                condition=~Q(status__in=["sent", "cancelled"]),
                name="dispatch_live",
            )
        ]

    def __str__(self) -> str:
        return f"Dispatch {self.pk} of {self.issue or 'a single message'} ({self.status})"


class Variant(models.Model):
    """One rendered form of a dispatch's issue: all that changes the bytes except the reader's own fields.

    `data` is `rendering.Rendered.as_json()`; `digest` the hash of what went into it.
    """

    dispatch = models.ForeignKey(Dispatch, models.CASCADE, related_name="variants", db_index=False)
    digest = models.CharField(max_length=64)
    data = models.JSONField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["dispatch", "digest"], name="one_variant_per_outcome")]

    def __str__(self) -> str:
        return f"Variant {self.digest[:8]}"


class DispatchProfile(models.Model):
    """A reader profile that occurs in a dispatch, and the variant that the gate and the renderer made of it."""

    dispatch = models.ForeignKey(Dispatch, models.CASCADE, related_name="profiles", db_index=False)
    tier_level = models.PositiveSmallIntegerField()
    muted = models.TextField(blank=True)
    text_only = models.BooleanField()
    tracking = models.CharField(max_length=10)
    readers = models.PositiveIntegerField(default=0, help_text="How many deliveries the snapshot gave it.")
    variant = models.ForeignKey(Variant, models.PROTECT, null=True, related_name="profiles")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["dispatch", "tier_level", "muted", "text_only", "tracking"], name="one_row_per_profile"
            )
        ]

    def __str__(self) -> str:
        return f"Tier level {self.tier_level}, tracking {self.tracking}"

    def profile(self) -> Profile:
        """The profile as plain values, for the gate."""
        return Profile(
            tier_level=self.tier_level,
            muted=frozenset(int(part) for part in self.muted.split(",") if part),
            text_only=self.text_only,
            tracking=TrackingMode(self.tracking),
        )


class Batch(models.Model):
    """The deliveries one task sends, and the lease of the worker that does."""

    dispatch = models.ForeignKey(Dispatch, models.CASCADE, related_name="batches", db_index=False)
    number = models.PositiveIntegerField()
    due_at = models.DateTimeField(null=True, help_text="Not before, where a send is spread; empty: at once.")
    rung_at = models.DateTimeField(null=True, help_text="When a worker was last called for it.")
    lease_token = models.UUIDField(null=True)
    leased_until = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "batches"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["dispatch", "number"], name="one_batch_per_number"),
            models.CheckConstraint(
                condition=Q(lease_token=None, leased_until=None)
                | Q(lease_token__isnull=False, leased_until__isnull=False),
                name="a_lease_has_a_token_and_an_end",
            ),
        ]

    def __str__(self) -> str:
        return f"Batch {self.number} of dispatch {self.dispatch_id}"


class HaltQuerySet(models.QuerySet["Halt"]):
    def in_words(self) -> str:
        """`The relay was sold (since 2026-11-02 12:00 UTC).`, each reason in the order in which they came; "" where
        nothing is halted."""
        found = [
            f"{halt.reason.rstrip('. ')} (since {halt.since.astimezone(UTC):%Y-%m-%d %H:%M} UTC)"
            for halt in self.order_by("pk")
        ]
        return f"{'; '.join(found)}." if found else ""


class Halt(models.Model):
    """The switch that stops all sending of this site: while a row stands here, nothing is claimed. A row for each
    reason."""

    reason = models.CharField(max_length=200)
    since = models.DateTimeField(db_default=Now(), editable=False)

    objects = HaltQuerySet.as_manager()

    def __str__(self) -> str:
        return f"Halted: {self.reason}"


class Restoration(models.Model):
    """That a backup made at `made_at` was restored: of what was here at `restored_at` nobody knows whether it went out
    between the two."""

    made_at = models.DateTimeField()
    restored_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return f"A backup of {self.made_at:%Y-%m-%d %H:%M}"


class Attempt(models.Model):
    """One hand-over of a chunk of a batch: written before the first byte leaves, closed when every outcome is noted."""

    batch = models.ForeignKey(Batch, models.CASCADE, related_name="attempts")
    worker = models.CharField(max_length=200)
    transport = models.CharField(max_length=50)
    idempotency_key = models.UUIDField(unique=True)
    accepted = models.PositiveIntegerField(default=0, help_text="How many the transport said it took.")
    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)
    # What a call that left a doubt needs to be made again: which deliveries went together, several to a call, and when
    # to ask next (empty: never).
    calls = models.JSONField(default=list)
    repeat_at = models.DateTimeField(null=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["repeat_at"], condition=Q(repeat_at__isnull=False), name="attempt_to_repeat")
        ]

    def __str__(self) -> str:
        return f"Attempt {self.pk} by {self.worker}"


class SendingDay(models.Model):
    """A day (UTC) in the warming up of a sending domain: what may be handed over, and what became of it."""

    domain = models.CharField(max_length=255)
    day = models.DateField()
    cap = models.PositiveIntegerField(help_text="How many may be handed over.")
    taken = models.PositiveIntegerField(default=0, help_text="How many were claimed for it.")
    accepted = models.PositiveIntegerField(default=0)
    refused = models.PositiveIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["domain", "day"], name="one_row_per_domain_and_day")]

    def __str__(self) -> str:
        return f"{self.domain} on {self.day}: {self.taken} of {self.cap}"


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def due(self) -> Self:
        """Queued and not to wait any longer, by the database's clock."""
        return self.filter(Q(due_at=None) | Q(due_at__lte=Now()), status=Delivery.Status.QUEUED)


class Delivery(models.Model):
    """One dispatch to one subscriber. Every change of `status` is made in `newsletter.deliveries`.

    QUEUED -> SENDING -> SENT | FAILED | QUEUED (later, `due_at`) | UNCONFIRMED (no answer, or the worker died)
    QUEUED -> SKIPPED (left, suppressed, erased or cancelled before the hand-over)
    QUEUED -> FAILED (a single message that did not go out while it was of use)
    UNCONFIRMED -> SENT | FAILED | QUEUED (a late or repeated answer, or the author's word)
    """

    class Status(models.TextChoices):
        QUEUED = "queued"
        SENDING = "sending"
        SENT = "sent"
        FAILED = "failed"
        UNCONFIRMED = "unconfirmed"
        SKIPPED = "skipped"

    class Verdict(models.IntegerChoices):
        """What came back of it, the one that counts where several did last.

        A block weighs more than a soft bounce: whoever names the sender's fault knows it, and soft is also said of what
        nobody understood.
        """

        SOFT = 1, "soft bounce"
        BLOCK = 2, "blocked"
        HARD = 3, "hard bounce"
        COMPLAINT = 4, "complaint"

    # The database does not look each of these up: for a million readers that alone takes 17 s and writes a lock into
    # every reader's row. The snapshot's own join proves dispatch, profile and batch, and a claim makes its attempt
    # first; a subscriber who is erased while the snapshot runs is taken out by `deliveries.forget_erased`, and nothing
    # is handed over to one who is not there.
    dispatch = models.ForeignKey(
        Dispatch, models.CASCADE, related_name="deliveries", db_index=False, db_constraint=False
    )
    subscriber = models.ForeignKey(
        Subscriber, models.SET_NULL, null=True, related_name="deliveries", db_index=False, db_constraint=False
    )
    profile = models.ForeignKey(
        DispatchProfile, models.PROTECT, related_name="deliveries", db_index=False, db_constraint=False
    )
    batch = models.ForeignKey(Batch, models.CASCADE, related_name="deliveries", db_index=False, db_constraint=False)
    status = models.CharField(max_length=11, choices=Status, default=Status.QUEUED)
    SENDER_REFUSED = "sender"  # the reason where a single message waits because it would be nobody's fault but ours
    reason = models.CharField(max_length=20, blank=True, default="", help_text="Why it was skipped, or is kept back.")
    tries = models.PositiveSmallIntegerField(default=0, help_text="Hand-overs begun.")
    # Only an attempt that claimed nothing is deleted by itself.
    attempt = models.ForeignKey(
        Attempt, models.DO_NOTHING, null=True, related_name="deliveries", db_index=False, db_constraint=False
    )
    due_at = models.DateTimeField(null=True, help_text="Not before; empty: at once.")
    put_off_at = models.DateTimeField(null=True, help_text="When the relay first said later.")
    reply = models.CharField(max_length=300, blank=True, default="", help_text="The relay's or provider's last answer.")
    # The message that was accepted first, as `newsletter.deliveries.accepting` knows it; any further one is a Breach.
    accepted_by = models.BigIntegerField(
        null=True, help_text="The attempt in which it was accepted (0: nobody knows in which)."
    )
    provider_id = models.CharField(max_length=200, blank=True, default="", help_text="The provider's id of it.")
    settled_at = models.DateTimeField(null=True, help_text="When it reached the status it has.")
    verdict = models.PositiveSmallIntegerField(null=True, choices=Verdict, help_text="What came back of it, if so.")
    opened_at = models.DateTimeField(null=True, help_text="First opened by a person.")
    clicked_at = models.DateTimeField(null=True, help_text="First clicked by a person.")
    any_open_at = models.DateTimeField(null=True, help_text="First opened by whoever or whatever.")
    any_click_at = models.DateTimeField(null=True, help_text="First clicked by whoever or whatever.")
    unsubscribed_at = models.DateTimeField(null=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "deliveries"
        constraints: ClassVar = [
            # The reader first: it finds a reader's mail too. Whatever asks for a dispatch has `delivery_by_status`.
            models.UniqueConstraint(fields=["subscriber", "dispatch"], name="one_delivery_per_reader"),
            models.CheckConstraint(
                condition=~Q(status__in=["sending", "sent", "unconfirmed"]) | Q(tries__gt=0),
                name="nothing_sent_without_an_attempt",
            ),
        ]
        indexes: ClassVar = [
            # In the order in which they are claimed, so that a chunk is read and no more.
            models.Index(fields=["batch", "id"], condition=Q(status="queued"), name="delivery_queued"),
            # With the id, so that a page of one status is read in its order however many there are of it.
            models.Index(fields=["dispatch", "status", "id"], name="delivery_by_status"),
            # The most of a dispatch. Without the id an entry is shared by hundreds of rows: a million are counted in a
            # third of the time.
            models.Index(fields=["dispatch"], condition=Q(status="sent"), name="delivery_sent"),
            # Few of many: who left by it, and why somebody was skipped, without a look at the rest.
            models.Index(
                fields=["dispatch"], condition=Q(unsubscribed_at__isnull=False), name="delivery_that_made_leave"
            ),
            models.Index(fields=["dispatch", "reason"], condition=Q(status="skipped"), name="delivery_skipped"),
            # What came back is a small part of all.
            models.Index(
                fields=["dispatch", "verdict"], condition=Q(verdict__isnull=False), name="delivery_that_came_back"
            ),
            models.Index(fields=["subscriber"], condition=Q(verdict__isnull=False), name="delivery_back_from_reader"),
            models.Index(fields=["id"], condition=Q(status="failed", verdict=None), name="delivery_to_judge"),
            # Single messages that wait because their sender is refused: looked for on each first page of the admin.
            models.Index(
                fields=["put_off_at", "id"], condition=Q(status="queued", reason="sender"), name="delivery_kept_back"
            ),
            # A provider that names nothing else names its own id of a message.
            models.Index(fields=["provider_id"], condition=~Q(provider_id=""), name="delivery_by_provider_id"),
        ]

    def __str__(self) -> str:
        return f"Delivery {self.pk} ({self.status})"


class BreachQuerySet(models.QuerySet["Breach"]):
    def new(self) -> Self:
        """Those of which nobody has taken note."""
        return self.filter(acknowledged_at=None)

    def duplicates(self) -> Self:
        """The mails that somebody got besides their first."""
        return self.filter(delivery__isnull=False)


class Breach(models.Model):
    """What did not hold of a dispatch, until somebody takes note of it.

    A second mail to one reader: the `delivery` that was accepted once more, in which `attempt` (0: nobody knows) and as
    which of the provider's messages ("": the same). Or sums that did not agree: `sentence` says which.
    """

    dispatch = models.ForeignKey(Dispatch, models.CASCADE, related_name="breaches")
    sentence = models.CharField(max_length=300, blank=True, default="")
    delivery = models.ForeignKey(Delivery, models.CASCADE, null=True, related_name="breaches")
    attempt = models.BigIntegerField(default=0)
    provider_id = models.CharField(max_length=200, blank=True, default="")
    found_at = models.DateTimeField(db_default=Now(), editable=False)
    acknowledged_at = models.DateTimeField(null=True)
    acknowledged_by = models.CharField(max_length=150, blank=True, default="")

    objects = BreachQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "breaches"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["dispatch", "sentence"], condition=Q(delivery=None), name="one_breach_per_sentence"
            ),
            models.CheckConstraint(
                condition=Q(delivery=None) & ~Q(sentence="") | Q(delivery__isnull=False, sentence=""),
                name="a_breach_has_a_sentence_or_a_delivery",
            ),
        ]

    def __str__(self) -> str:
        return self.sentence or f"Delivery {self.delivery_id} was accepted twice"
