"""Every change of Dispatch.status. Each is one conditional UPDATE: of two beats, one moves the row.

DRAFT <-> SCHEDULED -> PREPARING -> SENDING <-> PAUSED -> SENT
SCHEDULED -> MISSED -> DRAFT | SCHEDULED;  PREPARING <-> PAUSED;  SENT -> SENDING (the author resends what is in doubt)
any but SENT -> CANCELLED;  SCHEDULED <-> PAUSED (a backup was restored)
"""

from newsletter.scheduling.acts import (
    UNDO_WINDOW,
    NotNow,
    NotSure,
    accept_unconfirmed,
    cancel,
    end_halt,
    halt,
    pause,
    pause_if_running,
    refuse_unless_editable,
    resend_unconfirmed,
    resume,
    retry_failed,
    schedule,
    send_single,
    take_note,
    unschedule,
)
from newsletter.scheduling.clock import resolve, wall_time_in, when
from newsletter.scheduling.restoring import Distrusted, distrust, unsure, unsure_of_refused
from newsletter.scheduling.singles import kept_back, tell_of_kept_back, unsettled
from newsletter.scheduling.ticking import (
    GRACE,
    check,
    finish,
    forget_erased,
    pause_and_tell,
    prepare,
    start_due,
    take_back_expired,
    to_prepare,
    to_ring,
    waiting_singles,
)

__all__ = [
    "GRACE",
    "UNDO_WINDOW",
    "Distrusted",
    "NotNow",
    "NotSure",
    "accept_unconfirmed",
    "cancel",
    "check",
    "distrust",
    "end_halt",
    "finish",
    "forget_erased",
    "halt",
    "kept_back",
    "pause",
    "pause_and_tell",
    "pause_if_running",
    "prepare",
    "refuse_unless_editable",
    "resend_unconfirmed",
    "resolve",
    "resume",
    "retry_failed",
    "schedule",
    "send_single",
    "start_due",
    "take_back_expired",
    "take_note",
    "tell_of_kept_back",
    "to_prepare",
    "to_ring",
    "unschedule",
    "unsettled",
    "unsure",
    "unsure_of_refused",
    "waiting_singles",
    "wall_time_in",
    "when",
]
