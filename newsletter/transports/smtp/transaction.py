"""One mail transaction: MAIL, RCPT, DATA, the message, the answer; together where the relay offers PIPELINING."""

from __future__ import annotations

import time
from dataclasses import dataclass

from newsletter.transports.outcomes import Result
from newsletter.transports.smtp.connection import Connection, NotNow, Reply

TOO_LATE = "The lease ran out before this message could leave."


@dataclass(frozen=True)
class Verdict:
    """What became of the message, why, and whether the connection is of no more use."""

    result: Result
    reply: str
    close: bool = False


def transact(connection: Connection, sender: str, reader: str, octets: bytes, *, deadline: float) -> Verdict:
    """Hand over `octets`, a whole message in CRLF lines none of which begins with a dot, from `sender` to `reader`.

    Raises OSError where the connection failed before the last byte was given to the system: nothing was sent.
    """
    options = f" SIZE={len(octets)}" if "SIZE" in connection.extensions else ""
    if not reader.isascii():
        options += " BODY=8BITMIME SMTPUTF8"  # RFC 6531 section 3.4
    mail, rcpt, data = _envelope(connection, f"MAIL FROM:<{sender}>{options}", f"RCPT TO:<{reader}>")
    refused = mail if mail.kind != 2 else rcpt if rcpt.kind != 2 else data if data.kind != 3 else None
    if refused is not None:
        if data.kind == 3:
            _take_back(connection)
        return Verdict(_meaning(refused, sender_at_fault=refused is mail), str(refused))
    if time.monotonic() >= deadline:
        return Verdict(Result.LATER, TOO_LATE, close=True)
    connection.send(octets)
    # Apart from the rest, so that a relay that hung up before it had read all is noticed while nothing was sent.
    connection.send(b".\r\n")
    try:
        answer = connection.reply()
    except OSError as error:
        return Verdict(Result.UNKNOWN, f"No answer after the message was written: {error}", close=True)
    connection.in_transaction = False
    connection.answered += 1
    if answer.kind == 2:
        return Verdict(Result.ACCEPTED, str(answer))
    return Verdict(_meaning(answer, sender_at_fault=False), str(answer), close=answer.code == 421)


def can_take(connection: Connection, address: str) -> bool:
    """Whether mail to `address` can go this way: a non-ASCII one needs SMTPUTF8, which needs 8BITMIME (RFC 6531)."""
    return address.isascii() or {"SMTPUTF8", "8BITMIME"} <= connection.extensions.keys()


def _envelope(connection: Connection, mail: str, rcpt: str) -> tuple[Reply, Reply, Reply]:
    """The replies to MAIL, RCPT and DATA; a command that was not sent since the one before failed has its reply."""
    commands = [mail, rcpt, "DATA"]
    if connection.in_transaction:
        commands.insert(0, "RSET")
    connection.in_transaction = True
    replies: list[Reply] = []
    if "PIPELINING" in connection.extensions:
        connection.send("".join(f"{command}\r\n" for command in commands).encode())
        replies += [_unless_closing(connection.reply()) for _ in commands]
    else:
        for command in commands:
            replies.append(_unless_closing(connection.command(command)))
            if replies[-1].kind > 3:
                break
    if len(commands) == 4 and replies.pop(0).kind != 2:
        raise ConnectionError("the relay did not take RSET")
    replies += replies[-1:] * (3 - len(replies))
    if replies[0].kind == 3 or replies[1].kind == 3 or replies[2].kind == 2:
        raise ConnectionError("the relay's answers are out of step")
    return replies[0], replies[1], replies[2]


def _unless_closing(reply: Reply) -> Reply:
    if reply.code == 421:
        raise NotNow(str(reply))
    return reply


def _take_back(connection: Connection) -> None:
    """End a DATA that was taken though nobody is to get the message, with a lone dot (RFC 2920 section 3.1).

    Whatever the relay answers, it has no recipient to deliver an empty message to.
    """
    connection.send(b".\r\n")
    _unless_closing(connection.reply())


def _meaning(reply: Reply, *, sender_at_fault: bool) -> Result:
    if reply.refuses_sender or (sender_at_fault and reply.kind == 5):
        return Result.SENDER_REFUSED
    return Result.REFUSED if reply.kind == 5 else Result.LATER
