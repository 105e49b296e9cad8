"""What comes back to the return path: bounces, complaints, automatic answers, people. Pure: no database, no Django.

    read(raw)    a whole message, as a mailbox or a pipe gives it
    judge(text)  one refusal: a reply in an SMTP session, or a provider's words
    kind_of_feedback(type)  what a report of readers' feedback means

    reading      what kind of message it is, and what follows
    mime         a message of any bytes, without an exception
    reports      the machine-readable parts: delivery reports (RFC 3464), feedback reports (RFC 5965), JSON
    notices      reports for people: what the machine says, apart from the mail it returns
    answers      automatic answers, mailto unsubscribes, people
    judging      the words, then the codes
    phrases/     the words
    statuses     the codes

A well-kept library (flufl.bounce, Mailman's) gives a bounce's address, and whether it is temporary or permanent. With
signed return addresses the address is known, and permanent is not hard: most 5.x.x are not. So this package stands
alone.
"""

from __future__ import annotations

from newsletter.bounces.judging import judge
from newsletter.bounces.reading import kind_of_feedback, read
from newsletter.bounces.verdicts import Cause, Failure, Judgement, Kind, Report, Verdict

__all__ = ["Cause", "Failure", "Judgement", "Kind", "Report", "Verdict", "judge", "kind_of_feedback", "read"]
