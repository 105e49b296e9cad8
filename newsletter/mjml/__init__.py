"""The only place that runs the MJML compiler: `lint` checks a template, `compile_document` makes HTML of one."""

from __future__ import annotations

from newsletter.mjml.compiling import compile_document
from newsletter.mjml.linting import Problem, TemplateError, lint

__all__ = ["Problem", "TemplateError", "compile_document", "lint"]
