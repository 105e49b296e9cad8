"""The partials of `templates/mjml/`: found (a newsletter's own first), checked with file and line, filled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from django.template import Context, Engine, Origin, Template, TemplateDoesNotExist, TemplateSyntaxError, engines
from django.template.backends.django import DjangoTemplates
from django.utils.safestring import SafeString, mark_safe

from newsletter import mjml

# Each partial, and the component it is put into; the layout is the whole document.
PARTIALS: dict[str, str | None] = {
    "layout": None,
    "style": "mj-head",
    "header": "mj-body",
    "footer": "mj-body",
    "heading": "mj-column",
    "text": "mj-column",
    "image": "mj-column",
    "button": "mj-column",
    "code": "mj-column",
    "table": "mj-column",
    "quote": "mj-column",
    "divider": "mj-column",
    "locked": "mj-column",
}


class RenderingError(ValueError):
    """What keeps an issue from being rendered, as a sentence; for a template it names file and line."""


@dataclass(frozen=True)
class Partials:
    """The partials of one newsletter, each checked."""

    names: dict[str, str]
    templates: dict[str, Template]

    def fill(self, partial: str, context: Mapping[str, object]) -> SafeString:
        """The MJML of `partial`. Raises RenderingError where its template fails on these values."""
        try:
            filled = self.templates[partial].render(Context(dict(context)))
        except (TemplateSyntaxError, TemplateDoesNotExist) as error:
            raise RenderingError(f"{self.names[partial]}: {error}.") from error
        return mark_safe(filled)  # noqa: S308 - Django has escaped the values in it


def load(slug: str) -> Partials:
    """The partials of the newsletter `slug`. Raises RenderingError for the first thing wrong in them."""
    engine = _engine()
    names, templates = {}, {}
    for partial, parent in PARTIALS.items():
        name, source = _find(engine, partial, slug)
        found = _problems(engine, name, source, parent)
        if found:
            raise RenderingError(found[0])
        names[partial], templates[partial] = name, _compiled(engine, name, source)
    return Partials(names, templates)


def problems(slug: str) -> list[str]:
    """Everything wrong with the partials of the newsletter `slug`, a sentence each with file and line."""
    engine = _engine()
    found: list[str] = []
    for partial, parent in PARTIALS.items():
        try:
            found += _problems(engine, *_find(engine, partial, slug), parent)
        except RenderingError as error:
            found.append(str(error))
    return list(dict.fromkeys(found))


def _engine() -> Engine:
    backend = engines["django"]
    if not isinstance(backend, DjangoTemplates):
        raise RenderingError("The setting TEMPLATES needs Django's own template language under the name django.")
    return backend.engine


def _find(engine: Engine, partial: str, slug: str) -> tuple[str, str]:
    """The file's name, relative to the template folders, and its source: the newsletter's own where there is one."""
    for name in (f"newsletters/{slug}/mjml/{partial}.mjml", f"mjml/{partial}.mjml"):
        source = _source(engine, name)
        if source is not None:
            return name, source
    raise RenderingError(f"There is no template mjml/{partial}.mjml; put it back into the folder templates.")


def _source(engine: Engine, name: str) -> str | None:
    for loader in engine.template_loaders:
        for origin in loader.get_template_sources(name):
            try:
                return str(loader.get_contents(origin))  # type: ignore[attr-defined]  # every loader of Django has it
            except TemplateDoesNotExist:
                continue
            except UnicodeDecodeError as error:
                raise RenderingError(f"{name} is not UTF-8 text; save it as UTF-8.") from error
    return None


def _problems(engine: Engine, name: str, source: str, parent: str | None) -> list[str]:
    """What is wrong in one file and those it includes: first as a Django template, then as MJML."""
    read = {name: source}

    def include(included: str) -> str | None:
        text = _source(engine, included)
        if text is not None:
            read[included] = text
        return text

    linted = [str(problem) for problem in mjml.lint(name, source, parent=parent, include=include)]
    return [problem for file, text in read.items() for problem in _syntax(engine, file, text)] or linted


def _syntax(engine: Engine, name: str, source: str) -> list[str]:
    try:
        _compiled(engine, name, source)
    except TemplateSyntaxError as error:
        token = getattr(error, "token", None)
        line = f", line {token.lineno}" if token is not None else ""
        return [f"{name}{line}: {str(error).rstrip('.')}."]
    return []


@lru_cache(maxsize=256)
def _compiled(engine: Engine, name: str, source: str) -> Template:
    return Template(source, Origin(name, name), name, engine)
