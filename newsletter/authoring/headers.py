"""What stands above an issue's text: YAML or TOML front matter, or Pelican's `Title: …` lines."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field

import yaml

from newsletter.authoring.parsed import ImportRefused

MAX_CHARACTERS = 8_000  # of front matter; the YAML parser is quadratic in open brackets

_FRONT_MATTER = re.compile(
    r"\s*^(?P<fence>---|\+\+\+)[ \t]*\n(?P<head>.*?)^(?:(?P=fence)|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE
)
_OPENED = re.compile(
    r"\s*^(?:---|\+\+\+)[ \t]*\n(?:[ \t]*(?:#.*)?\n)*[ \t]*[\"']?[A-Za-z][\w-]*[\"']?[ \t]*[:=]",
    re.MULTILINE,
)
_NUMBER_SIGN = re.compile(r"[ \t]+#[ \t]*\d.*")
_HEADER = re.compile(r"(?P<key>[A-Za-z][A-Za-z0-9_-]{0,40})[ \t]*:(?:[ \t]+(?P<value>.*)|[ \t]*)")
_INFORMATIVE = frozenset({"title", "number", "issue", "date", "subject", "preheader"})
_KNOWN = _INFORMATIVE | frozenset(
    [
        "author",
        "authors",
        "category",
        "categories",
        "description",
        "draft",
        "keywords",
        "lang",
        "language",
        "layout",
        "modified",
        "permalink",
        "published",
        "save_as",
        "slug",
        "status",
        "subtitle",
        "summary",
        "tags",
        "template",
        "translation",
        "updated",
        "url",
    ]
)


@dataclass
class Headers:
    """`fields` by lower-case name, the `body` below them, and the number of `lines` they took."""

    fields: dict[str, str]
    body: str
    lines: int = 0
    notes: list[str] = field(default_factory=list)

    def first(self, *names: str) -> str:
        """The value of the first of `names` that has one, or an empty string."""
        return next((self.fields[name] for name in names if self.fields.get(name, "").strip()), "")


def split(text: str) -> Headers:
    """`text` cut into its headers and its body. Without headers, the body is all of it.

    Raises ImportRefused for front matter that is not closed, too long or not valid, with the line.
    """
    match = _FRONT_MATTER.match(text)
    if match is None:
        if _OPENED.match(text):
            raise ImportRefused(
                "The front matter at the top of the file is never closed: put a line of three dashes (---) below it, "
                "or take out the first line."
            )
        return _pelican(text)
    head = match["head"]
    if not _OPENED.match(text) and "\n\n" in head:
        return Headers({}, text)  # paragraphs between two rules
    if len(head) > MAX_CHARACTERS:
        raise ImportRefused(f"The front matter is longer than {MAX_CHARACTERS:,} characters: move the text below it.")
    above = text.count("\n", 0, match.start("head"))
    fields = _toml(head, above) if match["fence"] == "+++" else _yaml(head, above)
    if fields is None:
        return Headers({}, text)
    return Headers(fields, text[match.end() :], text.count("\n", 0, match.end()))


def _yaml(head: str, above: int) -> dict[str, str] | None:
    """The scalars of the YAML mapping `head`, None where it is text between two rules rather than a mapping.

    Only the node tree is made, no objects: a date stays the text it was, and no tag can ask for anything.
    """
    try:
        root = yaml.compose(head, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = above + (error.problem_mark.line if error.problem_mark else 0) + 1
        raise ImportRefused(_broken(line, error.problem or "it is not valid YAML")) from error
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ImportRefused(_broken(above + 1, "it is not valid YAML")) from error
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        return None
    return {
        key.value.strip().lower(): _scalar(value, head)
        for key, value in root.value
        if isinstance(key, yaml.ScalarNode) and isinstance(value, yaml.ScalarNode)
    }


def _scalar(node: yaml.ScalarNode, head: str) -> str:
    """The text of `node`; without quotes YAML takes the end of "The Weekly # 4" for a comment, and we do not."""
    if node.tag == "tag:yaml.org,2002:null":
        return ""
    number = _NUMBER_SIGN.match(head, node.end_mark.index) if node.style is None else None
    return f"{node.value}{number[0].rstrip() if number else ''}"


def _toml(head: str, above: int) -> dict[str, str]:
    try:
        values = tomllib.loads(head)
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        line = re.search(r"at line (\d+)", str(error))
        raise ImportRefused(_broken(above + (int(line[1]) if line else 1), "it is not valid TOML")) from error
    return {key.lower(): str(value) for key, value in values.items() if not isinstance(value, (dict, list))}


def _broken(line: int, reason: str) -> str:
    return (
        f"The front matter cannot be read, see line {line}: {reason}. "
        "Correct it, or take it out, and import the file again."
    )


def _unquoted(value: str) -> str:
    """`value` without the quotes around it, which YAML wants and Pelican does not."""
    quoted = len(value) > 2 and value[0] in "\"'" and value.find(value[0], 1) == len(value) - 1
    return value[1:-1].strip() if quoted else value


def _pelican(text: str) -> Headers:
    """Headers of the form `Key: value` from the first line to the first blank one.

    Only a first line with a key we know begins them, and only a block that says something about the issue counts: a
    text may well begin "Summary: it was a good week". A block that runs into text ends with the last key we know.
    """
    lines = text.split("\n")
    start = next((index for index, line in enumerate(lines) if line.strip()), 0)
    fields: dict[str, str] = {}
    unknown: list[str] = []
    end = known_end = start
    last = ""
    for line in lines[start:]:
        match = _HEADER.fullmatch(line)
        if match:
            last = match["key"].lower()
            if last not in _KNOWN and not fields:
                return Headers({}, text)
            if last in _KNOWN:
                fields.setdefault(last, _unquoted((match["value"] or "").strip()))
            else:
                unknown.append(match["key"])
        elif line[:1] in {" ", "\t"} and line.strip() and last:
            if last in _KNOWN:
                fields[last] = f"{fields[last]} {line.strip()}".strip()
        else:
            break
        end += 1
        if last in _KNOWN:
            known_end = end
    if not any(fields.get(name) for name in _INFORMATIVE):
        return Headers({}, text)
    closed = end == len(lines) or not lines[end].strip()
    if not closed:
        end, unknown = known_end, []
    notes = [f"Headers that say nothing about an issue here were left out: {', '.join(unknown)}."] if unknown else []
    return Headers(fields, "\n".join(lines[end:]), end, notes)
