"""One message from the return-path mailbox: what kind it is, and what follows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from newsletter.bounces import answers, mime, notices, redaction, reports, statuses
from newsletter.bounces.judging import is_hollow, says_why, step_in, weigh
from newsletter.bounces.mime import Mail
from newsletter.bounces.phrases.rules import any_of
from newsletter.bounces.verdicts import Cause, Failure, Judgement, Kind, Report, Verdict

_GRAVITY = (Verdict.HARD, Verdict.BLOCK, Verdict.SOFT)
_OWN_HEADERS = ("message-id", "list-id", "list-unsubscribe", "feedback-id")
_SENT_TO = ("delivered-to", "x-original-to", "envelope-to", "x-envelope-to", "to")
# Of these every mail has some, whoever wrote it and whichever way it came.
_OF_ANY_MAIL = frozenset({"from", "sender", "received", "return-path", "message-id"})
# RFC 5965 section 7.3 (its drafts for "opt-out"): what a report is about when it is no complaint of a reader.
_NO_COMPLAINT = {
    "not-spam": (Kind.NOTICE, "A reader says that the mail is not spam."),
    "auth-failure": (Kind.NOTICE, "A report on SPF, DKIM or DMARC."),
    "opt-out": (Kind.UNSUBSCRIBE, "The reader asks their provider to be unsubscribed."),
}
_STILL_TRYING = any_of(
    r"(?:do not|don't|no) need to (?:resend|re-send|do anything|take)",
    r"need not (?:resend|take)",
    r"this is (?:only )?a warning",
    r"warning (?:message )?only",
    r"will (?:be retried|continue|keep (?:on )?trying|try again|be (?:re)?attempted)",
    r"still (?:being (?:retried|attempted)|trying|in (?:the|our) queue)",
    r"has not yet been delivered",
    r"not been delivered yet",
    r"delivery attempts? will continue",
    r"temporary problem delivering",
    r"brauchen (?:sie )?(?:die )?nachricht nicht",
    r"il n'est pas nécessaire de renvoyer",
)
_FIELDS = re.compile(r"^\s{0,3}(?:final|original)-recipient:", re.MULTILINE | re.IGNORECASE)
# Amazon SES, "Return bounce response action": the reporter is the server that had accepted the mail.
_RECEIPT_RULE = re.compile(r"^reporting-mta:.*inbound-smtp\.[\w-]+\.amazonaws\.com", re.MULTILINE | re.IGNORECASE)
_GIVEN_UP = re.compile(
    r"permanent|giv(?:en|ing) up|fatal error|has failed|could not be delivered after|returned (?:to|as)", re.IGNORECASE
)
_RECIPIENT = re.compile(r"<?([^\s<>()\[\],;:\"'=]{1,64}@[\w-][\w.-]{1,255}\w)>?")
_LONGEST_NOTICE = 12_000
_MOST_RECIPIENTS = 20  # a mail of ours has one; a report of thousands is somebody's mischief


def read(raw: bytes) -> Report:
    """What `raw`, any bytes that came to a return-path mailbox, means. Never raises."""
    mail = mime.parse(raw)
    returned = _returned_headers(mail)
    report = _feedback(mail) or _provider_notification(mail) or _delivery_report(mail) or _notice(mail) or _answer(mail)
    common: dict[str, Any] = {
        "message_id": returned.get("message-id", "").strip("<> "),
        "headers": MappingProxyType({name: returned[name] for name in _OWN_HEADERS if name in returned}),
        "sent_to": tuple(dict.fromkeys(_addresses(value for name in _SENT_TO for value in mail.headers.get(name, [])))),
    }
    return Report(**{**report, **common})


def kind_of_feedback(feedback_type: str) -> Kind:
    """What follows from a report of this type: a complaint, an unsubscribe, or nothing (NOTICE)."""
    return _meant_by(feedback_type)[0]


def _meant_by(feedback_type: str) -> tuple[Kind, str]:
    return _NO_COMPLAINT.get(feedback_type.lower(), (Kind.COMPLAINT, "The reader reported the mail as spam."))


def _feedback(mail: Mail) -> dict[str, Any] | None:
    """A complaint: RFC 5965, or Microsoft's junk mail reporting, which has only a subject and the mail."""
    part = next((part for part in mail.parts if part.type == "message/feedback-report" and not part.inside), None)
    fields = reports.feedback_in(part.text) if part else {}
    if part is None and mail.report_type != "feedback-report":
        subject = mail.header("subject").lower()
        if not (subject.startswith("complaint about message from") or mail.header("x-hmxmroriginalrecipient")):
            return None
    kind = fields.get("feedback-type", "abuse").lower().strip() or "abuse"
    return _report(*_meant_by(kind), feedback_type=kind)


