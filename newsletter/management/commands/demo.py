"""`manage.py demo`: everything at once on this machine, for looking around; `make demo` calls it."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

from django.core.management.base import BaseCommand

from newsletter.demo import running
from newsletter.settings import ENV


class Command(BaseCommand):
    help = "Start a demo: web server, workers, a local mail server, an issue sent. DEMO_PORT sets the port (8000)."
    requires_system_checks: list[str] = []

    def handle(self, **options: Any) -> None:
        """Run until stopped; exit status 1 and a sentence where it cannot start or a part of it fails."""
        try:
            port = running.port_from(os.environ.get("DEMO_PORT", "").strip() or "8000")
            status = running.run(port, (ENV.data_dir / "demo").resolve(), self._say)
        except running.CannotStart as error:
            self.stderr.write(str(error))
            status = 1
        sys.exit(status)

    def _say(self, line: str) -> None:
        # A reader of our words who is gone (a closed terminal) must not keep the programs from being ended.
        with contextlib.suppress(OSError):
            self.stdout.write(line)
            self.stdout.flush()
