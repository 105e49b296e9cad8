"""What one may do with a dispatch in each of its states, and what is asked first where it cannot be taken back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.http import HttpRequest
from django.urls import reverse

from newsletter import scheduling
from newsletter.admin.acting import SEND, Button, Question
from newsletter.admin.dispatches import progress
from newsletter.models import Delivery, Dispatch

Status = Dispatch.Status
LONGEST_REASON = 200


@dataclass(frozen=True)
class Act:
    """One thing to do with a dispatch: `do` does it and gives a sentence; `question` is asked first, where there is
    one, given the dispatch and its deliveries by status."""

    do: Callable[[Dispatch, HttpRequest], str]
    question: Callable[[Dispatch, dict[str, int]], Question] | None = None


def _unschedule(dispatch: Dispatch, request: HttpRequest) -> str:
    scheduling.unschedule(dispatch)
    return "Undone: nothing was sent, and the issue is a draft again."


def _pause(dispatch: Dispatch, request: HttpRequest) -> str:
    reason = " ".join(request.POST.get("reason", "").split())[:LONGEST_REASON]
    scheduling.pause(dispatch, reason or f"Paused by {request.user.get_username()}.")
    return "Paused. What is being handed over right now is finished; nothing more goes out."


def _resume(dispatch: Dispatch, request: HttpRequest) -> str:
    scheduling.resume(dispatch, by=request.user.get_username())
    return f"It goes out on {scheduling.when(dispatch)}." if dispatch.status == Status.SCHEDULED else "It goes on."


NO_DOUBT = "Nothing is in doubt any more."


def _take_note(dispatch: Dispatch, request: HttpRequest) -> str:
    scheduling.take_note(dispatch, by=request.user.get_username())
    return "Noted, with your name and the time."


def _cancel(dispatch: Dispatch, request: HttpRequest) -> str:
    scheduling.cancel(dispatch)
    return "Cancelled. Nothing more of it is sent."


def _resend(dispatch: Dispatch, request: HttpRequest) -> str:
    return _done(scheduling.resend_unconfirmed(dispatch), "sent again", NO_DOUBT)


def _accept(dispatch: Dispatch, request: HttpRequest) -> str:
    return _done(scheduling.accept_unconfirmed(dispatch), "taken as sent", NO_DOUBT)


def _retry(dispatch: Dispatch, request: HttpRequest) -> str:
    # Whoever posts this was told by the question.
    return _done(scheduling.retry_failed(dispatch, sure=True), "tried again", "No mail that was refused is left.")


def _asks_cancel(dispatch: Dispatch, counts: dict[str, int]) -> Question:
    sent, queued = counts[Delivery.Status.SENT], counts[Delivery.Status.QUEUED]
    sentences = [f"{_readers(queued)} still waiting for it will not get it."]
    if sent:
        sentences.append(
            f"{_readers(sent)} got it already: that cannot be called back, and the issue can not be sent again."
        )
    else:
        sentences.append("Nobody has got it yet: the issue becomes a draft again.")
    return Question(
        "Cancel this dispatch?",
        (*sentences, "To stop it for a while, pause it instead."),
        "Cancel the dispatch",
        "danger",
    )


def _asks_resend(dispatch: Dispatch, counts: dict[str, int]) -> Question:
    number = counts[Delivery.Status.UNCONFIRMED]
    return Question(
        "Send again what is in doubt?",
        (
            f"For {_mails(number, verb=False)} nobody knows whether it arrived: it was handed over and no answer came.",
            "Sending again makes sure that everybody gets the issue. Some may get it twice.",
        ),
        "Send again",
    )


def _asks_accept(dispatch: Dispatch, counts: dict[str, int]) -> Question:
    number = counts[Delivery.Status.UNCONFIRMED]
    return Question(
        "Take what is in doubt as sent?",
        (
            f"For {_mails(number, verb=False)} nobody knows whether it arrived: it was handed over and no answer came.",
            "Taking them as sent makes sure that nobody gets the issue twice. Some may never get it.",
        ),
        "Take as sent",
    )


def _asks_retry(dispatch: Dispatch, counts: dict[str, int]) -> Question:
    number = counts[Delivery.Status.FAILED]
    return Question(
        "Try again what was refused?",
        (
            f"{_mails(number, verb=False).capitalize()} refused by the reader's mail server.",
            "Addresses that do not exist will refuse again; too many of these harm how mail servers see you.",
            *filter(None, [scheduling.unsure_of_refused(dispatch)]),
        ),
        "Try again",
    )


ACTS = {
    "unschedule": Act(_unschedule),
    "pause": Act(_pause),
    "resume": Act(_resume),
    "cancel": Act(_cancel, _asks_cancel),
    "note": Act(_take_note),
    "resend": Act(_resend, _asks_resend),
    "accept": Act(_accept, _asks_accept),
    "retry": Act(_retry, _asks_retry),
}


def buttons(request: HttpRequest, dispatch: Dispatch | None) -> list[Button]:
    """What this member of staff may do with `dispatch` now; empty for those who may only look."""
    if dispatch is None or not request.user.has_perm(SEND):
        return []
    pause = Button("Pause", _path(dispatch, "pause"), icon="pause", field=("reason", "Why (optional)"))
    cancel = Button("Cancel…", _path(dispatch, "cancel"), asks=True, icon="close")
    match dispatch.status:
        case Status.SCHEDULED if progress.can_be_undone(dispatch):
            found = [Button("Undo", _path(dispatch, "unschedule"), variant="primary", icon="undo")]
        case Status.SCHEDULED:
            found = [Button("Unschedule", _path(dispatch, "unschedule"), icon="event_busy")]
        case Status.PREPARING | Status.SENDING:
            found = [pause, cancel]
        case Status.PAUSED:
            found = [Button("Resume", _path(dispatch, "resume"), variant="primary", icon="play_arrow"), cancel]
        case Status.SENT | Status.CANCELLED if dispatch.breached:
            found = [Button("Take note", _path(dispatch, "note"), variant="primary", icon="done")]
        case _:
            found = []
    return found


def settling(request: HttpRequest, dispatch: Dispatch, counts: dict[str, int]) -> list[Button]:
    """What may be done about mail in doubt and mail that was refused."""
    if not request.user.has_perm(SEND) or dispatch.status == Status.CANCELLED:
        return []
    found = []
    if counts[Delivery.Status.UNCONFIRMED]:
        found += [
            Button("Send again…", _path(dispatch, "resend"), asks=True, icon="send"),
            Button("Take as sent…", _path(dispatch, "accept"), asks=True, icon="done"),
        ]
    if counts[Delivery.Status.FAILED]:
        found.append(Button("Try the refused again…", _path(dispatch, "retry"), asks=True, icon="refresh"))
    return found


def _path(dispatch: Dispatch, name: str) -> str:
    return reverse(f"admin:newsletter_dispatch_{name}", args=[dispatch.pk])


def _mails(number: int, *, verb: bool = True) -> str:
    noun = "1 mail" if number == 1 else f"{number:,} mails"
    return f"{noun} {'is' if number == 1 else 'are'}" if verb else noun


def _done(number: int, what: str, nothing: str) -> str:
    """What was done with so many mails; `nothing` where somebody, or an answer, was first."""
    return f"{_mails(number)} {what}." if number else nothing


def _readers(number: int) -> str:
    return "1 reader" if number == 1 else f"{number:,} readers"
