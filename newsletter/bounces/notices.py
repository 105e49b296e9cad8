"""Reports written for people: what the machine says in them, apart from the mail that it returns."""

from __future__ import annotations

import re

_THING = r"(?:message|mail|e-mail)"
# Lines by which mail systems announce the mail they return, and nothing else on them.
_ANNOUNCED = re.compile(
    r"^[\s>*=_.-]*(?:"
    r"(?:(?:this|below(?: this line)?|here|the following|attached) is )?(?:an? |the )?"
    rf"copy of (?:the|your) (?:original )?{_THING}"
    r"(?:, including all the headers\.?)?"
    r"|(?:start of )?(?:the )?(?:your )?(?:original|returned|undelivered|unsent|bounced|rejected|failed|included) "
    rf"{_THING}"
    r"(?: (?:text|headers?|body))?(?: (?:follows|(?:is )?(?:attached|below|included)|starts here|source))?"
    rf"|{_THING}(?: (?:headers?|text|body|contents?))(?: follows?)?|{_THING} (?:follows|begins here)"
    rf"|headers? (?:of the (?:original )?{_THING} )?follows?"
    r"|ursprüngliche (?:nachricht|kopfzeilen)|originalnachricht|message d'origine|mensaje original|messaggio originale"
    r"|mensagem original|исходное (?:сообщение|письмо)|元のメッセージ|原始邮件"
    r")[\s:.,;>*=_-]*$",
    re.IGNORECASE,
)
_HEADER_LINE = re.compile(r"^[\s>|]{0,8}([A-Za-z][A-Za-z0-9-]{1,50}):")
_FOLDED = re.compile(r"^[\s>|]{0,8}[ \t]+\S")
# Headers that only a real message has; a report's own summary has From, To, Subject, Date at most.
_TELLING = frozenset(
    {"received", "return-path", "mime-version", "content-type", "dkim-signature", "x-mailer"}
    | {
        "content-transfer-encoding",
        "delivered-to",
        "authentication-results",
        "list-unsubscribe",
        "list-id",
        "x-received",
    }
)
_OF_MESSAGES = frozenset({"from", "to", "subject", "date", "received", "return-path", "message-id"})
_FEWEST = 3


def divide(text: str) -> tuple[str, str]:
    """`text` as (what the machine says, the mail it returns); the second is "" where it returns none."""
    lines = text.splitlines()
    cut = len(lines)
    for index, line in enumerate(lines):
        announced = bool(_ANNOUNCED.match(line)) and len(line) < 120
        if (announced and any(lines[:index]) and _said_something(lines[:index])) or _starts_headers(lines, index):
            cut = index
            break
    said, returned = lines[:cut], lines[cut:]
    while returned and not _HEADER_LINE.match(returned[0]):
        returned = returned[1:]
    return "\n".join(said), "\n".join(
        line.lstrip(">| \t") if line.startswith((">", "|")) else line for line in returned
    )


def answers_in(text: str) -> list[str]:
    """The replies of mail servers that `text` quotes, each from its code to the end of its paragraph."""
    return [" ".join(match[0].split()) for match in _ANSWER.finditer(text)]


def replies_in_letter(text: str) -> list[str]:
    """Those of them that a person who writes of numbers would not happen upon: behind the code an enhanced one, or
    before it the start of a paragraph. What a letter quotes with ">" is not its own."""
    own = "\n".join("" if line.lstrip().startswith(">") else line for line in text.splitlines())
    return [" ".join(match[0].split()) for match in _ANSWER.finditer(own) if _CERTAIN.match(own, match.start())]


def entries_in(text: str) -> list[tuple[str, str]]:
    """The failed recipients that `text` lists with what is said of each: (address, text), in order."""
    entries: list[tuple[str, list[str]]] = []
    open_entry = False
    for line in text.splitlines():
        match = _ENTRY.match(line)
        if match:
            entries.append((match[1], [line]))
        elif line.strip() and open_entry:
            entries[-1][1].append(line)
        open_entry = bool(entries) and (bool(line.strip()) or len(entries[-1][1]) == 1)
    return [(address, "\n".join(lines)) for address, lines in entries]


def unquoted(text: str) -> str:
    """`text` without the marks of a quotation."""
    return "\n".join(line.lstrip(">").removeprefix(" ") if line.startswith(">") else line for line in text.splitlines())


# An address at the start of a line, alone or with a colon: qmail, Postfix, Exim and most others list recipients so.
_ENTRY = re.compile(
    r"^\s{0,12}(?:\d+[.)]\s+"
    r"|[*-]\s+)?[<\"']?([^\s<>()\[\],;:\"'=]{1,64}@[\w-][\w.-]{1,255}\w)[>\"']{0,2}\s*(?::|$|[(\[\s])"
)

_ANSWER = re.compile(
    r"(?:(?<=^)|(?<=[\s:;,(\[\"'>-]))[45]\d\d[ -]+(?:#?[45]\.\d{1,3}\.\d{1,3}\b|\S).{0,400}?(?=\n\s*\n|\Z)",
    re.DOTALL | re.MULTILINE,
)

_CERTAIN = re.compile(r"[45]\d\d[ -]+#?[45]\.\d{1,3}\.\d|(?<=\n\n)[45]\d\d[ -]|\A[45]\d\d[ -]")


def _said_something(lines: list[str]) -> bool:
    return sum(len(line.strip()) for line in lines) > 30


def _starts_headers(lines: list[str], start: int) -> bool:
    """Whether a block of headers of a real message starts at line `start`."""
    if not _HEADER_LINE.match(lines[start]):
        return False
    names: set[str] = set()
    count = 0
    for line in lines[start : start + 40]:
        match = _HEADER_LINE.match(line)
        if match:
            names.add(match[1].lower())
            count += 1
        elif not (count and _FOLDED.match(line)):
            break
    # A part of a broken multipart begins with headers too, but with none of these.
    a_message = bool(names & _TELLING) and bool(names & _OF_MESSAGES)
    return count >= _FEWEST and a_message and not names & {"final-recipient", "reporting-mta"}
