"""A mail in a frame of the admin: one profile's view through the gate and the renderer, never stored, never tracked."""

from __future__ import annotations

from html import escape

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render as render_template

from newsletter import fields, gate, rendering
from newsletter.content import IssueContent, Profile, TrackingMode
from newsletter.security import PREVIEW_POLICY

# What a mail says for dark mode, and what makes a browser follow it whatever its own setting is.
_ASKED = "(prefers-color-scheme: dark)"
_ANSWERED = {True: "all", False: "not all"}
# The reader's own links lead nowhere in a preview: nobody's choices are to be changed from it.
_LINKS = dict.fromkeys(("unsubscribe_url", "preferences_url", "web_url"), "#")


def mail(content: IssueContent, profile: Profile, *, dark: bool = False, text: bool = False) -> HttpResponse:
    """`content` as readers of `profile` get it by mail, as a page for a frame; `text` shows the plain text part.

    `dark` is what the mail app prefers. What cannot be rendered is answered with the sentences that say why.
    """
    try:
        rendered = rendering.render(gate.view(content, profile), tracking=TrackingMode.OFF, text_only=text)
    except rendering.RenderingError as error:
        return problems([str(error)])
    values = {**_LINKS, "upgrade_url": content.upgrade_url}
    table = fields.SlotTable(list(rendered.slots))
    if text:
        return HttpResponse(
            table.fill(rendered.text, values), content_type="text/plain; charset=utf-8", headers=_framed()
        )
    html = table.fill(rendered.html, values, quote=escape)
    return HttpResponse(html.replace(_ASKED, _ANSWERED[dark]), headers=_framed())


def problems(sentences: list[str], request: HttpRequest | None = None) -> HttpResponse:
    """A page for the frame that says why there is no mail to see."""
    return HttpResponse(
        render_template(request, "admin/no_preview.html", {"sentences": sentences}).content, headers=_framed()
    )


def with_link(response: HttpResponse, link: str) -> HttpResponse:
    """`response` with `link` in its head: what a link becomes, for the page around the frame to show."""
    response.content = response.text.replace("</head>", f'<meta name="tagged-link" content="{escape(link)}"></head>', 1)
    return response


def _framed() -> dict[str, str]:
    return {"Content-Security-Policy": PREVIEW_POLICY, "X-Frame-Options": "SAMEORIGIN", "Cache-Control": "no-store"}
