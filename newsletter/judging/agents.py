"""What a User-Agent header says of who asks."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, lru_cache
from importlib import import_module
from typing import cast

# Apple Mail Privacy Protection fetches every picture through a proxy that says no more than this.
APPLE = "Mozilla/5.0"
# Gmail in advance, while a mailbox is open: exactly this, and no browser ever ended so (SparkPost, January 2022, over
# 9.8 billion opens). https://www.sparkpost.com/blog/gmail-prefetching-images/
GMAIL_PREFETCH = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/42.0.2311.135"
    " Safari/537.36 Edge/12.246 Mozilla/5.0"
)
# These fetch a picture when a person opens the mail, and follow no links.
_PROXIES = re.compile(r"GoogleImageProxy|ggpht\.com|YahooMailProxy", re.IGNORECASE)
# What the list of crawlers does not have, since it is about the web: those who look through mail and say so, and
# whatever calls itself by one of these words. Word limits, for there are telephones named Cubot.
_SCANNERS = re.compile(
    r"barracuda|mimecast|proofpoint|urldefense|fireeye|trellix|symantec|messagelabs|forcepoint|websense|fortimail"
    r"|fortiguard|sophos|trendmicro|ironport|zscaler|hornetsecurity|vadesecure|cloudmark|avanan|smartscreen"
    r"|spamassassin|rspamd|safelinks|phishtank|virustotal|urlscan"
    r"|\b(?:ro)?bots?\b|\bcrawlers?\b|\bspider\b|\bscanner\b|\blink ?(?:checker|preview|expand)|\bheadless"
    r"|(?-i:[a-z]Bot\b)|postmanruntime|^java/",
    re.IGNORECASE,
)
# Every graphical browser since 1994 begins so, or like Opera until 2013; the rest are browsers for a terminal.
_BROWSER = re.compile(r"Mozilla/\d|Opera/\d|Lynx/|w3m/|Links \(|ELinks/|Dillo/|NetSurf/", re.IGNORECASE)


def is_proxy(agent: str) -> bool:
    """Whether a mail service asks on behalf of a person who opens a mail right now."""
    return _PROXIES.search(agent) is not None


def is_browser(agent: str) -> bool:
    """Whether it names itself as browsers do."""
    return _BROWSER.match(agent) is not None


@lru_cache(maxsize=10_000)  # the same few thousand agents come again and again, and the list takes 90 µs
def is_crawler(agent: str) -> bool:
    """Whether it names itself as a crawler, link preview, scanner or script does."""
    return _SCANNERS.search(agent) is not None or _listed()(agent)


@cache
def _listed() -> Callable[[str], bool]:
    """The list, brought in when it is first needed: it is large, and the web server does not judge."""
    return cast("Callable[[str], bool]", import_module("crawleruseragents").is_crawler)
