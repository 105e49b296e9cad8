"""Finds what is wrong in an MJML template, with file and line, before the compiler silently renders it anyway."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from newsletter.mjml.components import COMPONENTS, UNSUPPORTED, VALUES, VOID, Content
from newsletter.mjml.scanning import UNKNOWN, Tag, blank_django, line_of, tags

_INCLUDE = re.compile(r"""\{%\s*include\s+(?:"([^"]+)"|'([^']+)')[^\n]*?%\}""")
_DEEPEST_INCLUDE = 10


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a template: the file's name, the line counted from 1, and a sentence without full stop."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.message}."


class TemplateError(ValueError):
    """A template that cannot be compiled; the message names the file and, where it can be told, the line."""


@dataclass(frozen=True)
class _Open:
    name: str
    line: int


@dataclass
class _File:
    """One file being linted: `stack` holds what is open, `parent` what the file as a whole stands in."""

    name: str
    source: str
    parent: str | None
    include: Callable[[str], str | None]
    depth: int = 0
    stack: list[_Open] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    components: set[str] = field(default_factory=set)

    def complain(self, position: int, message: str) -> None:
        self.problems.append(Problem(self.name, line_of(self.source, position), message))

    @property
    def component(self) -> str | None:
        """The innermost MJML component around the current place."""
        return next((entry.name for entry in reversed(self.stack) if entry.name in COMPONENTS), self.parent)

    @property
    def content(self) -> Content:
        return COMPONENTS[self.component].content if self.component else Content.COMPONENTS


def lint(name: str, source: str, *, parent: str | None, include: Callable[[str], str | None]) -> list[Problem]:
    """What is wrong with a template, in order; empty when it is fine.

    `source` is MJML in Django's template language, `name` its file as the problems will call it. `parent` is the
    component the file is put into (None for a whole document), `include` gives the source of a file named by
    `{% include %}`, or None where there is no such file. An element opens and closes in one file and in one branch
    of an `{% if %}`.
    """
    file = _File(name, source, parent, include)
    _lint(file)
    if parent is None and not file.problems:
        if not file.stack and "mjml" not in file.components:
            file.complain(0, "A layout is one <mjml> element, and there is none")
        elif "mj-body" not in file.components:
            file.complain(source.find("<mjml"), "<mjml> has no <mj-body>; add one around the sections")
    return file.problems


def _lint(file: _File) -> None:
    blanked = blank_django(file.source)
    includes = [(match.start(), match[1] or match[2]) for match in _INCLUDE.finditer(file.source)]
    done = 0
    for tag in tags(blanked):
        while includes and includes[0][0] < tag.start:
            _lint_included(file, *includes.pop(0))
        raw = file.content is Content.RAW
        if raw and not (tag.closing and file.stack and file.stack[-1].name == tag.name):
            continue
        if not raw:
            _check_text(file, blanked[done : tag.start], done)
        done = tag.end
        if tag.name == "!--":
            continue
        if tag.closing:
            _close(file, tag)
        else:
            _open(file, tag, blanked)
    for position, name in includes:
        _lint_included(file, position, name)
    _check_text(file, blanked[done:], done)
    for entry in file.stack:
        file.problems.append(Problem(file.name, entry.line, f"<{entry.name}> is never closed"))


def _lint_included(file: _File, position: int, name: str) -> None:
    source = file.include(name)
    if source is None:
        file.complain(position, f"It includes {name}, which does not exist")
    elif file.depth >= _DEEPEST_INCLUDE:
        file.complain(position, f"It includes {name} too deep; a file may not include itself")
    else:
        inner = _File(name, source, file.component, file.include, file.depth + 1)
        _lint(inner)
        file.problems += inner.problems
        file.components |= inner.components


