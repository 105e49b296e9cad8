"""What comes back to the return path: four verdicts, and answers that are none."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from newsletter import bounces
from newsletter.bounces import Kind, Verdict

# In the samples' labels: reports of what did arrive, and what readers' machines answer.
NO_BOUNCE = {"feedback", "vacation", "delivered"}


def test_the_samples_are_told_apart(samples: Path) -> None:
    folder = samples / "bounces"
    labels = json.loads((folder / "labels.json").read_text())
    hard: list[bool] = []
    other: list[bool] = []
    none: list[bool] = []
    for name, recipients in labels.items():
        verdict = bounces.read((folder / name).read_bytes()).verdict
        if all(recipient["reason"] in NO_BOUNCE for recipient in recipients):
            none.append(verdict in {Verdict.HARD, Verdict.SOFT, Verdict.BLOCK})
        elif any(recipient["hard"] for recipient in recipients):
            hard.append(verdict is Verdict.HARD)
        else:
            other.append(verdict is Verdict.HARD)
    assert len(hard) + len(other) + len(none) == len(labels) > 200
    assert sum(none) == 0
    assert sum(hard) / len(hard) >= 0.85
    assert sum(other) / len(other) <= 0.20


@given(st.binary(max_size=2000))
def test_no_bytes_raise(raw: bytes) -> None:
    assert bounces.read(raw).verdict in Verdict


def test_a_report_of_a_missing_mailbox_is_hard() -> None:
    raw = b"From: MAILER-DAEMON@mx.example.net\nSubject: failure notice\n\n<ada@example.org>:\n550 5.1.1 no such user\n"
    report = bounces.read(raw)
    assert (report.kind, report.verdict, report.status) == (Kind.BOUNCE, Verdict.HARD, "5.1.1")
    assert report.recipients == ("ada@example.org",)
    assert "ada" not in report.diagnostic


def test_a_blocked_sender_is_the_senders_fault() -> None:
    judgement = bounces.judge("554 5.7.1 Service unavailable; client host [192.0.2.1] blocked using zen.spamhaus.org")
    assert judgement.verdict is Verdict.BLOCK
