from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from newsletter.models import Section
from subscribers import addresses, consent, tiers
from subscribers.models import ConsentRecord, Membership, Subscriber, Subscription, Suppression, Tier
from tests.making import make_issue, make_newsletter, make_reader, make_subscriber

pytestmark = pytest.mark.django_db

Status = Subscription.Status


@pytest.fixture
def staff(client: Client) -> Client:
    """A browser of somebody who may do everything."""
    client.force_login(User.objects.create_superuser("chief"))
    return client


def act(browser: Client, model: str, name: str, *rows: Any, confirmed: bool = True) -> Any:
    """Run an action on `rows` of the list of `model`."""
    data = {"action": name, "_selected_action": [row.pk for row in rows], **({"confirmed": "yes"} if confirmed else {})}
    return browser.post(reverse(f"admin:subscribers_{model}_changelist"), data)


def person_form(person: Subscriber | None = None, **fields: Any) -> dict[str, Any]:
    """The form of a person with its empty inlines; `fields` are what is typed."""
    inlines = ("subscriptions", "memberships", *(["consent_records"] if person else []))
    management = {f"{name}-{key}": "0" for name in inlines for key in ("TOTAL_FORMS", "INITIAL_FORMS")}
    kept = {"address": person.address, "name": person.name, "tracking": person.tracking} if person else {}
    return {"tracking": "newsletter", **management, **kept, **fields}


def page_of(person: Subscriber) -> str:
    return reverse("admin:subscribers_subscriber_change", args=[person.pk])


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("unsubscribe", Status.ACTIVE, Status.UNSUBSCRIBED),
        ("pause", Status.ACTIVE, Status.PAUSED),
        ("resume", Status.PAUSED, Status.ACTIVE),
        ("resume", Status.UNSUBSCRIBED, Status.UNSUBSCRIBED),
    ],
)
@pytest.mark.parametrize("model", ["subscription", "subscriber"])
def test_an_action_changes_consent_and_leaves_a_record(
    staff: Client, model: str, name: str, before: Status, after: Status
) -> None:
    reader = make_reader(make_newsletter(), status=before)
    act(staff, model, name, reader if model == "subscription" else reader.subscriber)
    reader.refresh_from_db()
    assert reader.status == after
    sources = list(ConsentRecord.objects.filter(subscriber=reader.subscriber).values_list("source", flat=True))
    assert sources == ([f"staff {User.objects.get().pk}"] if before != after else [])


@pytest.mark.parametrize("name", ["unsubscribe", "pause", "suppress", "erase"])
def test_an_action_asks_before_it_changes_anything(staff: Client, name: str) -> None:
    reader = make_reader(make_newsletter())
    answer = act(staff, "subscriber", name, reader.subscriber, confirmed=False)
    assert answer.status_code == 200
    assert 'name="confirmed"' in answer.text
    reader.refresh_from_db()
    assert reader.status == Status.ACTIVE
    assert not Suppression.objects.exists()


def test_an_action_on_all_rows_that_match_is_refused(staff: Client) -> None:
    reader = make_reader(make_newsletter())
    data = {"action": "unsubscribe", "confirmed": "yes", "select_across": "1", "index": "0"}
    staff.post(reverse("admin:subscribers_subscription_changelist"), {**data, "_selected_action": [reader.pk]})
    reader.refresh_from_db()
    assert reader.status == Status.ACTIVE


def test_suppressing_somebody_keeps_all_mail_from_them(staff: Client) -> None:
    reader = make_reader(make_newsletter())
    act(staff, "subscriber", "suppress", reader.subscriber)
    assert not Subscription.objects.mailable().exists()
    assert Suppression.objects.get().reason == Suppression.Reason.MANUAL


@pytest.mark.parametrize("way", ["action", "delete page"])
def test_erasing_somebody_leaves_a_hash_and_no_name_anywhere(staff: Client, way: str) -> None:
    person = make_subscriber("vera@readers.example", name="Vera Lamp")
    staff.post(page_of(person), person_form(person, name="Vera Lamplight"))
    if way == "action":
        act(staff, "subscriber", "erase", person)
    else:
        staff.post(reverse("admin:subscribers_subscriber_delete", args=[person.pk]), {"post": "yes"})
    assert not Subscriber.objects.exists()
    assert Suppression.objects.get().reason == Suppression.Reason.ERASED
    assert ConsentRecord.objects.filter(action=ConsentRecord.Action.ERASED).count() == 1
    log = " ".join(f"{entry.object_repr} {entry.change_message}" for entry in LogEntry.objects.all())
    assert "subscriber" in log
    assert "Vera" not in log
    assert "vera@" not in log


