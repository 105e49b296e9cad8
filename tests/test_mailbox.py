"""The local mail server and the mailbox page: every mail comes in as it was sent, and none can do any harm there."""

from __future__ import annotations

import base64
import os
import signal
import smtplib
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import include, path
from hypothesis import given
from hypothesis import strategies as st

from newsletter import security
from newsletter.mailbox import reading
from newsletter.mailbox.store import MAX_PAGE, Incoming, Store

urlpatterns = [path("mailbox/", include("newsletter.mailbox.urls"))]
pytestmark = pytest.mark.urls(__name__)

MANAGE = Path(__file__).resolve().parent.parent / "manage.py"
UNSUBSCRIBE = "https://news.example.org/u/token-1"
ATTACK = "<script>alert(1)</script>"


def make_mail(
    *,
    subject: str = "The weekly",
    text: str | None = "Hello there",
    html: str | None = "<p>Hello <b>there</b></p>",
    **headers: str,
) -> bytes:
    """A mail's bytes; `headers` are further ones, with underscores for hyphens."""
    message = EmailMessage()
    message["From"] = headers.pop("sender", "The Weekly <news@example.org>")
    message["To"] = headers.pop("to", "ada@example.org")
    message["Subject"] = subject
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    if text is not None:
        message.set_content(text)
    if html is not None and text is not None:
        message.add_alternative(html, subtype="html")
    elif html is not None:
        message.set_content(html, subtype="html")
    return message.as_bytes()


def make_incoming(raw: bytes | None = None, *, to: str = "ada@example.org", **fields: Any) -> Incoming:
    return Incoming("bounce@example.org", (to,), make_mail(to=to, **fields) if raw is None else raw)


@pytest.fixture
def store(tmp_path: Path, settings: Any) -> Iterator[Store]:
    path = tmp_path / "mailbox.sqlite3"
    settings.ENV = settings.ENV.model_copy(update={"mailbox_path": path})
    with Store(path) as opened:
        yield opened


def page(client: Client, address: str) -> str:
    response = client.get(address)
    assert response.status_code == 200, address
    return response.content.decode()


