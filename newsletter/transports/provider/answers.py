"""What a provider's answer, or the lack of one, means for the message."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import requests
from anymail.exceptions import AnymailAPIError, AnymailError, AnymailInvalidAddress, AnymailUnsupportedFeature  # type: ignore[import-untyped]
from anymail.message import AnymailStatus  # type: ignore[import-untyped]
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError, ProxyError

from newsletter import retry_after
from newsletter.transports.outcomes import Result

_BY_STATUS = {
    "sent": Result.ACCEPTED,
    "queued": Result.ACCEPTED,
    "invalid": Result.REFUSED,
    "rejected": Result.REFUSED,
    "failed": Result.LATER,
    "unknown": Result.UNKNOWN,
}
_NOT_NOW = frozenset({408, 425, 429, 503})
# Key, payment, right or sending domain: the same for every reader. Mailgun says 404 for an unknown domain.
_SENDER = frozenset({401, 402, 403, 404})
# The call went nowhere: the connection was not made.
_BEFORE_THE_CALL = (NewConnectionError, NameResolutionError, ConnectTimeoutError, ProxyError, ssl.SSLError)
_WRONG_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidHeader,
)
# Codes in Postmark's own body, all under HTTP 422: unknown or unconfirmed sender, no credit, account not approved.
_POSTMARK_SENDER = frozenset({400, 401, 405, 412, 413})
# boto3 raises these by name from modules it makes as it runs.
_SES_NOT_SENT = frozenset({"EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError", "SSLError"})
_SES_SENDER = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "NoRegionError"}
    | {"AccountSuspendedException", "SendingPausedException", "MailFromDomainNotVerifiedException"}
)
_SES_NOT_NOW = frozenset({"TooManyRequestsException", "LimitExceededException", "Throttling", "ThrottlingException"})


@dataclass(frozen=True)
class Answer:
    """The result, what was said, the provider's id of the message, and the seconds it asks to wait; `tried` is False
    where no call was made."""

    result: Result
    reply: str
    provider_id: str = ""
    retry_after: float | None = None
    tried: bool = True


def of_status(status: AnymailStatus, addresses: Sequence[str]) -> list[Answer]:
    """What the provider said of each recipient of one call, in the order of `addresses`."""
    response = status.esp_response
    spoken = isinstance(response, requests.Response)
    said, code = (_said(response), response.status_code) if spoken else ("", 0)
    by_address = {address.casefold(): recipient for address, recipient in status.recipients.items()}
    if len(addresses) == 1 == len(by_address):  # whose address a provider may spell in another way
        by_address[addresses[0].casefold()] = next(iter(by_address.values()))
    found = []
    for address in addresses:
        recipient = by_address.get(address.casefold())
        if recipient is None:
            found.append(Answer(Result.UNKNOWN, "The provider's answer does not name the reader."))
            continue
        result = _BY_STATUS.get(recipient.status, Result.UNKNOWN)
        if result == Result.UNKNOWN and 400 <= code < 500:  # Postmark's, worded as Anymail does not know
            result = Result.REFUSED
        reply = f"{code} {recipient.status} {said}".rstrip() if spoken else f"{recipient.status}"
        found.append(Answer(result, reply, recipient.message_id or ""))
    return found


def of_error(error: AnymailError) -> Answer:
    """What an error means: whether the call was made, and who is to blame."""
    if isinstance(error, (AnymailInvalidAddress, AnymailUnsupportedFeature)):
        reply = f"The address or message is not supported by this route: {first_line(error)}"
        return Answer(Result.REFUSED, reply, tried=False)
    response = getattr(error, "response", None)
    if isinstance(response, requests.Response):
        return _of_response(response, error)
    if isinstance(error, requests.RequestException):
        return _of_network(error)
    if isinstance(error, AnymailAPIError):
        return _of_ses(error, response)
    return Answer(Result.SENDER_REFUSED, first_line(error), tried=False)  # the call could not be put together


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _of_response(response: requests.Response, error: AnymailError) -> Answer:
    code = response.status_code
    reply = f"{code} {_said(response) or first_line(error)}"
    asked = retry_after.seconds(response.headers.get("Retry-After", ""))
    if code in _NOT_NOW:
        return Answer(Result.LATER, reply, retry_after=asked)
    if code in _SENDER or (code == 422 and _json(response).get("ErrorCode") in _POSTMARK_SENDER):
        return Answer(Result.SENDER_REFUSED, reply)
    if 400 <= code < 500:
        return Answer(Result.REFUSED, reply)
    # A 2xx that cannot be read, any other 5xx: the call arrived, the message may have been taken before it failed.
    return Answer(Result.UNKNOWN, reply, retry_after=asked)


def _of_network(error: requests.RequestException) -> Answer:
    reply = first_line(error.__cause__ or error)
    if isinstance(error, _WRONG_ADDRESS):
        return Answer(Result.SENDER_REFUSED, reply)
    if isinstance(error, requests.ConnectTimeout) or any(
        isinstance(cause, _BEFORE_THE_CALL) for cause in _causes(error)
    ):
        return Answer(Result.LATER, reply)
    return Answer(Result.UNKNOWN, reply)


def _of_ses(error: AnymailAPIError, response: Any) -> Answer:
    details = response if isinstance(response, dict) else {}
    name = details.get("Error", {}).get("Code") or type(error.__cause__).__name__
    code = details.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if name in _SES_NOT_NOW or name in _SES_NOT_SENT or code in _NOT_NOW:
        result = Result.LATER
    elif name in _SES_SENDER or code in _SENDER:
        result = Result.SENDER_REFUSED
    else:
        result = Result.REFUSED if 400 <= code < 500 else Result.UNKNOWN
    return Answer(result, first_line(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and what led to it, as Python, requests and urllib3 each keep it."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        cause = waiting.pop()
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]


def _said(response: requests.Response) -> str:
    body = _json(response)
    said = body.get("message") or body.get("Message") or body.get("error") or ""
    return said if isinstance(said, str) else ""


def _json(response: requests.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
