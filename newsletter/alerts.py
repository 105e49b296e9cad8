"""Telling the operator at once: the log at error level, and mail to ADMINS."""

from __future__ import annotations

import logging

from django.core.mail import mail_admins

logger = logging.getLogger(__name__)


def alert(subject: str, text: str) -> None:
    """Say it loudly. A mail server that is away keeps the mail back, never the log line."""
    logger.error("%s: %s", subject, text)
    try:
        mail_admins(subject, text)
    except OSError as error:
        logger.warning("The alert could not be mailed: %s", error)