class RunningServer:
    """`manage.py mailbox_server` as a process of its own, on a port that the system chose, with the store it fills."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, MANAGE, "mailbox_server", "--port", "0", "--store", path],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("Taking mail on 127.0.0.1:"), line
        self.port = int(line.rstrip(".\n").rpartition(":")[2])
        self.path = path
        self.store = Store(path)

    def connect(self) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.port, timeout=60)

    def send(self, raw: bytes, *recipients: str, options: tuple[str, ...] = ()) -> None:
        with self.connect() as connection:
            connection.ehlo()
            connection.sendmail("bounce@example.org", recipients or ["ada@example.org"], raw, mail_options=options)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)
        self.store.close()


@pytest.fixture(scope="module")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = RunningServer(tmp_path_factory.mktemp("mailbox") / "mails.sqlite3")
    yield running
    running.end()


@pytest.fixture
def server(running_server: RunningServer) -> RunningServer:
    running_server.store.clear()
    return running_server


# ---- taking mail


def test_a_mail_is_kept_byte_for_byte_with_its_envelope(server: RunningServer) -> None:
    raw = b"Subject: dots\r\n\r\n.leading\r\n..two\r\n.\r\nend\r\n"
    server.send(raw, "ada@example.org", "ben@example.org")
    [head] = server.store.newest(10)
    stored = server.store.get(head.id)
    assert stored is not None
    assert stored.raw == raw
    assert head.mail_from == "bounce@example.org"
    assert head.rcpt_to == ("ada@example.org", "ben@example.org")
    assert head.subject == "dots"


def test_a_mail_answered_with_250_is_already_in_the_store(server: RunningServer) -> None:
    with server.connect() as connection:
        for number in range(1, 4):
            connection.sendmail("a@example.org", ["ada@example.org"], make_mail(subject=f"No. {number}"))
            assert server.store.count() == number


def test_takes_eight_bit_mail_and_addresses_in_any_script(server: RunningServer) -> None:
    raw = "Subject: Grüße aus 東京\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nschön ✓\r\n".encode()
    server.send(raw, "用户@example.org", options=("BODY=8BITMIME", "SMTPUTF8"))
    [head] = server.store.newest(10)
    assert head.rcpt_to == ("用户@example.org",)
    assert head.subject == "Grüße aus 東京"
    assert head.preview == "schön ✓"


def test_offers_what_a_sender_may_use(server: RunningServer) -> None:
    with server.connect() as connection:
        connection.ehlo()
        assert {"pipelining", "8bitmime", "smtputf8", "size"} <= set(connection.esmtp_features)


def test_takes_several_mails_written_in_one_go(server: RunningServer) -> None:
    one = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<%d@example.org>\r\nDATA\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(
            b"EHLO localhost\r\n" + b"".join(one % n + b"Subject: x\r\n\r\nx\r\n.\r\n" for n in range(5)) + b"QUIT\r\n"
        )
        while connection.recv(65536):
            pass
    assert server.store.count() == 5


def test_takes_some_hundred_mails_at_once(server: RunningServer) -> None:
    raw = make_mail(text="word " * 2000, html="<p>word</p>" * 2000)

    def send_fifty() -> None:
        with server.connect() as connection:
            for _ in range(50):
                connection.sendmail("a@example.org", ["ada@example.org"], raw)

    senders = [threading.Thread(target=send_fifty) for _ in range(6)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert server.store.count() == 300


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_cleanly_when_told_to(tmp_path: Path, number: signal.Signals) -> None:
    own = RunningServer(tmp_path / "mails.sqlite3")
    try:
        own.send(make_mail())
        with own.connect():  # a sender who stays on the line does not hold it up
            os.kill(own.process.pid, number)
            assert own.process.wait(timeout=30) == 0
        assert own.store.count() == 1
    finally:
        own.end()


def test_a_line_far_over_the_limit_is_shown_instead_of_refused(server: RunningServer) -> None:
    server.send(b"Subject: long\r\n\r\n" + b"x" * 5000 + b"\r\n")
    assert server.store.count() == 1


def test_a_mail_that_cannot_be_kept_is_put_off_and_the_next_is_taken(server: RunningServer) -> None:
    with closing(sqlite3.connect(server.path)) as other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON mail BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        with pytest.raises(smtplib.SMTPDataError) as refused:
            server.send(make_mail())
        assert refused.value.smtp_code == 451
        other.execute("DROP TRIGGER full")
    server.send(make_mail())
    assert server.store.count() == 1


def test_refuses_in_a_sentence_what_it_cannot_use(tmp_path: Path) -> None:
    refused = subprocess.run(
        [sys.executable, MANAGE, "mailbox_server", "--port", "70000", "--store", tmp_path / "mails"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 1
    assert refused.stderr == "CommandError: 70000 is no port: choose one from 1 to 65535, or 0 for any free one.\n"


def test_says_that_a_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=f"Cannot listen on 127.0.0.1:{port} .*: choose another --port"):
            call_command("mailbox_server", port=port, store=tmp_path / "mails")


def test_refuses_a_file_that_is_no_mailbox(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("Dear all, " * 200)
    with pytest.raises(CommandError, match="is not a mailbox file"):
        call_command("mailbox_server", port=0, store=tmp_path / "letter")


# ---- the store


def test_lists_the_newest_first_page_by_page(store: Store) -> None:
    ids = store.add(*[make_incoming(subject=f"No. {n}") for n in range(7)])
    first = store.newest(3)
    second = store.newest(3, before=first[-1].id)
    third = store.newest(3, before=second[-1].id)
    assert [head.id for head in [*first, *second, *third]] == ids[::-1]


def test_a_page_is_never_longer_than_allowed(store: Store) -> None:
    store.add(*[make_incoming(b"Subject: x\r\n\r\nx") for _ in range(MAX_PAGE + 1)])
    assert len(store.newest(10**9)) == MAX_PAGE
    assert store.newest(-1) == []


def test_finds_mail_by_reader_subject_and_text_whatever_the_case(store: Store) -> None:
    store.add(
        make_incoming(to="ada@example.org", subject="Über Modelle", text="A story about whales"),
        make_incoming(to="ben@example.org", subject="Papers", text="100% of nothing_at all"),
    )

    def found(query: str) -> list[str]:
        return [head.rcpt_to[0] for head in store.newest(10, query=query)]

    assert found("ADA@") == ["ada@example.org"]
    assert found("ÜBER") == ["ada@example.org"]
    assert found("WHALES story") == ["ada@example.org"]
    assert found("whales papers") == []
    assert found("100%") == ["ben@example.org"]
    assert found("no%hing") == []
    assert found("nothing_") == ["ben@example.org"]
    assert store.count(query="papers") == 1


def test_keeps_readers_apart(store: Store) -> None:
    store.add(
        make_incoming(to="Ada@Example.org"), make_incoming(to="ben@example.org"), make_incoming(to="ada@example.org")
    )
    assert store.readers() == [("ada@example.org", 2), ("ben@example.org", 1)]
    assert len(store.newest(10, reader="ADA@example.org")) == 2
    assert store.newest(10, reader="example.org") == []
    assert store.count(reader="ben@example.org") == 1


def test_gives_the_neighbours_within_the_same_choice(store: Store) -> None:
    first, between, last = store.add(make_incoming(), make_incoming(to="ben@example.org"), make_incoming())
    assert store.newer(first) == between
    assert store.newer(first, reader="ada@example.org") == last
    assert store.newer(last) is None


def test_a_failed_addition_leaves_nothing_behind(store: Store, settings: Any) -> None:
    with closing(sqlite3.connect(settings.ENV.mailbox_path)) as other:
        other.execute(
            "CREATE TRIGGER full BEFORE INSERT ON mail WHEN NEW.subject = 'too much'"
            " BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
    with pytest.raises(sqlite3.Error, match="disk full"):
        store.add(make_incoming(), make_incoming(subject="too much"))
    assert store.count() == 0
    assert store.add(make_incoming()) != []


def test_clearing_forgets_mails_and_readers_but_reuses_no_id(store: Store) -> None:
    [before] = store.add(make_incoming())
    store.clear()
    assert (store.count(), store.readers(), store.get(before)) == (0, [], None)
    assert store.add(make_incoming())[0] > before


def test_an_id_beyond_all_bounds_is_simply_unknown(store: Store) -> None:
    assert store.get(10**30) is None
    assert store.newer(10**30) is None


def test_keeps_a_broken_envelope(store: Store) -> None:
    store.add(Incoming("\udce9@example.org", ("\udcff@example.org",), b"x"))
    assert store.newest(1)[0].rcpt_to == ("?@example.org",)


# ---- reading


@given(st.binary(max_size=2000))
def test_any_bytes_at_all_can_be_read(raw: bytes) -> None:
    reading.read(raw)


MIME_PIECES = st.sampled_from(
    [
        b"",
        b"Subject: =?utf-8?b?@@@?=",
        b"Subject: =?nope?q?x?=",
        b"From: =?utf-8?q?=FF=FE?= <a@b>",
        b"--b",
        b"--b--",
        b"Content-Type: multipart/mixed; boundary=b",
        b"Content-Type: multipart/alternative",
        b"Content-Type: message/rfc822",
        b"Content-Type: text/html; charset=nonsense",
        b"Content-Type: text/html; charset=unicode_escape",
        b"Content-Type: text/plain; charset=idna",
        b"Content-Type: text/plain; charset*=''%ff",
        b"Content-Type: ; =",
        b"Content-Transfer-Encoding: base64",
        b"Content-Transfer-Encoding: uuencode",
        b"Content-Transfer-Encoding: quoted-printable",
        b"Content-Disposition: attachment; filename*=nope''%80",
        b"Content-Disposition: attachment; filename*0*=utf-8''a; filename*2=b",
        b"List-Unsubscribe: <http://[::1>, <mailto:a@b>",
        b"List-Unsubscribe-Post: List-Unsubscribe=One-Click",
        b"begin 666 x",
        b"#!!",
        b"a=\xff=3",
        b"\\u12",
        b"text \xe9",
    ]
)


@given(st.lists(MIME_PIECES, max_size=14).map(b"\r\n".join))
def test_any_heap_of_broken_mime_can_be_read(raw: bytes) -> None:
    reading.read(raw)


def test_a_mail_nested_beyond_reason_still_shows_its_headers() -> None:
    opening = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(2000))
    letter = reading.read(b"Subject: deep\r\n" + opening)
    assert letter.subject == "deep"


def test_decodes_encoded_words_and_folded_headers() -> None:
    subject = b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n =?utf-8?b?8J+Yig==?=\r\n"
    raw = subject + b"From: =?iso-8859-1?q?J=F6rg?= <j@example.org>\r\n\r\n"
    letter = reading.read(raw)
    assert letter.subject == "Grüße😊"
    assert letter.sender == "Jörg <j@example.org>"


def test_shows_an_encoded_word_that_cannot_be_decoded_as_it_stands() -> None:
    assert reading.read(b"Subject: =?utf-8?b?A?= x\r\n\r\n").subject == "=?utf-8?b?A?= x"


def test_controls_and_direction_overrides_do_not_reach_the_page() -> None:
    raw = "Subject: =?utf-8?q?a=00b=E2=80=AEc?=\r\n\r\nx\x07\u202ey".encode()
    letter = reading.read(raw)
    assert letter.subject == "abc"
    assert letter.text == "xy"


def test_tells_text_html_and_attachments_apart() -> None:
    message = EmailMessage()
    message.set_content("the text")
    message.add_alternative("<p>the page</p>", subtype="html")
    message.add_attachment("not the text", filename="notes.txt")
    message.add_attachment(b"\x00\x01", maintype="application", subtype="zip", filename="Übersicht.zip")
    letter = reading.read(message.as_bytes())
    assert letter.text == "the text\n"
    assert letter.html == "<p>the page</p>\n"
    assert [(part.name, part.media_type) for part in letter.attachments] == [
        ("notes.txt", "text/plain"),
        ("Übersicht.zip", "application/zip"),
    ]
    assert letter.attachments[1].content == b"\x00\x01"


def test_an_unknown_charset_is_read_as_utf8() -> None:
    raw = "Content-Type: text/plain; charset=klingon\r\n\r\nschön".encode()
    assert reading.read(raw).text == "schön"


@pytest.mark.parametrize(
    ("unsubscribe", "post", "found"),
    [
        (f"<mailto:leave@example.org>, <{UNSUBSCRIBE}>", "List-Unsubscribe=One-Click", UNSUBSCRIBE),
        (f"<{UNSUBSCRIBE}>", None, ""),
        (f"<{UNSUBSCRIBE}>", "Something=Else", ""),
        ("<javascript:alert(1)>", "List-Unsubscribe=One-Click", ""),
        ("<mailto:leave@example.org>", "List-Unsubscribe=One-Click", ""),
        ("<https://evil example;script-src/>", "List-Unsubscribe=One-Click", ""),
    ],
)
def test_one_click_needs_both_headers_and_a_web_address(unsubscribe: str, post: str | None, found: str) -> None:
    raw = f"List-Unsubscribe: {unsubscribe}\r\n" + (f"List-Unsubscribe-Post: {post}\r\n" if post else "") + "\r\n"
    assert reading.read(raw.encode()).unsubscribe_url == found


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://127.0.0.1:8000/u/1", "http://127.0.0.1:8000"),
        ("https://user:pass@News.Example.org/x", "https://news.example.org"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
        ("https://a;script-src *", ""),
        ("https://a:99999/", ""),
        ("ftp://example.org/", ""),
        ("//example.org/", ""),
    ],
)
def test_an_origin_holds_nothing_but_scheme_host_and_port(url: str, origin: str) -> None:
    assert security.origin(url) == origin


# ---- the pages


def test_without_a_mailbox_there_is_no_page(client: Client, settings: Any) -> None:
    settings.ENV = settings.ENV.model_copy(update={"mailbox_path": None})
    assert client.get("/mailbox/").status_code == 404


def test_an_empty_mailbox_says_what_to_do(client: Client, store: Store) -> None:
    assert "No mail yet. Send an issue" in page(client, "/mailbox/")


def test_the_list_shows_who_got_what_newest_first(client: Client, store: Store) -> None:
    store.add(
        make_incoming(to="ada@example.org", subject="Older one"),
        make_incoming(to="ben@example.org", subject="Newer one"),
    )
    shown = page(client, "/mailbox/")
    assert shown.index("Newer one") < shown.index("Older one")
    assert "ada@example.org" in shown
    assert "2 mails" in shown


def test_the_list_is_paged_by_key(client: Client, store: Store) -> None:
    store.add(*[make_incoming(subject=f"Number {n:03}") for n in range(120)])
    shown, address = [], "/mailbox/"
    while address:
        text = page(client, address)
        shown += [n for n in range(119, -1, -1) if f"Number {n:03}" in text]
        _, found, rest = text.partition('<a rel="next" href="')
        address = rest.partition('"')[0] if found else ""
    assert shown == list(range(119, -1, -1))


def test_a_reader_and_a_search_narrow_the_list_and_its_links(client: Client, store: Store) -> None:
    store.add(
        make_incoming(to="a+b&c@example.org", subject="Mine"),
        make_incoming(to="ben@example.org", subject="Not mine"),
        make_incoming(to="a+b&c@example.org", subject="Also of interest"),
    )
    shown = page(client, "/mailbox/?reader=a%2Bb%26c%40example.org")
    assert "Not mine" not in shown
    assert "2 of 3 mails" in shown
    assert "/mailbox/1/?reader=a%2Bb%26c%40example.org" in shown
    assert "1 of 3 mails" in page(client, "/mailbox/?reader=a%2Bb%26c%40example.org&q=INTEREST")
    assert "No mail matches" in page(client, "/mailbox/?q=nowhere")


@pytest.mark.parametrize("before", ["x", "-1", "²", "9" * 40, "9" * 5000, ""])
def test_a_senseless_page_is_the_first_page(client: Client, store: Store, before: str) -> None:
    store.add(make_incoming(subject="Still here"))
    assert "Still here" in page(client, f"/mailbox/?before={before}")


def test_reloads_by_itself_only_when_asked(client: Client, store: Store) -> None:
    assert "http-equiv" not in page(client, "/mailbox/")
    assert '<meta http-equiv="refresh" content="5">' in page(client, "/mailbox/?reload=1")


def test_a_mail_is_shown_as_html_text_headers_and_source(client: Client, store: Store) -> None:
    store.add(make_incoming(subject="Grüße", text="plain words", html="<p>rich words</p>"))
    assert '<iframe src="/mailbox/1/frame/"' in page(client, "/mailbox/1/")
    assert "rich words" in page(client, "/mailbox/1/frame/")
    assert "plain words" in page(client, "/mailbox/1/?show=text")
    assert "<dt>Subject</dt><dd>Grüße</dd>" in page(client, "/mailbox/1/?show=headers")
    assert "=?utf-8?" in page(client, "/mailbox/1/?show=source")


def test_a_mail_without_html_shows_its_text(client: Client, store: Store) -> None:
    store.add(make_incoming(html=None, text="only words"))
    assert "only words" in page(client, "/mailbox/1/")
    assert "no HTML part" in page(client, "/mailbox/1/?show=html")
    assert client.get("/mailbox/1/frame/").status_code == 404


def test_a_mail_without_text_says_so(client: Client, store: Store) -> None:
    store.add(make_incoming(text=None))
    assert "no text part" in page(client, "/mailbox/1/?show=text")


def test_leads_to_the_next_and_the_previous_mail(client: Client, store: Store) -> None:
    store.add(*[make_incoming() for _ in range(3)])
    shown = page(client, "/mailbox/2/?show=text")
    assert '<a rel="prev" href="/mailbox/3/?show=text">Newer</a>' in shown
    assert '<a rel="next" href="/mailbox/1/?show=text">Older</a>' in shown
    assert "Newer</a>" not in page(client, "/mailbox/3/")


def test_leads_on_among_the_mails_that_were_asked_for(client: Client, store: Store) -> None:
    store.add(*[make_incoming(to=f"{name}@example.org") for name in ("ada", "ben", "ada", "ben", "ada")])
    shown = page(client, "/mailbox/3/?reader=ada%40example.org")
    assert '<a rel="prev" href="/mailbox/5/?reader=ada%40example.org">' in shown
    assert '<a rel="next" href="/mailbox/1/?reader=ada%40example.org">' in shown


@pytest.mark.parametrize("address", ["/mailbox/7/", "/mailbox/7/frame/", "/mailbox/7/mail.eml", f"/mailbox/{10**30}/"])
def test_an_unknown_mail_is_not_found(client: Client, store: Store, address: str) -> None:
    assert client.get(address).status_code == 404


@pytest.mark.parametrize("show", ["html", "text", "headers", "source"])
def test_nothing_in_a_mail_becomes_markup_of_the_page(client: Client, store: Store, show: str) -> None:
    raw = (
        f'Subject: {ATTACK}\r\nFrom: "{ATTACK}" <a@example.org>\r\nTo: {ATTACK}\r\nX-{ATTACK}: {ATTACK}\r\n'
        f'Content-Disposition: inline; filename="{ATTACK}"\r\n\r\n{ATTACK}\r\n'
    )
    store.add(
        Incoming(ATTACK, (ATTACK,), raw.encode()),
        make_incoming(subject=ATTACK, text=ATTACK, html=ATTACK, sender=f'"{ATTACK}" <a@example.org>'),
    )
    for address in (
        "/mailbox/",
        f"/mailbox/?q={ATTACK}",
        f"/mailbox/?reader={ATTACK}",
        f"/mailbox/1/?show={show}",
        f"/mailbox/2/?show={show}",
    ):
        shown = page(client, address)
        assert "<script" not in shown
        assert "alert(1)" in shown


def test_the_frame_may_run_nothing_and_load_only_images(client: Client, store: Store) -> None:
    store.add(
        make_incoming(
            html=f"<!doctype html><html><head><title>x</title></head><body>{ATTACK}<a href='https://example.org'>go</a>"
        )
    )
    response = client.get("/mailbox/1/frame/")
    policy = response["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "img-src * data:" in policy
    assert "script" not in policy
    assert policy.endswith("sandbox allow-popups allow-popups-to-escape-sandbox")
    assert response["X-Frame-Options"] == "SAMEORIGIN"
    assert response.content.decode().startswith('<!doctype html><html><head><base target="_blank"><title>x</title>')
    shown = page(client, "/mailbox/1/")
    assert 'sandbox="allow-popups allow-popups-to-escape-sandbox"' in shown


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        ("<HTML lang=en><header>x", '<HTML lang=en><base target="_blank"><header>x'),
        ("<!DOCTYPE html>\n<p>x", '<!DOCTYPE html><base target="_blank">\n<p>x'),
        ("<p>x", '<base target="_blank"><p>x'),
    ],
)
def test_links_open_in_a_new_tab_whatever_the_html_lacks(client: Client, store: Store, html: str, shown: str) -> None:
    store.add(make_incoming(html=html))
    assert page(client, "/mailbox/1/frame/").startswith(shown)


def test_the_pages_allow_no_inline_script_or_style(client: Client, store: Store) -> None:
    store.add(make_incoming())
    for address in ("/mailbox/", "/mailbox/1/"):
        response = client.get(address)
        assert response["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self';")
        assert response["Referrer-Policy"] == "same-origin"
        assert " style=" not in response.content.decode()
        assert "<style" not in response.content.decode()
        assert "<script" not in response.content.decode()


def test_offers_the_one_click_a_mail_program_would_offer(client: Client, store: Store) -> None:
    store.add(
        make_incoming(List_Unsubscribe=f"<{UNSUBSCRIBE}>", List_Unsubscribe_Post="List-Unsubscribe=One-Click"),
        make_incoming(),
    )
    response = client.get("/mailbox/1/")
    shown = response.content.decode()
    assert f'<form class="unsubscribe" method="post" action="{UNSUBSCRIBE}" target="_blank">' in shown
    assert '<input type="hidden" name="List-Unsubscribe" value="One-Click">' in shown
    assert response["Content-Security-Policy"].endswith("form-action 'self' https://news.example.org")
    assert "csrfmiddlewaretoken" not in shown
    assert 'class="unsubscribe"' not in page(client, "/mailbox/2/")


def test_attachments_are_saved_never_shown(client: Client, store: Store) -> None:
    message = EmailMessage()
    message.set_content("see there")
    message.add_attachment(ATTACK.encode(), maintype="text", subtype="html", filename='page"\u00fc.html')
    store.add(make_incoming(message.as_bytes()))
    shown = page(client, "/mailbox/1/")
    assert "/mailbox/1/attachments/2/" in shown
    response = client.get("/mailbox/1/attachments/2/")
    assert response.content == ATTACK.encode()
    assert response["Content-Type"] == "application/octet-stream"
    assert response["Content-Disposition"].startswith("attachment;")
    assert response["X-Content-Type-Options"] == "nosniff"
    assert client.get("/mailbox/1/attachments/1/").status_code == 404


def test_the_source_can_be_saved_byte_for_byte(client: Client, store: Store) -> None:
    raw = b"Subject: \xff\r\n\r\n" + base64.b64encode(b"x") + b"\x80"
    store.add(make_incoming(raw))
    assert client.get("/mailbox/1/mail.eml").content == raw


def test_a_huge_subject_does_not_flood_the_page(client: Client, store: Store) -> None:
    store.add(make_incoming(b"Subject: " + b"long " * 100_000 + b"\r\n\r\nx"))
    assert len(page(client, "/mailbox/")) < 20_000
    assert len(page(client, "/mailbox/1/")) < 20_000


def test_only_a_post_of_its_own_page_empties_the_mailbox(store: Store) -> None:
    store.add(make_incoming())
    strict = Client(enforce_csrf_checks=True)
    assert strict.get("/mailbox/empty/").status_code == 405
    assert strict.post("/mailbox/empty/").status_code == 403
    assert store.count() == 1
    token = page(strict, "/mailbox/").partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
    assert strict.post("/mailbox/empty/", {"csrfmiddlewaretoken": token}).status_code == 302
    assert store.count() == 0