def test_the_log_keeps_no_name_of_what_stands_below_a_person(staff: Client) -> None:
    tiers.ensure_default()
    person = make_subscriber(name="Vera Lamp")
    paid = Tier.objects.get(slug="paid")
    below = {
        "TOTAL_FORMS": "1",
        "0-tier": paid.pk,
        "0-kind": "paid",
        "0-starts_at_0": "2026-01-01",
        "0-starts_at_1": "0:0",
    }
    staff.post(page_of(person), person_form(person, **{f"memberships-{name}": value for name, value in below.items()}))
    assert Membership.objects.filter(subscriber=person, tier=paid).exists()
    entry = LogEntry.objects.get()
    assert entry.get_change_message()
    assert "Vera" not in f"{entry.object_repr} {entry.change_message}"


def test_a_membership_that_ends_before_it_begins_is_refused_in_plain_words(staff: Client) -> None:
    tiers.ensure_default()
    person = make_subscriber()
    below = {
        "TOTAL_FORMS": "1",
        "0-tier": Tier.objects.get(slug="paid").pk,
        "0-kind": "paid",
        "0-starts_at_0": "2026-02-01",
        "0-starts_at_1": "0:0",
        "0-ends_at_0": "2026-01-01",
        "0-ends_at_1": "0:0",
    }
    form = person_form(person, **{f"memberships-{name}": value for name, value in below.items()})
    assert "A membership cannot end before it begins." in staff.post(page_of(person), form).text
    assert not Membership.objects.exists()


def test_an_address_is_kept_as_given_and_compared_by_its_key(staff: Client) -> None:
    staff.post(reverse("admin:subscribers_subscriber_add"), person_form(address=" Vera@Readers.EXAMPLE "))
    person = Subscriber.objects.get()
    assert (person.address, person.address_key) == ("Vera@readers.example", "vera@readers.example")
    assert person.fingerprint == addresses.fingerprint("vera@readers.example")


@pytest.mark.parametrize(
    ("address", "sentence"),
    [("nobody at home", "is not an e-mail address"), ("VERA@readers.example", "Somebody is here with this address")],
)
def test_an_address_that_cannot_be_used_is_refused_in_a_sentence(staff: Client, address: str, sentence: str) -> None:
    make_subscriber("vera@readers.example")
    answer = staff.post(reverse("admin:subscribers_subscriber_add"), person_form(address=address))
    assert sentence in answer.text
    assert Subscriber.objects.count() == 1


def test_a_new_address_is_recorded_and_takes_a_complaint_along(staff: Client) -> None:
    person = make_subscriber("vera@readers.example")
    consent.suppress(person.fingerprint, reason=Suppression.Reason.COMPLAINT, source="test")
    staff.post(page_of(person), person_form(person, address="Vera@elsewhere.example", name="Vera"))
    person.refresh_from_db()
    assert (person.address_key, person.name) == ("vera@elsewhere.example", "Vera")
    assert Suppression.objects.filter(fingerprint=person.fingerprint, reason="complaint").exists()
    assert ConsentRecord.objects.filter(subscriber=person, action=ConsentRecord.Action.ADDRESS_CHANGED).exists()


def test_a_choice_of_tracking_is_recorded(staff: Client) -> None:
    person = make_subscriber()
    staff.post(page_of(person), person_form(person, tracking="off"))
    person.refresh_from_db()
    assert person.tracking == Subscriber.Tracking.OFF
    assert ConsentRecord.objects.get().action == ConsentRecord.Action.TRACKING_OFF


def test_a_reader_enrolled_by_hand_is_active_and_recorded(staff: Client) -> None:
    newsletter, person = make_newsletter(), make_subscriber()
    rows = {"subscriptions-TOTAL_FORMS": "1", "subscriptions-0-newsletter": newsletter.pk}
    staff.post(page_of(person), person_form(person, **rows))
    assert Subscription.objects.get(subscriber=person).status == Status.ACTIVE
    assert ConsentRecord.objects.get(subscriber=person).action == ConsentRecord.Action.IMPORTED


def test_enrolling_does_not_bring_back_who_left() -> None:
    reader = make_reader(make_newsletter(), status=Status.UNSUBSCRIBED)
    assert not consent.enrol(reader.subscriber, reader.newsletter, source="test")
    reader.refresh_from_db()
    assert reader.status == Status.UNSUBSCRIBED


