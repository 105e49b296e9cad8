"""What the relay answers (RFC 5321 section 4.2): octets become replies, one after the other."""

from __future__ import annotations

from typing import NamedTuple

MOST_LINE_OCTETS = 64 * 1024
MOST_REPLY_LINES = 1000
_CODES = {b"%d" % code: code for code in range(200, 600)}
_LAST = frozenset({b" ", b"\r", b""})
_NEEDS_SIGN_IN = frozenset({530, 534, 535, 538})  # RFC 4954 section 6: at whatever step, it is about the sender


class Reply(NamedTuple):
    """One answer: the code, and the text of each line as it came."""

    code: int
    lines: tuple[bytes, ...]

    def __str__(self) -> str:
        return " ".join([str(self.code), *self.texts()]).rstrip()

    def texts(self) -> list[str]:
        """The text of each line."""
        return [line.decode("utf-8", "replace").strip() for line in self.lines]

    @property
    def kind(self) -> int:
        """2 done, 3 go on, 4 not now, 5 never."""
        return self.code // 100

    @property
    def refuses_sender(self) -> bool:
        """Whether it asks for a sign-in or refuses one."""
        return self.code in _NEEDS_SIGN_IN

    @property
    def closes(self) -> bool:
        """Whether the relay ends the connection with it and reads nothing that stands behind (section 3.8)."""
        return self.code == 421


class Replies:
    """Puts octets together to replies. `fault` says why the rest cannot be read, or is ""."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[bytes] = []
        self._code = 0  # of these lines
        self.fault = ""

    @property
    def begun(self) -> bool:
        """Whether a reply has come in part."""
        return bool(self._rest or self._lines)

    def read(self, octets: bytes) -> list[Reply]:
        """The replies that `octets` brings to their end; after a fault no more."""
        lines = (self._rest + octets).split(b"\n")
        self._rest = lines.pop()
        found: list[Reply] = []
        for line in lines:
            code = _CODES.get(line[:3])
            if code is None or (line[3:4] not in _LAST and line[3:4] != b"-"):
                self.fault = "the relay's answer is not SMTP"
                return found
            if self._lines and code != self._code:  # against section 4.2.1; nobody can tell which of them it means
                self.fault = f"the relay's answer begins with {self._code} and goes on with {code}"
                return found
            if line[3:4] in _LAST:
                found.append(Reply(code, (*self._lines, line[4:])))
                self._lines = []
            else:
                self._code = code
                self._lines.append(line[4:])
        if len(self._rest) > MOST_LINE_OCTETS or len(self._lines) > MOST_REPLY_LINES:
            self.fault = "the relay's answer has no end"
        return found
