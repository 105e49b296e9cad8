"""One webhook call, against a receiver that misbehaves: where it may go, how long it may take, what is made of it."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsletter.hooks import calling, destinations, signing
from newsletter.models import Occurrence
from newsletter.settings import ENV
from tests.conftest import ROOT
from tests.hook_receiver import Answer, Received, Receiver, endless, hang_up, receiving, say, wait_for_release
from tests.test_transports_smtp import certificate, tls_of

__all__ = ["certificate"]  # a fixture


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> None:
    """HOOKS_PRIVATE is true: a receiver on this machine may be called."""
    monkeypatch.setattr(destinations, "ENV", ENV.model_copy(update={"hooks_private": True}))


def post(receiver: Receiver, body: bytes = b"{}") -> calling.Answer:
    return calling.post(receiver.url, body, {"webhook-id": "msg_1"})


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        (say(204), 204, ""),
        (say(200, b"Thanks"), 200, "Thanks"),
        (say(500, b"Oh no"), 500, "Oh no"),
        (say(302, Location="http://169.254.169.254/latest"), 302, "It redirects, which is not followed. "),
        (hang_up, None, "No answer: Remote end closed connection without response."),
        (endless, 200, "x" * calling.ANSWER_BYTES),
    ],
)
@pytest.mark.usefixtures("private")
def test_an_answer_is_what_came(answer: Answer, code: int | None, text: str) -> None:
    with receiving(answer) as receiver:
        found = post(receiver)
        assert (found.status_code, found.text) == (code, text)
        assert found.accepted is (code in (200, 204))
        assert len(receiver.received) == 1


@pytest.mark.usefixtures("private")
def test_a_redirect_is_not_followed() -> None:
    with receiving() as inside, receiving(say(307, Location=inside.url)) as receiver:
        post(receiver)
        assert inside.received == []


@pytest.mark.usefixtures("private")
def test_a_call_ends_within_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "CALL_SECONDS", 0.4)
    with receiving() as receiver:
        receiver.answer = wait_for_release(receiver)
        began = time.monotonic()
        assert post(receiver) == calling.Answer(None, "No answer within 0.4 seconds.")
        assert time.monotonic() - began < 3


@pytest.mark.usefixtures("private")
def test_an_answer_that_drips_ends_within_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "CALL_SECONDS", 0.6)

    def drip(handler: BaseHTTPRequestHandler) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000:
            handler.wfile.write(bytes([byte]))
            time.sleep(0.02)

    with receiving(drip) as receiver:
        began = time.monotonic()
        assert post(receiver).text == "No answer within 0.6 seconds."
        assert time.monotonic() - began < 3


@pytest.mark.usefixtures("private")
def test_a_receiver_that_is_not_there_is_no_answer() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        found = calling.post(f"http://127.0.0.1:{taken.getsockname()[1]}/", b"{}", {})
    assert found.status_code is None
    assert "refused" in found.text


@pytest.mark.usefixtures("private")
def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as proxy, receiving() as receiver:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("all_proxy", proxy.url)
        assert post(receiver).accepted
        assert proxy.received == []


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [
        (429, "120", 120),
        (503, "7", 7),
        (429, "999999999999", 86_400),
        (429, "in five minutes, as a date", 300),
        (429, "Wed, 21 Oct 2015 07:28:00 GMT", 0),
        (429, "soon", None),
        (429, "99999999999999999999999999999999 Oct 2015 07:28:00 GMT", None),
        (429, "Wed, 21 Oct 99999999999999999999 07:28:00 GMT", None),
        (429, "Wed, 21 Oct 2015 07:28:00 +99999999999999999999", None),
        (503, "Fri, 31 Dec 9999 23:59:59 -2359", 86_400),
        (429, "", None),
        (500, "120", None),
    ],
)
@pytest.mark.usefixtures("private")
def test_a_wait_that_is_asked_for_is_read(status: int, header: str, seconds: int | None) -> None:
    if header.startswith("in five minutes"):
        header = format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5), usegmt=True)
    with receiving(say(status, Retry_After=header)) as receiver:
        found = post(receiver).retry_after
    assert found is None if seconds is None else found is not None and abs(found.total_seconds() - seconds) < 30


INSIDE = [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1", "fc00::1", "fec0::1", "ff02::1",
    "ff0e::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:7f00:1::",
]  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_inside_is_not_public(address: str) -> None:
    assert not destinations.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808::1"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert destinations.is_public(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4))
def test_wrapping_an_address_changes_nothing(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    wrapped: list[str | ipaddress.IPv6Address] = [f"::ffff:{address}", ipaddress.IPv6Address((0x64FF9B << 96) + number)]
    wrapped.append(ipaddress.IPv6Address((0x2002 << 112) + (number << 80)))
    for written in wrapped:
        assert destinations.is_public(ipaddress.ip_address(written)) is destinations.is_public(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "2130706433", "0x7f.1", "0177.0.0.1", "127.1"]
)
def test_what_is_inside_is_not_called_however_it_is_written(host: str) -> None:
    found = calling.post(f"https://{host}/", b"{}", {})
    assert found.status_code is None
    assert "not public" in found.text


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.org/hook", "https"),
        ("ftp://example.org/hook", "https"),
        ("https:///hook", "no URL"),
        ("https://example.org:0/", "no URL"),
        ("https://example.org:99999/", "no URL"),
        ("https://[::1/", "no URL"),
        ("https://name:word@example.org/", "name or password"),
        ("https://@example.org/", "name or password"),
        ("https://example.org/#part", "from #"),
        ("https://[fe80::1%25eth0]/", "zone"),
        ("https://münchen.example/", "ASCII"),
        ("https://example.org/\r\nHost: x", "ASCII"),
        ("https://example.org\\@127.0.0.1/", "URL"),
    ],
)
def test_a_url_that_is_never_called_says_why(url: str, words: str) -> None:
    with pytest.raises(destinations.Refused, match=words):
        destinations.parse(url)


def test_one_address_inside_among_public_ones_refuses_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    public, inside = ipaddress.ip_address("8.8.8.8"), ipaddress.ip_address("10.0.0.1")
    monkeypatch.setattr(destinations, "_resolve", lambda host, port: [public, inside])
    with pytest.raises(destinations.Refused):
        destinations.addresses(destinations.parse("https://hooks.example/"))


@pytest.mark.usefixtures("private")
@pytest.mark.parametrize(
    ("address", "called"),
    [
        ("127.0.0.1", True), ("10.1.2.3", True), ("::1", True), ("fc00::1", True), ("8.8.8.8", True),
        ("169.254.169.254", False), ("::ffff:169.254.169.254", False), ("64:ff9b::a9fe:a9fe", False),
        ("fe80::1", False), ("0.0.0.0", False), ("224.0.0.1", False), ("240.0.0.1", False),
    ],
)  # fmt: skip
def test_in_trials_a_network_of_ones_own_is_called_and_never_what_is_link_local(
    monkeypatch: pytest.MonkeyPatch, address: str, called: bool
) -> None:
    monkeypatch.setattr(destinations, "_resolve", lambda host, port: [ipaddress.ip_address(address)])
    with contextlib.nullcontext() if called else pytest.raises(destinations.Refused):
        destinations.addresses(destinations.parse("http://hooks.example/"))


@pytest.mark.usefixtures("private")
def test_a_name_is_resolved_once_and_its_checked_address_called(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = socket.getaddrinfo

    def changing(host: str, *rest: object, **named: object) -> object:
        asked.append(host)
        return real("127.0.0.1" if host == "hooks.example" else host, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", changing)
    with receiving() as receiver:
        port = receiver.url.split(":")[2].partition("/")[0]
        assert calling.post(f"http://hooks.example:{port}/a?b=c", b"{}", {}).accepted
    assert asked.count("hooks.example") == 1
    assert receiver.received[0].headers["host"] == f"hooks.example:{port}"
    assert receiver.received[0].path == "/a?b=c"


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let the system say that these are behind the name hooks.example."""
    real = socket.getaddrinfo

    def say(host: str, *rest: object, **named: object) -> list[object]:
        behind = addresses if host == "hooks.example" else (host,)
        return [entry for each in behind for entry in real(each, *rest, **named)]  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", say)


