"""Masthead: the Django project and the app that publishes and sends.

The way of an issue, in order:

    authoring    a file or pasted text becomes an issue with sections
    scheduling   a revision is pinned in a dispatch; the only changes of Dispatch.status
    audience     who would get it; the snapshot that freezes readers into deliveries and batches
    gate         who sees which section; the only place that knows
    rendering    sections and a profile become a variant: HTML and text, with slots for what differs per reader
    message      a variant becomes MIME pieces once; per reader the pieces are joined
    sending      SENDING HAPPENS HERE: claim, message, transport, note the outcome
    tracking     signed links that lead back
    intake       what they bring is kept before the answer, and written down in bulk
    incoming     what an e-mail provider tells of sent mail
    events       what readers do with it: opens, clicks, unsubscribes
    feedback     what others report of it: bounces, complaints, deliveries; and what follows
"""

from newsletter.celery import app as celery_app

__all__ = ["celery_app"]