def _check_text(file: _File, text: str, position: int) -> None:
    bare = text.find("<")
    if bare >= 0:
        file.complain(position + bare, "A bare < stands here; write &lt; or close the tag")
    elif file.content in (Content.COMPONENTS, Content.NOTHING):
        own = text.replace(UNKNOWN, " ")
        if own.strip():
            place = f"in <{file.component}>" if file.component else "outside <mjml>"
            start = position + len(own) - len(own.lstrip())
            file.complain(start, f"Text stands directly {place}; put it into <mj-text>")


def _close(file: _File, tag: Tag) -> None:
    if tag.name in VOID:
        return
    if not file.stack:
        file.complain(tag.start, f"</{tag.name}> closes what was never opened")
    elif file.stack[-1].name == tag.name:
        file.stack.pop()
    elif any(entry.name == tag.name for entry in file.stack):
        while file.stack[-1].name != tag.name:
            left = file.stack.pop()
            file.problems.append(Problem(file.name, left.line, f"<{left.name}> is never closed"))
        file.stack.pop()
    else:
        innermost = file.stack[-1]
        file.complain(
            tag.start, f"</{tag.name}> stands where </{innermost.name}> is due (opened in line {innermost.line})"
        )


def _open(file: _File, tag: Tag, blanked: str) -> None:
    if tag.name in UNSUPPORTED:
        file.complain(tag.start, f"<{tag.name}> does not work here. {UNSUPPORTED[tag.name]}")
    elif tag.name in COMPONENTS:
        _check_place(file, tag)
        _check_attributes(file, tag)
        file.components.add(tag.name)
    elif tag.name.startswith("mj-"):
        file.complain(tag.start, f"<{tag.name}> is not an MJML component")
    else:
        _check_html(file, tag)
    duplicate = next((a for i, a in enumerate(tag.attributes) if a.name in {b.name for b in tag.attributes[:i]}), None)
    if duplicate and UNKNOWN not in blanked[tag.start : tag.end]:
        file.complain(duplicate.position, f"<{tag.name}> has the attribute {duplicate.name} twice")
    for attribute in tag.attributes:
        if not attribute.quoted:
            file.complain(attribute.position, f"The value of {attribute.name} needs quotes")
    if not tag.empty and tag.name not in VOID:
        file.stack.append(_Open(tag.name, line_of(file.source, tag.start)))


def _check_place(file: _File, tag: Tag) -> None:
    outer = file.component
    if outer == "mj-attributes":
        return
    if outer is None:
        if tag.name != "mjml" or "mjml" in file.components:
            file.complain(tag.start, f"<{tag.name}> cannot stand outside <mjml>")
    elif outer not in COMPONENTS[tag.name].parents or file.content is not Content.COMPONENTS:
        parents = " or ".join(f"<{name}>" for name in sorted(COMPONENTS[tag.name].parents))
        only = f", only in {parents}" if parents else ""
        file.complain(tag.start, f"<{tag.name}> cannot stand in <{outer}>{only}")


def _check_attributes(file: _File, tag: Tag) -> None:
    if tag.name in ("mj-all", "mj-class"):
        return
    kinds = COMPONENTS[tag.name].attributes
    for attribute in tag.attributes:
        if attribute.name not in kinds:
            file.complain(attribute.position, f"<{tag.name}> has no attribute {attribute.name}")
            continue
        value, kind = attribute.value or "", kinds[attribute.name]
        if kind in VALUES and value and UNKNOWN not in value and not VALUES[kind].fullmatch(value.strip()):
            file.complain(attribute.position, f'{attribute.name}="{value}" of <{tag.name}> is no {kind}')
    if tag.name == "mj-raw" and any(a.name == "position" for a in tag.attributes):
        file.complain(tag.start, '<mj-raw position="file-start"> does not work here; put it into <mj-head>')


def _check_html(file: _File, tag: Tag) -> None:
    outer = file.component
    if file.content is not Content.HTML:
        place = f"in <{outer}>" if outer else "outside <mjml>"
        file.complain(tag.start, f"<{tag.name}> stands directly {place}; put it into <mj-text> or <mj-raw>")
