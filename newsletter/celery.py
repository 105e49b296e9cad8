"""The Celery app: `celery -A newsletter worker`, and `celery -A newsletter beat` once."""

import os

from celery import Celery
from celery.signals import task_prerun, worker_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "newsletter.settings")
app = Celery("newsletter")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_init.connect
def refuse_unfit_settings(**_: object) -> None:
    """End a worker whose settings would lose or leak mail: Celery runs Django's checks and heeds none of them."""
    from django.core.management.base import BaseCommand, SystemCheckError

    try:
        BaseCommand().check()
    except SystemCheckError as error:
        raise SystemExit(str(error)) from error


@task_prerun.connect
def close_old_connections(**_: object) -> None:
    """Let go of database connections that broke or are too old, as Django does before each request."""
    from django import db

    db.close_old_connections()