def _provider_notification(mail: Mail) -> dict[str, Any] | None:
    """Amazon SES's own JSON, mailed by SNS."""
    text = next((part.text for part in mail.parts if part.type in {"text/plain", "application/json"}), "")
    event = reports.notification_in(text)
    if event is None:
        return None
    kind = str(event.get("notificationType") or event.get("eventType")).lower()
    if kind == "complaint":
        complaint = event.get("complaint")
        feedback = str(complaint.get("complaintFeedbackType") or "abuse") if isinstance(complaint, dict) else "abuse"
        return _report(*_meant_by(feedback), feedback_type=feedback)
    bounce = event.get("bounce")
    if kind != "bounce" or not isinstance(bounce, dict):
        return _report(Kind.NOTICE, "A provider's notice about mail that did not bounce.")
    found = []
    given = bounce.get("bouncedRecipients")
    for entry in given if isinstance(given, list) else []:
        if isinstance(entry, dict):
            text = str(entry.get("diagnosticCode") or "")
            judgement = weigh(text, status=str(entry.get("status") or ""))
            if is_hollow(judgement) and bounce.get("bounceSubType") in {
                "NoEmail",
                "Suppressed",
                "OnAccountSuppressionList",
            }:
                judgement = Judgement(Cause.NO_MAILBOX, judgement.status, judgement.diagnostic)
            found.append(Failure(str(entry.get("emailAddress") or ""), judgement))
    return _bounce(found or [Failure("", weigh(str(bounce.get("bounceSubType") or "")))])


def _delivery_report(mail: Mail) -> dict[str, Any] | None:
    """RFC 3464, in its own part or, broken by a gateway or forwarded by a person, in the text."""
    parts = [part for part in mail.parts if "delivery-status" in part.type]
    outer = [part.text for part in parts if not part.inside]
    loose = [part.text for part in mail.parts if not part.inside and _FIELDS.search(part.text)]
    if answers.is_forward(mail) and answers.says_failed(mail):
        loose += [text for text in (notices.unquoted(part.text) for part in mail.parts) if _FIELDS.search(text)]
    inner = [part.text for part in parts]
    source = outer or loose or inner
    found = [recipient for text in source for recipient in reports.recipients_in(text)][:_MOST_RECIPIENTS]
    if not found:
        return None
    said = _said(mail)
    failed = [recipient for recipient in found if _has_failed(recipient, mail)]
    if not failed:
        if any(recipient.action == "delayed" or recipient.status.startswith("4") for recipient in found):
            return _report(Kind.NOTICE, "The mail is late; the receiving server is still being tried.")
        return _report(Kind.NOTICE, "The mail was delivered.")
    if any(_RECEIPT_RULE.search(text) for text in source):
        return _bounce([_answered_by_rule(_failure(recipient, "")) for recipient in failed])
    if len(failed) == 1:
        return _bounce([_failure(failed[0], said)])
    entries = dict(notices.entries_in(said))
    return _bounce([_failure(recipient, entries.get(recipient.address, "")) for recipient in failed])


def _answered_by_rule(failure: Failure) -> Failure:
    """Amazon SES takes mail for a whole domain; a rule of its owner answers later, in the words of a template."""
    given = failure.judgement
    hard = given.verdict is Verdict.HARD
    return replace(failure, judgement=replace(given, cause=Cause.RECIPIENT_REFUSES)) if hard else failure


def _has_failed(recipient: reports.Recipient, mail: Mail) -> bool:
    if recipient.action in {"delivered", "relayed", "expanded", "delayed"}:
        return False
    status = statuses.find(recipient.status)
    return (
        recipient.action.startswith("fail") or bool(status) or bool(recipient.diagnostic) or answers.says_failed(mail)
    )


def _failure(recipient: reports.Recipient, said: str) -> Failure:
    """The diagnostic first, then the status; `said`, the words for people about it, only where both say little."""
    judgement = weigh(recipient.diagnostic, status=recipient.status, step=step_in(said))
    silent = not says_why(recipient.diagnostic, vaguely=True) and says_why(said)
    if said and (silent or is_hollow(judgement)):
        wider = _weigh_notice(said, judgement.status or "5.0.0")
        if not is_hollow(wider):
            status, diagnostic = judgement.status or wider.status, judgement.diagnostic or wider.diagnostic
            judgement = Judgement(wider.cause, status, diagnostic)
    return Failure(recipient.address, judgement)


