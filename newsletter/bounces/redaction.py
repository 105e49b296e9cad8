"""Takes addresses out of what the other side said: an address stands in one column of the database and nowhere else."""

from __future__ import annotations

import re

_LENGTH = 400

ADDRESS = re.compile(
    r"<[^<>@\s]{1,64}@[^<>\s]{1,255}>|\"[^\"@\r\n]{1,64}\"@[\w.-]{1,255}"
    r"|[^\s<>()\[\],;:\"'=@]{1,64}@\[?[\w-][\w.-]{0,255}\]?"
)
# In headers and links that other systems quote: reader=40example.org, reader%40example.org, reader=example.org@.
_ENCODED = re.compile(r"[\w.+-]{1,64}(?:=40|%40|&#64;|\(at\)|\[at\])[\w-][\w.-]{1,255}", re.IGNORECASE)


def without_addresses(text: str, known: tuple[str, ...] = ()) -> str:
    """`text` on one line of at most 400 characters, with "‹address›" for each address in it and each of `known`."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    for address in sorted(known, key=len, reverse=True):
        if len(address) > 3:
            line = re.sub(re.escape(address), "‹address›", line, flags=re.IGNORECASE)
    line = _ENCODED.sub("‹address›", ADDRESS.sub("‹address›", line))
    return line if len(line) <= _LENGTH else line[: _LENGTH - 1] + "…"