def by_name(receiver: Receiver) -> str:
    return receiver.url.replace("127.0.0.1", "hooks.example")


@pytest.mark.usefixtures("private")
def test_where_an_address_refuses_the_next_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.2", "127.0.0.3", "127.0.0.1")
    with receiving() as receiver:
        assert calling.post(by_name(receiver), b"{}", {}).accepted
        assert len(receiver.received) == 1


@pytest.mark.usefixtures("private")
def test_an_address_that_does_not_answer_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.2", "127.0.0.1")
    monkeypatch.setattr(calling, "CALL_SECONDS", 4.0)
    with receiving() as receiver, ExitStack() as held, socket.socket() as full:
        full.bind(("127.0.0.2", int(receiver.url.split(":")[2].partition("/")[0])))
        full.listen(0)
        with suppress(TimeoutError):  # until nobody is let in any more
            while True:
                held.enter_context(socket.create_connection(full.getsockname(), timeout=0.5))
        assert calling.post(by_name(receiver), b"{}", {}).accepted


@pytest.mark.usefixtures("private")
def test_what_one_address_may_have_taken_is_told_to_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.2", "127.0.0.1")
    with receiving() as receiver, socket.socket() as first:
        first.bind(("127.0.0.2", int(receiver.url.split(":")[2].partition("/")[0])))
        first.listen()

        def take_and_hang_up() -> None:
            taken, _ = first.accept()
            taken.recv(10_000)
            taken.close()

        threading.Thread(target=take_and_hang_up, daemon=True).start()
        assert calling.post(by_name(receiver), b"{}", {}).status_code is None
        assert receiver.received == []


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The system trusts `certificate`, which is for 127.0.0.1."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    calling._tls.cache_clear()
    yield
    calling._tls.cache_clear()