@pytest.mark.parametrize("model", ["subscriber", "subscription", "membership", "consentrecord"])
@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("VERA@readers.example", True),
        ("vera@", False),
        ("Vera", True),
        ("vera", True),
        ("Lamp", False),
        ("Verity", False),
    ],
)
def test_people_are_found_by_whole_address_or_how_their_name_begins(
    staff: Client, model: str, term: str, *, found: bool
) -> None:
    person = make_subscriber("vera@readers.example", name="Vera Lamp", tier="paid")
    Subscription.objects.create(subscriber=person, newsletter=make_newsletter())
    consent.choose_tracking(person, tracking=Subscriber.Tracking.OFF, source="test")
    make_reader(Subscription.objects.get().newsletter, tier="founding")
    answer = staff.get(reverse(f"admin:subscribers_{model}_changelist"), {"q": term})
    assert len(answer.context["cl"].result_list) == int(found)


def test_a_suppression_is_added_by_address_and_found_by_it(staff: Client) -> None:
    person = make_subscriber("vera@readers.example")
    staff.post(reverse("admin:subscribers_suppression_add"), {"address": "Vera@readers.example"})
    assert Suppression.objects.get().fingerprint == person.fingerprint
    assert ConsentRecord.objects.get().action == ConsentRecord.Action.SUPPRESSED
    answer = staff.get(reverse("admin:subscribers_suppression_changelist"), {"q": "VERA@readers.example"})
    assert len(answer.context["cl"].result_list) == 1


def lifting_from(staff: Client, page: str) -> str:
    """Where the first *Lift…* on `page` leads."""
    found = re.search(r'href="([^"]+/delete/[^"]*)"', staff.get(page).text)
    assert found
    return html.unescape(found[1])


def test_who_lifts_a_suppression_is_told_what_and_comes_back_to_their_page_of_the_list(staff: Client) -> None:
    people = [make_subscriber(name=f"Vera {number}") for number in range(60)]
    rows = [Suppression.objects.create(fingerprint=person.fingerprint, reason="manual") for person in people]
    listed = f"{reverse('admin:subscribers_suppression_changelist')}?older={rows[5].pk}"
    found = re.search(r'href="([^"]+/change/\?[^"]+)"', staff.get(listed).text)
    assert found
    lift = lifting_from(staff, html.unescape(found[1]))
    asked = staff.get(lift)
    assert "Delete" not in asked.text
    assert asked.context["back"] == listed
    answer: Any = staff.post(lift, {"post": "yes", "reason": "She wrote."})
    assert answer.url == listed
    said = [str(message) for message in staff.get(answer.url).context["messages"]]
    assert said == ["Lifted for Vera 4: manual, the whole site."]


def test_who_lifts_from_a_readers_page_comes_back_to_it(staff: Client) -> None:
    person, newsletter = make_subscriber(name="Vera"), make_newsletter(name="Loom Weekly")
    consent.suppress(person.fingerprint, reason=Suppression.Reason.COMPLAINT, source="test")
    consent.suppress(person.fingerprint, reason=Suppression.Reason.MANUAL, newsletter=newsletter, source="test")
    lift = lifting_from(staff, page_of(person))
    answer = staff.post(lift, {"post": "yes", "reason": "She wrote."}, follow=True)
    assert answer.redirect_chain == [(page_of(person), 302)]
    assert [str(message) for message in answer.context["messages"]] == [
        "Lifted for Vera: manual, Loom Weekly. Another suppression of this address still stands."
    ]


def test_what_somebody_has_lifted_meanwhile_is_said_and_leads_back(staff: Client) -> None:
    row = Suppression.objects.create(fingerprint="f", reason="manual")
    url = reverse("admin:subscribers_suppression_delete", args=[row.pk])
    row.delete()
    answer = staff.post(url, {"post": "yes", "reason": "By letter."}, follow=True)
    assert answer.redirect_chain == [(reverse("admin:subscribers_suppression_changelist"), 302)]
    assert [str(message) for message in answer.context["messages"]] == ["Somebody has lifted it already."]


def test_an_address_that_no_reader_has_is_lifted_without_a_name(staff: Client) -> None:
    row = Suppression.objects.create(fingerprint="f", reason="manual")
    url = reverse("admin:subscribers_suppression_delete", args=[row.pk])
    answer = staff.post(url, {"post": "yes", "reason": "By letter."}, follow=True)
    said = [str(message) for message in answer.context["messages"]]
    assert said == ["Lifted for an address that no reader has: manual, the whole site."]


