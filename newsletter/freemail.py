"""Mail services where anybody may have an address: their readers have nothing in common but the domain."""

from __future__ import annotations

# Providers whose DMARC policy has mail in their name refused or put aside when it comes from anybody else's server.
REFUSING_OTHERS = frozenset(
    {
        "aol.com", "gmail.com", "gmx.de", "gmx.net", "googlemail.com", "hotmail.com", "icloud.com", "live.com",
        "mac.com", "mail.ru", "me.com", "msn.com", "outlook.com", "proton.me", "protonmail.com", "web.de", "yahoo.com",
        "yandex.ru", "ymail.com",
    }
)  # fmt: skip
_OTHERS = frozenset(
    {
        # Services of their own
        "126.com", "163.com", "daum.net", "fastmail.com", "hey.com", "mail.com", "mailbox.org", "naver.com", "pm.me",
        "posteo.de", "qq.com", "rediffmail.com", "rocketmail.com", "tuta.com", "tutanota.com", "zoho.com",
        "bk.ru", "inbox.ru", "list.ru", "rambler.ru", "interia.pl", "o2.pl", "onet.pl", "wp.pl", "seznam.cz",
        # What comes with a connection or a telephone
        "arcor.de", "freenet.de", "t-online.de", "bluewin.ch", "free.fr", "laposte.net", "orange.fr", "sfr.fr",
        "wanadoo.fr", "alice.it", "libero.it", "tin.it", "virgilio.it", "telefonica.net", "sapo.pt", "ziggo.nl",
        "telenet.be", "skynet.be", "btinternet.com", "ntlworld.com", "sky.com", "virginmedia.com", "att.net",
        "bellsouth.net", "charter.net", "comcast.net", "cox.net", "sbcglobal.net", "verizon.net", "bigpond.com",
        "docomo.ne.jp", "ezweb.ne.jp", "softbank.ne.jp", "bol.com.br", "terra.com.br", "uol.com.br",
    }
)  # fmt: skip
# With a domain in each country: gmx.at, hotmail.co.uk, yahoo.co.jp.
_EVERYWHERE = frozenset({"gmx", "hotmail", "live", "outlook", "yahoo", "yandex"})


def is_service(domain: str) -> bool:
    """Whether addresses at `domain` (lower case) are those of a mail service. Not every service is known."""
    return domain in REFUSING_OTHERS or domain in _OTHERS or domain.partition(".")[0] in _EVERYWHERE