@pytest.mark.usefixtures("private", "trusted")
def test_a_call_goes_encrypted_to_who_has_the_names_certificate(certificate: Path) -> None:
    with receiving(tls=tls_of(certificate)) as receiver:
        assert receiver.url.startswith("https:")
        assert calling.post(receiver.url, b'{"a": 1}', {}) == calling.Answer(204, "")
        assert receiver.received[0].body == b'{"a": 1}'


@pytest.mark.usefixtures("private", "trusted")
def test_a_certificate_for_another_name_is_refused(certificate: Path) -> None:
    with receiving(tls=tls_of(certificate)) as receiver:
        found = calling.post(receiver.url.replace("127.0.0.1", "localhost"), b"{}", {})
        assert (found.status_code, receiver.received) == (None, [])
    assert "Hostname mismatch" in found.text


@pytest.mark.usefixtures("private")
def test_a_certificate_of_nobody_is_refused(certificate: Path) -> None:
    with receiving(tls=tls_of(certificate)) as receiver:
        found = calling.post(receiver.url, b"{}", {})
        assert (found.status_code, receiver.received) == (None, [])
    assert "self-signed certificate" in found.text


@given(st.binary(max_size=200))
def test_a_signature_is_verified_by_the_specification_alone(body: bytes) -> None:
    secret, other = signing.new_secret(), signing.new_secret()
    headers = signing.headers("msg_1", 1_700_000_000, body, [secret, other])
    received = Received("/", headers, body)
    assert received.signed_by(secret)
    assert received.signed_by(other)
    assert not received.signed_by(signing.new_secret())
    assert not Received("/", headers, body + b" ").signed_by(secret)


def test_the_signature_is_the_one_of_the_specifications_example() -> None:
    # The example of the Standard Webhooks libraries' own tests.
    headers = signing.headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_lines_of_python_in_the_docs_verify_a_call_and_refuse_a_changed_or_an_old_one() -> None:
    page = (ROOT / "docs" / "webhooks.md").read_text()
    shown: dict[str, Any] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], shown)
    secret, now = signing.new_secret(), int(time.time())
    headers = signing.headers("msg_1", now, b"{}", [signing.new_secret(), secret])
    assert shown["is_genuine"](secret, headers, b"{}")
    assert not shown["is_genuine"](secret, headers, b"{ }")
    assert not shown["is_genuine"](secret, signing.headers("msg_1", now - 400, b"{}", [secret]), b"{}")


def test_every_kind_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "webhooks.md").read_text()
    assert [kind.value for kind in Occurrence.Kind if f"`{kind.value}`" not in page] == []
