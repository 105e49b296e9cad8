"""The mailbox page: what the local SMTP server took, reader by reader, each mail as it arrived.

A mail is foreign text. Its HTML is shown in a frame that may run no script and knows no origin; everything else is
escaped, and the pages themselves allow no inline script or style.
"""

from __future__ import annotations

import re
from typing import Any, TypedDict
from urllib.parse import urlencode

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import content_disposition_header
from django.views.decorators.cache import never_cache
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_POST, require_safe

from newsletter import security
from newsletter.content import clean_text
from newsletter.mailbox import reading
from newsletter.mailbox.store import Store, Stored

PAGE = 50  # mails in a list
CHIPS = 100  # readers to choose from; the search finds any other
RELOAD_SECONDS = 5
LONGEST_QUERY = 200
TABS = {"html": "HTML", "text": "Text", "headers": "Headers", "source": "Source"}

_PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; frame-src 'self'; base-uri 'none'; frame-ancestors 'none';"
    " form-action 'self'"
)
# Images from anywhere, as in a mail program: the open pixel counts when the mail is looked at. Nothing else is loaded,
# nothing runs; a link opens an ordinary tab, which the sandbox no longer binds.
_SANDBOX = "allow-popups allow-popups-to-escape-sandbox"
_MAIL_POLICY = (
    "default-src 'none'; img-src * data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none';"
    f" frame-ancestors 'self'; sandbox {_SANDBOX}"
)
# Where a base element may stand without pushing the doctype from its place, best first.
_STARTS = [re.compile(rf"<{tag}(?:\s[^>]*)?>", re.IGNORECASE) for tag in ("head", "html", "!doctype")]


@require_safe
@never_cache
def inbox(request: HttpRequest) -> HttpResponse:
    """The list, newest first: `?reader=` and `?q=` narrow it, `?before=` turns the page, `?reload=1` keeps it fresh."""
    chosen = _choice(request)
    before = request.GET.get("before", "")
    with _store() as store:
        found = store.newest(PAGE + 1, int(before) if _is_id(before) else None, **chosen)
        context = {
            "mails": found[:PAGE],
            "older": _query(chosen, before=found[PAGE - 1].id) if len(found) > PAGE else "",
            "paged": _is_id(before),
            "total": store.count(),
            "matching": store.count(**chosen),
        }
        readers = store.readers(CHIPS + 1)
    reload = request.GET.get("reload") == "1"
    context |= {
        "chosen": chosen,
        "narrowed": chosen["reader"] is not None or chosen["query"] != "",
        "selection": _query(chosen),
        "chips": [
            (address, mails, _query({**chosen, "reader": address}), address == (chosen["reader"] or "").casefold())
            for address, mails in readers[:CHIPS]
        ],
        "more_readers": len(readers) > CHIPS,
        "everybody": _query({**chosen, "reader": None}),
        "reload_seconds": RELOAD_SECONDS if reload else None,
        "toggle": _query(chosen) if reload else _query(chosen, reload=1),
    }
    return _page(request, "mailbox/inbox.html", context)


@require_safe
@never_cache
def mail(request: HttpRequest, mail_id: int) -> HttpResponse:
    """One mail: `?show=` names one of TABS (without it HTML, or text where there is none); the choice is the list's."""
    chosen = _choice(request)
    with _store() as store:
        stored = _get(store, mail_id)
        older = store.newest(1, before=mail_id, **chosen)
        newer = store.newer(mail_id, **chosen)
    letter = reading.read(stored.raw)
    tab = request.GET.get("show", "")
    if tab not in TABS:
        tab = "html" if letter.html is not None else "text"
    context = {
        "head": stored.head,
        "letter": letter,
        "tab": tab,
        "tabs": [(key, title, _query(chosen, show=key)) for key, title in TABS.items()],
        "source": stored.raw.decode("utf-8", "replace") if tab == "source" else "",
        "size": len(stored.raw),
        "newer": newer,
        "older": older[0].id if older else None,
        "selection": _query(chosen),
        "stay": _query(chosen, show=tab) if "show" in request.GET else _query(chosen),
        "sandbox": _SANDBOX,
    }
    return _page(request, "mailbox/mail.html", context, form_action=security.origin(letter.unsubscribe_url))


@require_safe
@xframe_options_sameorigin
def frame(request: HttpRequest, mail_id: int) -> HttpResponse:
    """The HTML of a mail, for the frame in its page: as it arrived, but that links open in a new tab."""
    with _store() as store:
        letter = reading.read(_get(store, mail_id).raw)
    if letter.html is None:
        raise Http404("This mail has no HTML part.")
    response = HttpResponse(_links_in_new_tab(letter.html))
    response["Content-Security-Policy"] = _MAIL_POLICY
    return response


@require_safe
def raw(request: HttpRequest, mail_id: int) -> HttpResponse:
    """The mail's bytes as they arrived, to save as a file that mail programs open."""
    with _store() as store:
        stored = _get(store, mail_id)
    return _download(stored.raw, "message/rfc822", f"mail-{mail_id}.eml")


@require_safe
def attachment(request: HttpRequest, mail_id: int, index: int) -> HttpResponse:
    """An attachment, always as a file to save: its type is what a stranger says it is."""
    with _store() as store:
        letter = reading.read(_get(store, mail_id).raw)
    found = next((each for each in letter.attachments if each.index == index), None)
    if found is None:
        raise Http404("This mail has no such attachment.")
    return _download(found.content, "application/octet-stream", found.name)


@require_POST
def empty(request: HttpRequest) -> HttpResponse:
    """Delete every mail in the mailbox."""
    with _store() as store:
        store.clear()
    return HttpResponseRedirect(reverse("mailbox:inbox"))


class _Choice(TypedDict):
    """Which mails are looked at, as `Store.newest` takes it."""

    reader: str | None
    query: str


def _choice(request: HttpRequest) -> _Choice:
    query = " ".join(clean_text(request.GET.get("q", "")).split())[:LONGEST_QUERY]
    return {"reader": clean_text(request.GET.get("reader", "")).strip() or None, "query": query}


def _query(chosen: _Choice, **more: object) -> str:
    """The query string, question mark and all, of a link that keeps the choice; empty where there is nothing to say."""
    named = {"reader": chosen["reader"], "q": chosen["query"], **more}
    return "?" + urlencode({name: value for name, value in named.items() if value}) if any(named.values()) else ""


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


def _store() -> Store:
    path = settings.ENV.mailbox_path
    if path is None:
        raise Http404("There is no mailbox here: MAILBOX_PATH is not set.")
    return Store(path)


def _get(store: Store, mail_id: int) -> Stored:
    found = store.get(mail_id)
    if found is None:
        raise Http404("There is no such mail in the mailbox.")
    return found


def _page(request: HttpRequest, template: str, context: dict[str, Any], form_action: str = "") -> HttpResponse:
    response = render(request, template, context)
    response["Content-Security-Policy"] = f"{_PAGE_POLICY} {form_action}".rstrip()
    return response


def _download(content: bytes, media_type: str, name: str) -> HttpResponse:
    response = HttpResponse(content, content_type=media_type)
    response["Content-Disposition"] = content_disposition_header(True, name)
    response["Content-Security-Policy"] = "sandbox"
    return response


def _links_in_new_tab(html: str) -> str:
    start = next((found for pattern in _STARTS if (found := pattern.search(html))), None)
    at = start.end() if start else 0
    return f'{html[:at]}<base target="_blank">{html[at:]}'
