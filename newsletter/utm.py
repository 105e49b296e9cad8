"""UTM parameters: what tells the author's own web statistics that a visitor came from an issue.

They say which newsletter and issue, nothing of the reader, so they do not hang on tracking. A link's own parameters
win, and its query and fragment stay as they are, byte by byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from urllib.parse import quote, unquote_plus, urlsplit

from django.utils.encoding import punycode
from django.utils.text import slugify

from newsletter.content import IssueContent, UtmContent

_HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")
# What an author may write into a value, and what of the issue then stands there.
FIELDS = {"newsletter": "the word in the newsletter's address", "number": "the issue's number", "title": "its title"}


def tagger(issue: IssueContent) -> Callable[[str], str]:
    """A function that gives a web address the parameters of `issue`, where its newsletter wants them there."""
    values = {name: fill(template, issue) for name, template in _templates(issue.utm)}
    given = {name: value for name, value in values.items() if value}
    return partial(tag, values=given, hosts=issue.utm.hosts) if given and not issue.single else str


def tag(url: str, *, values: dict[str, str], hosts: tuple[str, ...] = ()) -> str:
    """`url` with those of `values` that it does not have itself; as it is where it leads to none of `hosts` (any will
    do where there are none) nor below one."""
    if not _leads_to(url, hosts):
        return url
    before, hash_sign, fragment = url.partition("#")
    base, _, query = before.partition("?")
    there = {unquote_plus(part.partition("=")[0]).lower() for part in query.split("&")}
    added = "&".join(f"{name}={quote(value, safe='')}" for name, value in values.items() if name not in there)
    if not added:
        return url
    between = "&" if query and not query.endswith("&") else ""
    return f"{base}?{query}{between}{added}{hash_sign}{fragment}"


def fill(template: str, issue: IssueContent) -> str:
    """`template` with each of FIELDS replaced; "{newsletter}-{number}" is "weekly-12". What is missing leaves no
    hyphen behind."""
    values = {
        "newsletter": issue.newsletter_slug,
        "number": "" if issue.number is None else str(issue.number),
        "title": slugify(issue.title, allow_unicode=True),
    }
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", value)
    return template.strip(" -_")


def host_of(word: str) -> str:
    """The host that `word` names, in lower case: a host itself, or an address with one. Empty where it is neither."""
    try:
        host = urlsplit(word if "://" in word else f"//{word}").hostname or ""
    except ValueError:
        return ""
    return host if _HOST.fullmatch(_ascii(host)) else ""


def hosts_in(text: str) -> list[str]:
    """The hosts that `text` names, parted by spaces, commas or semicolons; an address pasted whole counts for its host.

    Raises ValueError, a sentence, for a word that names none.
    """
    hosts: dict[str, None] = {}
    for word in text.replace(",", " ").replace(";", " ").split():
        if not (host := host_of(word)):
            raise ValueError(f"“{word}” is no host: write it like example.org.")
        hosts[host] = None
    return list(hosts)


def problem(template: str) -> str:
    """What is wrong with a value as an author writes it, in a sentence; empty when nothing is."""
    rest = template
    for name in FIELDS:
        rest = rest.replace(f"{{{name}}}", "")
    if "{" in rest or "}" in rest:
        return f"Between braces there may stand: {', '.join(f'{{{name}}}' for name in FIELDS)}."
    return ""


def _templates(utm: UtmContent) -> list[tuple[str, str]]:
    return [("utm_source", utm.source), ("utm_medium", utm.medium), ("utm_campaign", utm.campaign)]


def _leads_to(url: str, hosts: tuple[str, ...]) -> bool:
    try:
        host = _ascii(urlsplit(url).hostname or "")
    except ValueError:
        return False
    return not hosts or any(host == own or host.endswith(f".{own}") for own in map(_ascii, hosts))


def _ascii(host: str) -> str:
    try:
        return punycode(host.lower().rstrip("."))
    except UnicodeError:
        return host
