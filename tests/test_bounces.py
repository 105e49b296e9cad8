"""What comes back to the return path: four verdicts, complaints, and answers that are no bounces."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsletter import bounces
from newsletter.bounces import Kind, Verdict
from tests import returned
from tests.conftest import ROOT

FIXTURES = Path(__file__).parent / "fixtures" / "bounces"
LABELS: dict[str, str] = json.loads((FIXTURES / "labels.json").read_text())
BOUNCED = {Verdict.HARD, Verdict.SOFT, Verdict.BLOCK}

# In the samples' labels: reports of what did arrive, and what readers' machines answer.
NO_BOUNCE = {"feedback", "vacation", "delivered"}


def fixture(name: str) -> bytes:
    return (FIXTURES / f"{name}.eml").read_bytes()


@pytest.mark.parametrize("name", LABELS)
def test_each_shape_gets_its_verdict(name: str) -> None:
    assert bounces.read(fixture(name)).verdict == LABELS[name]


@pytest.mark.parametrize("name", LABELS)
def test_line_ends_do_not_matter(name: str) -> None:
    raw = fixture(name)
    for end in (b"\r\n", b"\r"):
        assert bounces.read(raw.replace(b"\n", end)).verdict == LABELS[name]


@pytest.mark.parametrize("name", LABELS)
def test_no_address_is_left_in_what_is_kept(name: str) -> None:
    report = bounces.read(fixture(name))
    assert "@" not in report.diagnostic + report.reason
    assert all("@" not in failure.judgement.diagnostic for failure in report.failures)


def test_the_samples_are_told_apart(samples: Path) -> None:
    folder = samples / "bounces"
    labels = json.loads((folder / "labels.json").read_text())
    hard: list[bool] = []
    other: list[bool] = []
    none: list[bool] = []
    for name, recipients in labels.items():
        verdict = bounces.read((folder / name).read_bytes()).verdict
        if all(recipient["reason"] in NO_BOUNCE for recipient in recipients):
            none.append(verdict in BOUNCED)
        elif any(recipient["hard"] for recipient in recipients):
            hard.append(verdict is Verdict.HARD)
        else:
            other.append(verdict is Verdict.HARD)
    assert len(hard) + len(other) + len(none) == len(labels) > 200
    assert sum(none) == 0
    assert sum(hard) / len(hard) >= 0.95
    assert sum(other) / len(other) <= 0.05


@given(st.binary(max_size=2000))
def test_no_bytes_raise(raw: bytes) -> None:
    assert bounces.read(raw).verdict in Verdict


@given(st.sampled_from(sorted(LABELS)), st.data())
def test_a_report_cut_off_or_damaged_anywhere_raises_nothing(name: str, data: st.DataObject) -> None:
    raw = fixture(name)
    place = data.draw(st.integers(0, len(raw)))
    junk = data.draw(st.binary(max_size=30))
    for broken in (raw[:place], raw[place:], raw[:place] + junk + raw[place:]):
        assert bounces.read(broken).verdict in Verdict


def test_a_mail_of_boxes_in_boxes_raises_nothing() -> None:
    raw = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (level, level) for level in range(3000))
    assert bounces.read(raw).verdict is Verdict.NOT_A_BOUNCE


# Each held a worker for minutes or hours: what takes a long look where a header, a field or a mail is made for it.
LONG = 2_000_000
TIMES = 5  # so that a single one of them that takes long is past the deadline
REPORT = b"From: MAILER-DAEMON@there.example\nSubject: Undelivered Mail\n"
BOMBS = {
    "a header of semicolons": REPORT + b'Content-Type: text/plain; x="' + b";" * LONG + b"\n\nx",
    "a header of parameters": REPORT + b"Content-Type: text/plain" + b"; a*0=x" * (LONG // 7) + b"\n\nx",
    "a header of encoded words": REPORT + b"To: " + b"=?utf-8?q?a?= " * (LONG // 14) + b"\n\nx",
    "a header in lines": REPORT + b'Content-Type: text/plain; x="' + (b";" * 900 + b"\n ") * (LONG // 902) + b"\n\nx",
    "a field in lines": REPORT
    + b"Content-Type: message/delivery-status\n\nFinal-Recipient: rfc822;ada@there.example\nDiagnostic-Code: x\n"
    + b" x\n" * (LONG // 3),
    "boxes around many lines": REPORT
    + b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (level, level) for level in range(900))
    + b"x\n" * (LONG // 2),
}


def test_no_mail_holds_up_the_others(tmp_path: Path) -> None:
    for name, raw in BOMBS.items():
        for number in range(TIMES):
            (tmp_path / f"{name} {number}").write_bytes(raw)
    command = [sys.executable, "manage.py", "classify_bounces", "--json", str(tmp_path)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, check=True)
    assert len(json.loads(told.stdout)) == len(BOMBS) * TIMES


def test_the_headers_that_count_are_read_behind_one_that_is_too_long() -> None:
    raw = fixture("postfix-unknown")
    report = bounces.read(b"X-Long: " + b"a " * 50_000 + b"\n" + raw)
    assert (report.verdict, report.sent_to) == (Verdict.HARD, ("b+tok@letters.example",))


def test_a_report_is_read_whole_whatever_the_mail_in_it_speaks_of() -> None:
    raw = fixture("postfix-unknown")
    spoken = raw.replace(b"\nUser unknown,", b"\n" + b"The boundary of the parish. " * 60 + b"\nUser unknown,")
    assert spoken != raw
    assert bounces.read(spoken) == bounces.read(raw)


@given(st.text(max_size=300))
def test_judging_any_text_raises_nothing(text: str) -> None:
    assert bounces.judge(text).verdict in BOUNCED


def test_a_bounce_says_whom_it_is_about_and_which_mail_it_returns() -> None:
    report = bounces.read(fixture("postfix-unknown"))
    assert (report.kind, report.status) == (Kind.BOUNCE, "5.1.1")
    assert report.recipients == ("ada@there.example",)
    assert report.message_id == "m.abc123@letters.example"
    assert report.headers["list-id"] == "The Weekly <weekly.letters.example>"
    assert report.sent_to == ("b+tok@letters.example",)
    assert report.reason == "There is no such mailbox."


def test_each_recipient_of_a_report_has_a_verdict_the_gravest_first() -> None:
    report = bounces.read(fixture("two-recipients"))
    found = [(failure.address, failure.judgement.verdict) for failure in report.failures]
    assert found == [("ada@there.example", Verdict.HARD), ("ben@there.example", Verdict.SOFT)]


def test_of_a_report_on_very_many_recipients_the_first_are_looked_at() -> None:
    many = [f"reader{number}@there.example" for number in range(300)]
    report = bounces.read(returned.bounce("b@letters.example", *many))
    assert report.recipients == tuple(many[:20])


def test_the_returned_mails_own_words_are_not_the_machines() -> None:
    report = bounces.read(fixture("qmail-no-mailbox"))
    assert report.verdict is Verdict.HARD
    assert "tulips" not in report.diagnostic


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("vacation", Kind.AUTO_REPLY),
        ("ticket", Kind.AUTO_REPLY),
        ("challenge", Kind.AUTO_REPLY),
        ("unsubscribe", Kind.UNSUBSCRIBE),
        ("reply", Kind.REPLY),
        ("delivered", Kind.NOTICE),
        ("warning-only", Kind.NOTICE),
        ("arf-not-spam", Kind.NOTICE),
        ("arf-opt-out", Kind.UNSUBSCRIBE),
        ("ses-not-spam", Kind.NOTICE),
    ],
)
def test_what_is_no_bounce_is_told_apart(name: str, kind: Kind) -> None:
    assert bounces.read(fixture(name)).kind is kind


AUTOMATIC = {"Auto-Submitted": "auto-replied"}
NO_PATH = {"Return-Path": "<>"}


def from_whom(sender: str, subject: str, body: str, **headers: str) -> bytes:
    return returned.letter("b@letters.example", subject, body, **headers).replace(
        b"Ada <ada@readers.example>", sender.encode(), 1
    )


# Each speaks of mail and addresses, and of none of ours that failed.
NO_REPORTS = [
    ("mail@shop.example", "Automatische Antwort: Number 12", "Diese Adresse existiert nicht mehr."),
    ("kim@antivirus.example", "Automatic reply: Number 12", "I have left the company, my account was deleted."),
    ("Postmaster <postmaster@there.example>", "Automatic reply: Number 12", "I am away. Was your mail blocked? Call."),
    ("MAILER-DAEMON@there.example", "Abwesenheit: Number 12", "Das Postfach ist gelöscht.\n\nkim@there.example\n"),
    ("Postmaster <postmaster@there.example>", "Your question", "An unknown user has no mailbox here, as you know."),
    ("Postmaster <postmaster@there.example>", "Thank you for your report", "Was it a blocked mail, an unknown user?"),
    ("antispam@there.example", "Please confirm your mail", "It is held: you are not on my white list."),
    ("Kim <kim@there.example>", "Mail rejected by our server", "I passed it on to Bo and got: user unknown. Why?"),
    ("Kim <kim@there.example>", "My mailbox is full", "Of your letters! One was rejected: 552 mailbox full."),
    ("Kim <kim@there.example>", "Undelivered parcel", "The address does not exist, they say at the post office."),
    ("Kim <kim@there.example>", "Returned mail", "> 550 5.1.1 user unknown\n\nWhat does that mean?"),
    ("Kim <kim@there.example>", "Automatic reply: Why mail is returned", "My old address does not exist any more."),
]


@pytest.mark.parametrize("headers", [{}, AUTOMATIC], ids=["by hand", "automatic"])
@pytest.mark.parametrize(("sender", "subject", "body"), NO_REPORTS)
def test_who_speaks_of_addresses_reports_no_failure(
    sender: str, subject: str, body: str, headers: dict[str, str]
) -> None:
    assert bounces.read(from_whom(sender, subject, body, **headers)).verdict is Verdict.NOT_A_BOUNCE


@pytest.mark.parametrize("subject", ["Number 12", "Re: Undelivered parcels", "Automatic reply: Undelivered parcels"])
def test_an_empty_return_path_alone_makes_no_absence_note_a_report(subject: str) -> None:
    body = "Kim has left. The account was deleted.\n\nkim@there.example\n"
    raw = from_whom("Kim <kim@there.example>", subject, body, **AUTOMATIC, **NO_PATH)
    assert bounces.read(raw).kind is Kind.AUTO_REPLY


def test_nobody_is_given_up_for_words_that_come_with_an_empty_return_path_alone() -> None:
    words = "Your mail to Kim could not be delivered: there is no such mailbox."
    raw = from_whom("Post <post@there.example>", "Undelivered mail", words, **NO_PATH)
    assert bounces.read(raw).verdict is Verdict.SOFT
    assert bounces.read(raw.replace(b"Post <post@", b"Postmaster <post@")).verdict is Verdict.HARD


@pytest.mark.parametrize(
    ("sender", "subject", "body"),
    [
        ("Post <mail@there.example>", "Mail rejected", "Refused:\n\n550 unknown user\n"),
        ("Post <mail@there.example>", "Your mail was rejected", "They said: 550 5.1.1 unknown user"),
        ("MAILER-DAEMON@there.example", "Undeliverable: Out of office, and happy", "No such user: kim@there.example"),
        ("MAILER-DAEMON@there.example", "Automatic reply: mail failed", "The answer was: 550 5.1.1 unknown user"),
        ("MAILER-DAEMON@there.example", "Number 12", "kim@there.example\nunknown user"),
    ],
)
def test_whoever_quotes_the_servers_reply_reports_a_failure(sender: str, subject: str, body: str) -> None:
    assert bounces.read(from_whom(sender, subject, body)).verdict is Verdict.HARD


@pytest.mark.parametrize(
    ("subject", "headers", "kind"),
    [
        ("Unsubscribe", {}, Kind.UNSUBSCRIBE),
        ("Re: AW: unsubscribe me from this list, please!", {}, Kind.UNSUBSCRIBE),
        ("Re: Unsubscribe from what tires you: a plan", {}, Kind.REPLY),
        ("Re: Remove me from your sight", AUTOMATIC, Kind.AUTO_REPLY),
        ("Re: Unsubscribe", AUTOMATIC, Kind.AUTO_REPLY),
    ],
)
def test_the_subject_of_an_issue_is_nobodys_wish_to_leave(subject: str, headers: dict[str, str], kind: Kind) -> None:
    assert bounces.read(from_whom("Kim <kim@there.example>", subject, "Thanks.", **headers)).kind is kind


def test_a_report_in_html_alone_is_read_without_what_a_browser_hides() -> None:
    html = b"<html><head><style>.spam{}</style></head><p>Not delivered to &lt;ada@there.example&gt;:</p><p>No such user"
    raw = b"From: postmaster@there.example\nSubject: Undeliverable\nContent-Type: text/html\n\n" + html
    report = bounces.read(raw)
    assert (report.verdict, report.recipients) == (Verdict.HARD, ("ada@there.example",))


def test_a_complaint_names_its_type_and_the_mail() -> None:
    report = bounces.read(fixture("arf-abuse"))
    assert (report.kind, report.feedback_type) == (Kind.COMPLAINT, "abuse")
    assert report.message_id == "m.abc123@letters.example"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("550 5.1.1 User unknown", Verdict.HARD),
        ("450 4.1.1 User unknown", Verdict.SOFT),
        ("550 5.1.1 mailbox is over quota", Verdict.SOFT),
        ("550 5.7.1 Recipient address rejected: blocked using bl.spamcop.net", Verdict.BLOCK),
        ("550 5.7.1 <ada@there.example>... Relaying denied", Verdict.BLOCK),
        ("550 Sender address rejected: User unknown", Verdict.BLOCK),
        ("554 5.7.1 Unknown recipient", Verdict.HARD),
        ("550 5.4.4 Host not found", Verdict.HARD),
        ("Host not found, try again", Verdict.SOFT),
        ("550 Das Postfach des Empfängers ist voll", Verdict.SOFT),
        ("550 用户不存在", Verdict.HARD),
        ("550", Verdict.SOFT),
    ],
)
def test_words_weigh_more_than_codes(text: str, verdict: Verdict) -> None:
    assert bounces.judge(text).verdict is verdict


def test_a_temporary_code_is_never_hard() -> None:
    assert bounces.judge("no such user", code=451).verdict is Verdict.SOFT
    assert bounces.judge("no such user", status="4.1.1").verdict is Verdict.SOFT


def test_a_refusal_before_the_reader_was_named_is_the_senders() -> None:
    assert bounces.judge("550 No such domain", step="mail").verdict is Verdict.BLOCK
    assert bounces.judge("554 No", step="connect").verdict is Verdict.BLOCK
