"""Telling the operator at once: the log at error level, and mail to ADMINS."""

from __future__ import annotations

import logging

from django.core.mail import mail_admins

logger = logging.getLogger(__name__)


def alert(subject: str, text: str) -> None:
    """Say it loudly. What keeps the mail back keeps back neither the log line nor the caller."""
    logger.error("%s: %s", subject, text)
    try:
        mail_admins(subject, text)
    except Exception as error:  # each provider's library has errors of its own
        logger.warning("The alert could not be mailed: %s", error)