def _notice(mail: Mail) -> dict[str, Any] | None:
    """A report in words only: from a mail system, or with a subject that says so, and with a reason in it."""
    failed, daemon = answers.says_failed(mail), answers.is_daemon(mail)
    declared = bool(mail.header("x-failed-recipients")) or mail.report_type == "delivery-status"
    if not (failed or daemon or declared):
        return None
    named = answers.is_named_daemon(mail)
    if not named and (answers.is_of_a_list(mail) or answers.is_reply(mail)):
        return None
    said, subject = _said(mail), mail.header("subject")
    # A letter, or an answer in somebody's absence, may speak of mail, and what became of it, in any words.
    if not declared and (not (named or (daemon and failed)) or answers.is_away(mail)):
        said = "\n\n".join(notices.replies_in_letter(said))
        if not says_why(said, vaguely=True):
            return None
    if answers.says_delivered(mail) or any("disposition-notification" in part.type for part in mail.parts):
        return _report(Kind.NOTICE, "The mail was delivered.")
    trying = answers.says_delayed(subject) or _STILL_TRYING.search(said.lower())
    if trying and not _GIVEN_UP.search(said):
        return _report(Kind.NOTICE, "The mail is late; the receiving server is still being tried.")
    quoted, listed = bool(notices.answers_in(said)), notices.entries_in(said)
    if not (failed or quoted or ((declared or listed) and says_why(f"{subject}\n\n{said}"))):
        return None
    entries = [Failure(address, _weigh_notice(text, "")) for address, text in listed]
    telling = [failure for failure in entries if not is_hollow(failure.judgement)]
    if len(telling) > 1:
        return _bounce(telling)
    judgement = telling[0].judgement if telling else _weigh_notice(said, "")
    if is_hollow(judgement):
        by_subject = weigh(subject)
        if not is_hollow(by_subject):
            judgement = Judgement(by_subject.cause, judgement.status, judgement.diagnostic)
    if judgement.verdict is Verdict.HARD and not (named or declared or quoted or telling or judgement.status):
        judgement = replace(judgement, cause=Cause.UNCLEAR)  # an empty return path alone is an automatic answer's, too
    found = _addresses([mail.header("x-failed-recipients")]) or [failure.address for failure in telling]
    own = set(_addresses([mail.header("from"), mail.header("to"), mail.header("reply-to")]))
    address = next((address for address in found or _addresses([said]) if address not in own), "")
    return _bounce([Failure(address, judgement)])


def _weigh_notice(said: str, status: str) -> Judgement:
    """Server replies quoted in a notice first, then all of its words."""
    judgement: Judgement | None = None
    step = step_in(said)
    for answer in notices.answers_in(said):
        judgement = weigh(answer, status=status, step=step)
        if not is_hollow(judgement):
            return judgement
    whole = weigh(said, status=status, step=step, quoted=judgement is None and not status)
    if judgement is None or not is_hollow(whole):
        return whole
    return judgement


def _answer(mail: Mail) -> dict[str, Any]:
    leaves = answers.wants_to_leave(mail, _said(mail))
    # The subject of an automatic answer is that of the mail it answers: it may be an issue about leaving.
    if leaves and not answers.declares_automatic(mail):
        return _report(Kind.UNSUBSCRIBE, "The reader asks by mail to be unsubscribed.")
    if answers.is_automatic(mail):
        return {**_report(Kind.AUTO_REPLY, "An automatic answer: the mail arrived."), "asks_to_leave": leaves}
    if answers.is_daemon(mail):
        return _report(Kind.NOTICE, "A mail system's notice that names no failure.")
    if not _OF_ANY_MAIL & mail.headers.keys():
        is_empty = not any(part.text.strip() for part in mail.parts)
        why = "it is empty" if is_empty else "it names no sender and no way it came"
        return _report(Kind.UNREADABLE, f"It cannot be read as a mail: {why}.")
    return _report(Kind.REPLY, "Somebody answered.")


def _bounce(failures: list[Failure]) -> dict[str, Any]:
    ordered = sorted(failures, key=lambda failure: _GRAVITY.index(failure.judgement.verdict))
    known = tuple(failure.address for failure in ordered if failure.address)
    first = ordered[0].judgement
    return {
        "kind": Kind.BOUNCE,
        "verdict": first.verdict,
        "reason": first.reason,
        "status": first.status,
        "diagnostic": redaction.without_addresses(first.diagnostic, known),
        "failures": tuple(ordered),
    }


def _report(kind: Kind, reason: str, *, feedback_type: str = "") -> dict[str, Any]:
    verdict = Verdict.COMPLAINT if kind is Kind.COMPLAINT else Verdict.NOT_A_BOUNCE
    return {"kind": kind, "verdict": verdict, "reason": reason, "feedback_type": feedback_type}


def _said(mail: Mail) -> str:
    """What the machine says in words: text before the returned mail; HTML where there is no text."""
    texts = [part for part in mail.parts if not part.inside and part.type.startswith("text/")]
    plain = [part for part in texts if part.type == "text/plain"] or [p for p in texts if p.type == "text/html"]
    said: list[str] = []
    for part in plain:
        words, returned = notices.divide(part.text)
        said.append(words)
        if returned:
            break
    return "\n\n".join(said)[:_LONGEST_NOTICE]


def _returned_headers(mail: Mail) -> dict[str, str]:
    """The headers of the mail that was returned, names in lower case."""
    for part in mail.parts:
        if part.type in {"message/rfc822", "text/rfc822-headers", "message/rfc822-headers"}:
            return _first_values(mime.headers_in(part.text))
    for part in mail.parts:
        if part.type.startswith("text/"):
            found = _first_values(mime.headers_in(notices.divide(part.text)[1]))
            if found:
                return found
    return {}


def _first_values(headers: dict[str, list[str]]) -> dict[str, str]:
    return {name: values[0] for name, values in headers.items()}


def _addresses(texts: Iterable[str]) -> list[str]:
    return [match[1] for text in texts for match in _RECIPIENT.finditer(text)]
