"""DKIM signatures (RFC 6376, and RFC 8463 for Ed25519) for relays that do not sign.

Canonicalisation is relaxed for headers, which relays fold anew, and simple for the body: ours is 7-bit in short lines
without blanks at their ends, so no relay has a reason to touch it, and simple is one hash over what is there.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

LEAST_BITS = 2048  # RFC 8301 section 3.2
# Named once more than they occur, so that none can be added (RFC 6376 section 8.15). Both unsubscribe headers must be
# covered (RFC 8058 section 4).
OVERSIGNED = (
    b"from", b"reply-to", b"subject", b"to", b"cc", b"date", b"message-id", b"mime-version", b"content-type",
    b"content-transfer-encoding", b"list-unsubscribe", b"list-unsubscribe-post",
)  # fmt: skip
# Some relays add one of these of their own.
SIGNED = (b"list-id", b"feedback-id")

_FOLD = b"\r\n "
_BLANKS = re.compile(rb"[ \t]+")
_MAX_LINE = 76
_PADDING, _SHA256 = padding.PKCS1v15(), hashes.SHA256()


@dataclass(frozen=True)
class Signer:
    """A key, and where its public half stands in the DNS: `selector`._domainkey.`domain`."""

    domain: str
    selector: str
    key: RSAPrivateKey | Ed25519PrivateKey = field(repr=False)

    @property
    def algorithm(self) -> bytes:
        """The name of it in a signature."""
        return b"rsa-sha256" if isinstance(self.key, RSAPrivateKey) else b"ed25519-sha256"

    def sign(self, octets: bytes) -> bytes:
        """The signature of `octets`."""
        if isinstance(self.key, RSAPrivateKey):
            return self.key.sign(octets, _PADDING, _SHA256)
        return self.key.sign(hashlib.sha256(octets).digest())  # RFC 8463 section 3


def signers(domain: str, keys: Mapping[str, Path]) -> tuple[Signer, ...]:
    """One signer for each of `keys`, files by selector, with signatures for `domain`.

    Raises ValueError, with a sentence, where a file holds no usable key.
    """
    if bool(keys) != bool(domain):
        raise ValueError("DKIM_DOMAIN and DKIM_KEYS go together: set both, or neither.")
    return tuple(Signer(domain, selector, _key(selector, path)) for selector, path in keys.items())


def signed(octets: bytes, by: Sequence[Signer], at: dt.datetime) -> bytes:
    """The message `octets` with a DKIM-Signature header for each signer in front.

    `octets` is a whole message in CRLF lines; `at` (aware) is the time that the signatures state. The same again gives
    the same bytes.
    """
    end = octets.index(b"\r\n\r\n")
    names, head = _canonical(octets[: end + 2])
    begin, last = end + 4, len(octets)
    while octets.endswith(b"\r\n\r\n", begin, last):
        last -= 2
    body_hash = b64encode(hashlib.sha256(memoryview(octets)[begin:last]).digest())
    lines = b""
    for signer in by:
        line = b"DKIM-Signature: v=1; a=%b; c=relaxed/simple; t=%d;%bd=%b; s=%b;%bh=%b;%bbh=%b;%bb=" % (
            *(signer.algorithm, int(at.timestamp()), _FOLD, signer.domain.encode(), signer.selector.encode(), _FOLD),
            *(names, _FOLD, body_hash, _FOLD),
        )
        unsigned = b"dkim-signature:" + line[len("DKIM-Signature: ") :].replace(_FOLD, b" ")
        signature = b64encode(signer.sign(head + unsigned))
        first, rest = signature[: _MAX_LINE - 3], signature[_MAX_LINE - 3 :]
        pieces = [rest[start : start + _MAX_LINE - 1] for start in range(0, len(rest), _MAX_LINE - 1)]
        lines += line + _FOLD.join([first, *pieces]) + b"\r\n"
    return lines + octets


def problems(domain: str, keys: Mapping[str, Path]) -> list[str]:
    """What is wrong with DKIM_DOMAIN and DKIM_KEYS, a sentence each; empty when mail can be signed, or is not to be."""
    try:
        signers(domain, keys)
    except ValueError as error:
        return [str(error)]
    return []


def _key(selector: str, path: Path) -> RSAPrivateKey | Ed25519PrivateKey:
    name = f"DKIM_KEYS: the key of {selector}, {path},"
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror}.") from error
    except TypeError as error:
        raise ValueError(f"{name} is locked with a password: give it without one.") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{name} is no private key in PEM form.") from error
    if isinstance(key, RSAPrivateKey):
        if key.key_size < LEAST_BITS:
            raise ValueError(f"{name} has {key.key_size} bits: make one of {LEAST_BITS} or more.")
        return key
    if isinstance(key, Ed25519PrivateKey):
        return key
    raise ValueError(f"{name} is neither RSA nor Ed25519.")


def _canonical(head: bytes) -> tuple[bytes, bytes]:
    """What stands in h=, and the headers that it names as they are signed (RFC 6376 section 3.4.2)."""
    head = head.replace(_FOLD, b" ")
    if b"\t" in head or b"  " in head:
        head = _BLANKS.sub(b" ", head.replace(b"\r\n\t", b" "))
    found: dict[bytes, list[bytes]] = {}
    for line in head.removesuffix(b"\r\n").split(b"\r\n"):
        name, _, value = line.partition(b":")
        # Of several the last is meant first.
        found.setdefault(name.strip().lower(), []).insert(0, value.strip())
    here = [name for name in (*OVERSIGNED, *SIGNED) for _ in found.get(name, ())]
    text = b"".join(b"%b:%b\r\n" % (name, value) for name in (*OVERSIGNED, *SIGNED) for value in found.get(name, ()))
    return _named(tuple(here)), text


@lru_cache(maxsize=64)
def _named(here: tuple[bytes, ...]) -> bytes:
    """The names of h=, folded: those that are `here`, and those that must not be added."""
    lines = [b""]
    for name in (*here, *OVERSIGNED):
        if len(lines[-1]) + len(name) + 1 > _MAX_LINE - 3:
            lines.append(b"")
        lines[-1] += name + b":"
    return _FOLD.join(lines).removesuffix(b":")
