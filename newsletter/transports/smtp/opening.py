"""The conversation that opens a connection: greeting, encryption, sign-in (RFC 5321, 3207, 4954)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Generator

from newsletter.transports.smtp.relay import Relay
from newsletter.transports.smtp.replies import Reply

# What to say next; None asks for encryption, after which the next word is due at once. What comes back is the answer.
Opening = Generator[bytes | None, Reply, None]


class Refused(Exception):
    """The relay takes no mail from this sender; the message is its reply or the reason."""


class NotNow(ConnectionError):
    """The relay takes no mail for the moment; the message is its reply."""


def opening(relay: Relay, name: str, extensions: dict[str, str]) -> Opening:
    """Greet `relay` as `name`, encrypt and sign in as its URL says, and fill `extensions` with what it offers.

    Raises Refused or NotNow.
    """
    require((yield b""))
    yield from _greet(name, extensions)
    if relay.security == "starttls":
        if "STARTTLS" not in extensions:
            raise Refused(f"{relay.host} does not offer STARTTLS, which SMTP_URL asks for")
        require((yield b"STARTTLS\r\n"))
        yield None
        yield from _greet(name, extensions)
    if relay.user:
        yield from _sign_in(relay.user, relay.password, extensions.get("AUTH", "").upper().split())


def asking_again() -> Opening:
    """Ask whether a connection that was idle for a while still serves. Raises NotNow where it does not."""
    reply = yield b"NOOP\r\n"
    if reply.kind != 2:
        raise NotNow(str(reply))


def require(reply: Reply, *, wanted: int = 2) -> None:
    """Raises Refused (5xx) or NotNow unless `reply` is of the kind that is wanted."""
    if reply.kind == wanted:
        return
    if reply.kind == 5:
        raise Refused(str(reply))
    raise NotNow(str(reply))


def _greet(name: str, extensions: dict[str, str]) -> Opening:
    extensions.clear()
    reply = yield f"EHLO {name}\r\n".encode()
    if reply.kind == 5:  # a relay from before 1995, or one made to look like it: RFC 5321 section 3.2
        require((yield f"HELO {name}\r\n".encode()))
        return
    require(reply)
    # Some write AUTH=LOGIN, as drafts of RFC 2554 did.
    words = [line.replace("=", " ", 1).split(" ", 1) for line in reply.texts()[1:]]
    extensions.update({word[0].upper(): "".join(word[1:]).strip() for word in words})


def _sign_in(user: str, password: str, methods: list[str]) -> Opening:
    if "PLAIN" in methods:
        require((yield b"AUTH PLAIN " + b64encode(f"\0{user}\0{password}".encode()) + b"\r\n"))
    elif "LOGIN" in methods:
        reply = yield b"AUTH LOGIN\r\n"
        for secret in (user, password):
            require(reply, wanted=3)
            reply = yield b64encode(secret.encode()) + b"\r\n"
        require(reply)
    else:
        raise Refused("the relay offers no sign-in by AUTH PLAIN or LOGIN, and SMTP_URL has a user")
