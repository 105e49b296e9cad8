"""The WSGI entry for the web server: `granian --interface wsgi newsletter.wsgi:application`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "newsletter.settings")
_django = get_wsgi_application()

from newsletter.views.hits import Shortcut  # noqa: E402 - what it stands on needs Django set up

application = Shortcut(_django)