@pytest.mark.parametrize("reason", ["complaint", "erased"])
def test_what_nobody_may_lift_has_no_button(staff: Client, reason: str) -> None:
    row = Suppression.objects.create(fingerprint="f", reason=reason)
    shown = staff.get(reverse("admin:subscribers_suppression_change", args=[row.pk]))
    assert "Lift" not in shown.text
    assert "/delete/" not in shown.text


@pytest.mark.parametrize(
    ("reason", "lifted"),
    [("manual", True), ("hard bounce", True), ("soft bounce", True), ("complaint", False), ("erased", False)],
)
def test_operators_lift_their_own_word_and_bounces_only(staff: Client, reason: str, *, lifted: bool) -> None:
    row = Suppression.objects.create(fingerprint=make_subscriber().fingerprint, reason=reason)
    url = reverse("admin:subscribers_suppression_delete", args=[row.pk])
    staff.post(url, {"post": "yes", "reason": "He  wrote\nfrom there."})
    assert Suppression.objects.filter(pk=row.pk).exists() is not lifted
    reasons = ConsentRecord.objects.filter(action="unsuppressed").values_list("reason", flat=True)
    assert list(reasons) == (["He wrote from there."] if lifted else [])


def test_nothing_is_lifted_without_a_reason(staff: Client) -> None:
    row = Suppression.objects.create(fingerprint=make_subscriber().fingerprint, reason="hard bounce")
    url = reverse("admin:subscribers_suppression_delete", args=[row.pk])
    assert "say why" in staff.post(url, {"post": "yes", "reason": " "}, follow=True).text
    assert Suppression.objects.filter(pk=row.pk).exists()
    with pytest.raises(ValueError, match="Say why"):
        consent.lift(row, reason=" ", source="test")
    assert Suppression.objects.filter(pk=row.pk).exists()


def test_lifting_says_no_to_a_complaint_whoever_asks() -> None:
    row = Suppression.objects.create(fingerprint="f", reason=Suppression.Reason.COMPLAINT)
    assert not consent.lift(row, reason="Let me.", source="test")
    assert Suppression.objects.filter(pk=row.pk).exists()


def test_a_tier_that_somebody_holds_stays(staff: Client) -> None:
    make_subscriber(tier="paid")
    paid = Tier.objects.get(slug="paid")
    url = reverse("admin:subscribers_tier_delete", args=[paid.pk])
    assert "Give them another tier first" in staff.get(url).text
    staff.post(url, {"post": "yes"})
    assert Tier.objects.filter(pk=paid.pk).exists()


def test_deleting_a_tier_says_which_sections_nobody_would_see(staff: Client) -> None:
    make_issue(make_newsletter(), paid="Secret.", title="The lamp issue")
    url = reverse("admin:subscribers_tier_delete", args=[Tier.objects.get(slug="paid").pk])
    text = staff.get(url).text
    assert "“For members” of “The lamp issue” names it" in text
    assert "nobody" in text
    staff.post(url, {"post": "yes"})
    assert not Tier.objects.filter(slug="paid").exists()
    assert Section.objects.get(heading="For members").tier is None


@pytest.mark.parametrize("model", ["subscription", "consentrecord"])
def test_rows_that_record_consent_are_neither_added_nor_deleted(staff: Client, model: str) -> None:
    reader = make_reader(make_newsletter())
    consent.pause(reader, source="test")
    row = reader if model == "subscription" else ConsentRecord.objects.get()
    assert staff.get(reverse(f"admin:subscribers_{model}_add")).status_code == 403
    assert staff.post(reverse(f"admin:subscribers_{model}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403


def test_a_subscription_does_not_change_by_its_form(staff: Client) -> None:
    reader = make_reader(make_newsletter())
    staff.post(reverse("admin:subscribers_subscription_change", args=[reader.pk]), {"status": "unsubscribed"})
    reader.refresh_from_db()
    assert reader.status == Status.ACTIVE


def test_a_persons_page_offers_the_actions_and_shows_the_history(staff: Client) -> None:
    reader = make_reader(make_newsletter())
    consent.pause(reader, source="a page of ours")
    text = staff.get(page_of(reader.subscriber)).text
    assert 'value="erase"' in text
    assert "a page of ours" in text
