"""Readers from a CSV file: who is subscribed, who is not, and which files are refused."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.models import Model
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from newsletter.models import Newsletter
from subscribers import addresses, consent, importing, tiers
from subscribers.importing import ImportRefused, Report
from subscribers.models import ConsentRecord, Membership, Subscriber, Subscription, Suppression, Tier, tier_level_of

pytestmark = pytest.mark.django_db

Status = Subscription.Status


def make_newsletter(**fields: Any) -> Newsletter:
    return Newsletter.objects.create(**{"slug": "weekly", "name": "The Weekly", **fields})


def make_reader(newsletter: Newsletter, address: str, *, tier: str = "", **fields: Any) -> Subscription:
    tiers.ensure_default()
    parsed = addresses.parse(address)
    subscriber = Subscriber.objects.create(
        address=parsed.given, address_key=parsed.key, fingerprint=addresses.fingerprint(parsed.key), name="Old Name"
    )
    if tier:
        Membership.objects.create(subscriber=subscriber, tier=Tier.objects.get(slug=tier))
    fields = {"status": Status.ACTIVE, **fields}
    return Subscription.objects.create(subscriber=subscriber, newsletter=newsletter, **fields)


def make_file(folder: Path, content: str | bytes, name: str = "readers.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def statuses(newsletter: Newsletter) -> dict[str, str]:
    rows = newsletter.subscriptions.values_list("subscriber__address_key", "status")
    return dict(rows)


def level(address: str) -> int:
    held: int = Subscriber.objects.filter(address_key=address).values_list(tier_level_of("pk"), flat=True)[0]
    return held


def everything() -> dict[str, list[dict[str, Any]]]:
    models: tuple[type[Model], ...] = (Subscriber, Subscription, Membership, ConsentRecord, Suppression, Tier)
    return {model.__name__: list(model._base_manager.order_by("pk").values()) for model in models}


def check_sum(report: Report) -> None:
    parts = report.added + report.already + report.updated + report.kept + report.suppressed + report.duplicates
    assert report.rows == parts + len(report.rejected)


def test_subscribes_the_readers_of_a_file_at_their_tiers(tmp_path: Path) -> None:
    newsletter = make_newsletter()
    text = "email,name,tier\nAda@Example.org,Ada Lovelace,Paid\nbo@example.org,,free\ncy@example.org,Cy,FOUNDING\n"
    report = importing.import_file(make_file(tmp_path, text), newsletter)
    assert (report.rows, report.added, report.rejected, report.notes) == (3, 3, [], [])
    assert report.tiers == {"free": 1, "paid": 1, "founding": 1}
    assert set(statuses(newsletter).values()) == {Status.ACTIVE}
    ada = Subscriber.objects.get(address_key="ada@example.org")
    assert (ada.name, ada.address, ada.fingerprint) == (
        "Ada Lovelace",
        "Ada@example.org",
        addresses.fingerprint("ada@example.org"),
    )
    assert [membership.kind for membership in ada.memberships.all()] == [Membership.Kind.PAID]
    assert (level("ada@example.org"), level("bo@example.org"), level("cy@example.org")) == (1, 0, 2)
    record = ConsentRecord.objects.get(subscriber=ada)
    assert (record.action, record.source, record.newsletter) == ("imported", "import of readers.csv", newsletter)


@pytest.mark.parametrize(
    "text",
    [
        "email;name;tier\nada@example.org;Ada Lovelace;paid\n",
        "email\tname\ttier\r\nada@example.org\tAda Lovelace\tpaid\r\n",
        "\ufeffE-Mail,Full Name,Tier\nada@example.org,Ada Lovelace,paid\n",
        "First Name,LAST_NAME,Email Address,tier\nAda,Lovelace,ada@example.org,paid\n",
        "\n\ntier,notes,email,name\n\npaid,x,ada@example.org,Ada Lovelace\n\n",
        "ada@example.org,Ada Lovelace,paid\n",
        'email,name,tier\n"ada@example.org","Ada\nLovelace","paid"\n',
    ],
    ids=["semicolons", "tabs", "mark", "two-names", "any-order", "no-header", "quoted"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_reads_what_spreadsheets_write(tmp_path: Path, text: str, encoding: str) -> None:
    newsletter = make_newsletter()
    text = text if encoding == "utf-8" else text.removeprefix("\ufeff")
    report = importing.import_file(make_file(tmp_path, text.encode(encoding)), newsletter)
    assert (report.added, report.rejected) == (1, [])
    assert Subscriber.objects.get().name == "Ada Lovelace"
    assert level("ada@example.org") == 1


def test_says_how_it_understood_a_file_that_is_not_plain(tmp_path: Path) -> None:
    newsletter = make_newsletter()
    old = make_file(tmp_path, "email,name,notes\nzoe@example.org,Zoë,x\n".encode("cp1252"))
    report = importing.import_file(old, newsletter)
    assert Subscriber.objects.get().name == "Zoë"
    assert "Windows-1252" in report.notes[0]
    assert report.notes[1] == "Columns left aside: notes."
    bare = importing.import_file(make_file(tmp_path, "bo@example.org\n"), newsletter)
    assert "no header" in bare.notes[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"name,tier\nAda,paid\n", "no column “email”"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not a text file"),
        (b"PK\x03\x04\x14\0\0\0\x08\0", "not a text file"),
        (b"\x81\x8d\x8f\n", "not a text file"),
        (b"email,name\nada@example.org,\x81\n", "not a text file"),
        (b"email,e-mail\na@example.org,b@example.org\n", "two columns for the email"),
        (b'email,name\nada@example.org,"Ada\n', "Line 2 of readers.csv breaks the CSV format"),
        (b'email,name\nada@example.org,"Ada" x\n', "Line 2 of readers.csv breaks the CSV format"),
        (b"email,tier\nada@example.org,paid\nbo@example.org,gold\n", "Line 3 of readers.csv names the tier “gold”"),
        (b"email,status\nada@example.org,unsubscribed\n", "says who left"),
        (b"email,Unsubscribed At\nada@example.org,\n", "says who left"),
        (b"email\n" + b"a@example.org " * 20000, "breaks the CSV format"),
    ],
)
def test_a_file_that_cannot_be_understood_throughout_imports_nothing(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    tiers.ensure_default()
    newsletter = make_newsletter()
    before = everything()
    with pytest.raises(ImportRefused, match=reason):
        importing.import_file(make_file(tmp_path, content), newsletter)
    assert everything() == before


def test_an_unknown_tier_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    path = make_file(tmp_path, "email,tier\nada@example.org,gold\n")
    with pytest.raises(ImportRefused, match="there are: free, paid, founding"):
        importing.import_file(path, make_newsletter())


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    newsletter = make_newsletter()
    with pytest.raises(ImportRefused, match="is not a file"):
        importing.import_file(tmp_path, newsletter)
    with pytest.raises(ImportRefused, match="There is no file"):
        importing.import_file(tmp_path / "none.csv", newsletter)
    with pytest.raises(ImportRefused, match="cannot be read"):
        importing.import_file(tmp_path / ("x" * 5000), newsletter)


def test_refuses_a_file_of_more_than_fifty_megabytes(tmp_path: Path) -> None:
    path = make_file(tmp_path, "email\n")
    with path.open("r+b") as file:
        file.truncate(importing.MAX_BYTES + 1)
    with pytest.raises(ImportRefused, match="larger than 50 MB"):
        importing.import_file(path, make_newsletter())


def test_refuses_more_rows_than_it_can_tell_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subscribers.importing.reading.MAX_ROWS", 2)
    path = make_file(tmp_path, "email\na@example.org\nb@example.org\nc@example.org\n")
    with pytest.raises(ImportRefused, match="more than 2 rows"):
        importing.import_file(path, make_newsletter())
    assert not Subscriber.objects.exists()


def test_a_row_without_a_usable_address_is_left_out_and_listed_without_it(tmp_path: Path) -> None:
    newsletter = make_newsletter()
    lines = ["email,name", "secret.person@@example.org,A", ",Nobody", "ok@example.org,Fine", "a@example.org,Ng, Bo"]
    lines += [f"b@example.org,{'x' * 201}", '"evil@example.org\nBcc: x@example.org",B']
    report = importing.import_file(make_file(tmp_path, "\n".join(lines)), newsletter)
    assert statuses(newsletter) == {"ok@example.org": Status.ACTIVE}
    assert [rejected.line for rejected in report.rejected] == [2, 3, 5, 6, 7]
    check_sum(report)
    assert not any("example.org" in rejected.reason for rejected in report.rejected)


def test_a_row_is_listed_by_the_line_it_begins_on(tmp_path: Path) -> None:
    text = 'email,name\nada@example.org,"Ada\n\nLovelace"\n\nnobody,"No\nbody"\nnobody,\n'
    report = importing.import_file(make_file(tmp_path, text), make_newsletter())
    assert [rejected.line for rejected in report.rejected] == [6, 8]


@pytest.mark.parametrize("evil", ["Ada\r\nBcc: all@example.org", "Ada\x0bBcc: x", "Ada\u2028Bcc: x", "\u202eAda"])
def test_a_name_cannot_carry_a_header(tmp_path: Path, evil: str) -> None:
    out = io.StringIO()
    csv.writer(out).writerows([["email", "name"], ["ada@example.org", evil]])
    importing.import_file(make_file(tmp_path, out.getvalue()), make_newsletter())
    name = Subscriber.objects.get().name
    assert name.startswith("Ada")
    assert not set(name) & set("\r\n\x0b\u2028\u202e")


def test_the_first_row_of_a_reader_counts(tmp_path: Path) -> None:
    text = "email,name,tier\nada@example.org,Ada,free\nADA@EXAMPLE.ORG,Other,paid\n"
    report = importing.import_file(make_file(tmp_path, text), make_newsletter())
    assert (report.rows, report.added, report.duplicates) == (2, 1, 1)
    assert Subscriber.objects.get().name == "Ada"
    assert not Membership.objects.exists()


@pytest.mark.parametrize("status", [Status.PENDING, Status.PAUSED, Status.UNSUBSCRIBED])
def test_an_import_never_changes_the_status_of_a_subscription(tmp_path: Path, status: Subscription.Status) -> None:
    newsletter = make_newsletter()
    make_reader(newsletter, "ada@example.org", status=status)
    report = importing.import_file(make_file(tmp_path, "email,tier\nada@example.org,paid\n"), newsletter)
    assert (report.added, report.updated, report.kept) == (0, 0, 1)
    assert statuses(newsletter) == {"ada@example.org": status}
    assert not ConsentRecord.objects.exists()


@pytest.mark.parametrize("whole_site", [True, False])
def test_a_suppressed_address_is_not_subscribed(tmp_path: Path, *, whole_site: bool) -> None:
    newsletter = make_newsletter()
    fingerprint = addresses.fingerprint("ada@example.org")
    consent.suppress(
        fingerprint,
        reason=Suppression.Reason.COMPLAINT,
        newsletter=None if whole_site else newsletter,
        source="test",
    )
    path = make_file(tmp_path, "email,tier\nAda@example.org,paid\n")
    report = importing.import_file(path, newsletter)
    assert (report.suppressed, report.added) == (1, 0)
    assert not Subscriber.objects.exists()
    elsewhere = importing.import_file(path, make_newsletter(slug="other"))
    assert elsewhere.suppressed == (1 if whole_site else 0)


def test_an_erased_person_does_not_come_back(tmp_path: Path) -> None:
    newsletter = make_newsletter()
    path = make_file(tmp_path, "email\nada@example.org\n")
    importing.import_file(path, newsletter)
    consent.erase(Subscriber.objects.get(), source="test")
    assert importing.import_file(path, newsletter).suppressed == 1
    assert not Subscriber.objects.exists()


def test_a_tier_is_raised_and_never_lowered(tmp_path: Path) -> None:
    newsletter = make_newsletter()
    for address, tier in (("up@example.org", ""), ("same@example.org", "paid"), ("down@example.org", "founding")):
        make_reader(newsletter, address, tier=tier)
    text = "email,tier\nup@example.org,paid\nsame@example.org,paid\ndown@example.org,free\n"
    report = importing.import_file(make_file(tmp_path, text), newsletter)
    assert (report.updated, report.already) == (1, 2)
    assert [level(f"{who}@example.org") for who in ("up", "same", "down")] == [1, 1, 2]
    assert Membership.objects.count() == 3
    assert report.tiers == {"free": 0, "paid": 2, "founding": 1}


def test_a_name_replaces_the_old_one_and_an_empty_one_does_not(tmp_path: Path) -> None:
    newsletter = make_newsletter()
    make_reader(newsletter, "ada@example.org")
    make_reader(newsletter, "bo@example.org")
    report = importing.import_file(
        make_file(tmp_path, "email,name\nada@example.org,New Name\nbo@example.org,\n"), newsletter
    )
    assert (report.updated, report.already) == (1, 1)
    assert sorted(Subscriber.objects.values_list("name", flat=True)) == ["New Name", "Old Name"]


def test_a_known_person_is_subscribed_to_another_newsletter(tmp_path: Path) -> None:
    make_reader(make_newsletter(), "ada@example.org")
    other = make_newsletter(slug="other")
    assert importing.import_file(make_file(tmp_path, "email\nada@example.org\n"), other).added == 1
    assert Subscriber.objects.count() == 1
    assert statuses(other) == {"ada@example.org": Status.ACTIVE}


def test_after_a_failure_in_the_middle_the_same_file_does_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subscribers.importing.storing.CHUNK", 2)
    newsletter = make_newsletter()
    path = make_file(tmp_path, "email\n" + "".join(f"reader{n}@example.org\n" for n in range(6)))

    def stop(done: int, total: int) -> None:
        assert total == 6
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        importing.import_file(path, newsletter, progress=stop)
    report = importing.import_file(path, newsletter)
    assert (report.already, report.added) == (4, 2)
    assert Subscriber.objects.count() == 6


def test_a_chunk_takes_a_fixed_number_of_statements(tmp_path: Path) -> None:
    newsletter = make_newsletter()
    path = make_file(tmp_path, "email,name,tier\n" + "".join(f"r{n}@example.org,R {n},paid\n" for n in range(100)))
    with CaptureQueriesContext(connection) as queries:
        importing.import_file(path, newsletter)
    assert len(queries) < 40


CELLS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", "ada@example.org", "BO@Example.ORG", "paid", "free", '"', "a,b", "x\r\nBcc: y@example.org"]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(CELLS, max_size=4), max_size=8))
@example(rows=[["ada@example.org", "Ada", "paid"], ["ada@example.org", "", ""], ["é@example.org"]])
def test_whatever_a_file_holds_the_sums_agree_and_a_second_import_changes_nothing(
    tmp_path: Path, rows: list[list[str]]
) -> None:
    newsletter, _ = Newsletter.objects.get_or_create(slug="weekly", defaults={"name": "The Weekly"})
    tiers.ensure_default()
    out = io.StringIO()
    csv.writer(out).writerows([["email", "name", "tier"], *rows])
    path = make_file(tmp_path, out.getvalue().encode("utf-8", "replace"))
    before = everything()
    try:
        first = importing.import_file(path, newsletter)
    except ImportRefused:
        assert everything() == before
        return
    check_sum(first)
    assert sum(first.tiers.values()) == first.added + first.already + first.updated + first.kept
    after = everything()
    second = importing.import_file(path, newsletter)
    assert everything() == after
    assert (second.added, second.updated) == (0, 0)
    assert second.already == first.added + first.already + first.updated
    for subscriber in Subscriber.objects.all():
        assert "\n" not in subscriber.name
        assert "\r" not in subscriber.name
