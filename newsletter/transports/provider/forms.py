"""Forms as multipart/form-data: URL encoding writes three octets for every quote and brace of the readers' values, and
takes longer than all else of a call."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

import requests


class Session(requests.Session):
    """Sends the form fields of a call as multipart/form-data (RFC 7578); calls without a form go as they are."""

    def request(self, *args: Any, **params: Any) -> requests.Response:
        """As `requests.Session.request`."""
        form = params.get("data")
        if isinstance(form, Mapping) and not params.get("files"):
            boundary = secrets.token_hex(16)  # 128 random bits stand in nobody's text
            content_type = f"multipart/form-data; boundary={boundary}"
            params["headers"] = {**(params.get("headers") or {}), "Content-Type": content_type}
            params["data"] = _encoded(form, boundary)
        return super().request(*args, **params)


def like(session: requests.Session) -> Session:
    """Such a session with the headers and hooks of `session`."""
    made = Session()
    made.headers, made.hooks = session.headers, session.hooks
    return made


def _encoded(form: Mapping[str, Any], boundary: str) -> bytes:
    """`form`, whose names are ASCII without quotes and whose values are text or lists of it."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, values in form.items()
        for value in _each(values)
    ]
    return "".join([*parts, f"--{boundary}--\r\n"]).encode()


def _each(values: Any) -> Iterable[Any]:
    return values if isinstance(values, (list, tuple)) else (values,)
