"""Messages: compiled once, joined per reader, read back as they were meant, and never more headers than ours."""

from __future__ import annotations

import datetime as dt
import email
import html as html_module
import pickle
import re
from collections.abc import Sequence
from email.header import decode_header, make_header
from email.message import EmailMessage, Message
from email.policy import default as default_policy
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from newsletter import message
from newsletter.content import clean_line, clean_text
from newsletter.fields import Slot, SlotTable
from newsletter.rendering import Rendered

UNSUBSCRIBE = "https://news.example.org/u/" + "t" * 42
NAME = Slot("name", "there")
TOKEN = Slot("delivery_token")
FAMILY = "\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}\u200d\N{BOY}"
HAZARDS = [
    *(".", "\n.\n", "..\n", "From here\n", "\nFrom ", " \n", "\t\n", "=", "=\n", "=20", "--=_", "\r", "\r\n", "\u2028"),
    *(
        "\x00",
        "\u202e",
        "<",
        "&",
        '"',
        "\\",
        "=?utf-8?q?a?=",
        " ",
        "  ",
        ", ",
        "@",
        "\ud800",
        "\nBcc: eve@example.org\n\n",
    ),
    *("x" * 75, "y" * 76, "z" * 1200, "é" * 40, "漢字" * 30, FAMILY, "e\u0301" * 20, "\U0001f1e9\U0001f1ea" * 9),
]
anything = st.lists(st.sampled_from(HAZARDS) | st.text(st.characters(), max_size=20), max_size=8).map("".join)
with_slots = st.lists(st.sampled_from([NAME, TOKEN]) | anything, max_size=8)


def make_rendered(
    *,
    subject: Sequence[str | Slot] = ("The weekly",),
    text: Sequence[str | Slot] = ("Hello ", NAME, "\n"),
    html: Sequence[str | Slot] = ("<p>Hello ", NAME, "</p>\n"),
) -> Rendered:
    """A rendered issue from literal text and slots."""
    table = SlotTable()

    def marked(pieces: Sequence[str | Slot]) -> str:
        return "".join(piece if isinstance(piece, str) else table.marker(piece) for piece in pieces)

    marked_subject, marked_text, marked_html = marked(subject), marked(text), marked(html)
    return Rendered(marked_subject, "", marked_html, marked_text, tuple(table.slots), (), 0, (), ())


def make_sender(**fields: Any) -> message.Sender:
    values = {
        "name": "The Weekly",
        "address": "news@example.org",
        "reply_to": "",
        "list_id": "weekly.news.example.org",
        "list_name": "The Weekly",
        "feedback_id": "i12:n1:issue:masthead",
        "domain": "news.example.org",
        "language": "en",
    }
    return message.Sender(**(values | fields))


def make_reader(**fields: Any) -> message.Reader:
    values = {
        "delivery_id": 7,
        "address": "ada@example.org",
        "name": "Ada",
        "message_id": "abc-DEF_123@news.example.org",
        "date": dt.datetime(2026, 11, 22, 9, 30, tzinfo=dt.timezone(dt.timedelta(hours=1))),
    }
    reader = values | fields
    slots = {"name": reader["name"], "delivery_token": "k" * 26, "unsubscribe_url": UNSUBSCRIBE}
    return message.Reader(**{**reader, "values": slots | fields.get("values", {})})


def assembled(rendered: Rendered | None = None, sender: message.Sender | None = None, **reader: Any) -> bytes:
    return message.assemble(
        message.compile(rendered or make_rendered(), sender or make_sender()), make_reader(**reader)
    )


def parsed(octets: bytes) -> EmailMessage:
    found = email.message_from_bytes(octets, policy=default_policy)
    assert isinstance(found, EmailMessage)
    assert not found.defects
    return found


def body(part: Message) -> str:
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode("utf-8")


def unfolded(value: object) -> str:
    return re.sub(r"\r?\n(?=[ \t])", "", str(value))


def decoded(value: str) -> str:
    return str(make_header(decode_header(value)))


def headers_of(octets: bytes) -> list[str]:
    """The names of the headers, as they stand before the first empty line."""
    head = octets.partition(b"\r\n\r\n")[0].decode()
    return [line.partition(":")[0] for line in head.split("\r\n") if not line.startswith(" ")]


def meant(pieces: Sequence[str | Slot], reader: message.Reader, *, as_html: bool) -> str:
    """What a reader should find: literal text cleaned, each slot's value on one line, a line end at the end."""
    joined: list[str | Slot] = [""]
    for piece in pieces:
        if isinstance(piece, str) and isinstance(joined[-1], str):
            joined[-1] += piece
        else:
            joined.append(piece)
    found = ""
    for piece in joined:
        if isinstance(piece, str):
            found += clean_text(piece)
        else:
            value = clean_line(reader.values.get(piece.name) or piece.fallback)
            found += html_module.escape(value) if as_html else value
    ends = isinstance(joined[-1], str) and clean_text(joined[-1]).endswith("\n")
    return (found if ends else found + "\n").replace("\n", "\r\n")


@given(text=with_slots, html=with_slots, name=anything)
@example(text=["a ", NAME, NAME, " \n.", TOKEN, "."], html=['<a href="', TOKEN, '">', NAME, "</a>"], name=".")
@example(text=["From ", NAME], html=["<p>", NAME], name="From me")
@example(text=[NAME], html=[NAME], name="\ud800")
def test_every_reader_finds_the_text_and_html_that_were_meant(
    text: list[str | Slot], html: list[str | Slot], name: str
) -> None:
    reader = make_reader(name=name)
    compiled = message.compile(make_rendered(text=text, html=["<i>", *html]), make_sender())
    mail = parsed(message.assemble(compiled, reader))
    plain, rich = mail.iter_parts()
    assert (plain.get_content_type(), rich.get_content_type()) == ("text/plain", "text/html")
    assert body(plain) == meant(text, reader, as_html=False)
    assert body(rich) == meant(["<i>", *html], reader, as_html=True)
    assert message.text(compiled, reader).replace("\n", "\r\n") == body(plain)
    assert message.html(compiled, reader).replace("\n", "\r\n") == body(rich)


@given(text=with_slots, html=with_slots, subject=with_slots, name=anything, sender_name=anything, list_name=anything)
def test_the_bytes_are_safe_for_every_relay(
    text: list[str | Slot],
    html: list[str | Slot],
    subject: list[str | Slot],
    name: str,
    sender_name: str,
    list_name: str,
) -> None:
    rendered = make_rendered(text=text, html=html, subject=subject)
    octets = assembled(rendered, make_sender(name=sender_name, list_name=list_name), name=name)
    assert octets.isascii()
    assert b"\x00" not in octets
    assert octets.endswith(b"\r\n")
    assert octets.count(b"\r") == octets.count(b"\n") == octets.count(b"\r\n")
    lines = octets.split(b"\r\n")
    assert not any(line.startswith((b".", b"From ")) for line in lines), "a dot would have to be stuffed"
    bodies = octets.partition(b"\r\n\r\n")[2].split(b"\r\n")
    assert not any(line.endswith((b" ", b"\t")) for line in bodies), "a relay may cut blanks at the end of a line"
    assert max(map(len, lines)) <= 100  # only List-Unsubscribe, which is never folded, passes 76
    assert all(len(line) <= 76 for line in lines if not line.startswith(b"List-Unsubscribe:"))


@given(subject=with_slots, name=anything, sender_name=anything, list_name=anything)
@example(subject=["=?utf-8?q?a?="], name="=?utf-8?q?a?=", sender_name='a "b" \\ c', list_name="é")
@example(subject=["x" * 1200], name="x" * 1200, sender_name="漢字" * 60, list_name=FAMILY * 9)
def test_headers_are_read_back_as_they_were_meant_and_none_is_added(
    subject: list[str | Slot], name: str, sender_name: str, list_name: str
) -> None:
    reader = make_reader(name=name)
    compiled = message.compile(make_rendered(subject=subject), make_sender(name=sender_name, list_name=list_name))
    octets = message.assemble(compiled, reader)
    meant_subject = clean_line(meant(subject, reader, as_html=False))
    assert message.subject(compiled, reader) == meant_subject
    old = email.message_from_bytes(octets)  # the parser of before Python 3.6 is a second opinion
    assert decoded(unfolded(old["Subject"])) == meant_subject
    mail = parsed(octets)
    assert mail["Subject"] == meant_subject
    for header, display_name, address in [
        ("To", name, "ada@example.org"),
        ("From", sender_name, "news@example.org"),
        ("List-Id", list_name, "weekly.news.example.org"),
    ]:
        # Python 3.11's new parser leaves blanks between the encoded words of a phrase; the old one keeps to RFC 2047.
        phrase, _, rest = unfolded(old[header]).rpartition("<")
        quoted = re.fullmatch(r'"((?:[^"\\]|\\.)*)" ', phrase)
        assert (re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else decoded(phrase.strip())) == clean_line(display_name)
        assert rest.removesuffix(">") == address
    assert [each.addr_spec for each in mail["To"].addresses] == ["ada@example.org"]
    assert [each.addr_spec for each in mail["From"].addresses] == ["news@example.org"]
    assert headers_of(octets) == headers_of(assembled())


@pytest.mark.parametrize("text", ["ü", "漢", FAMILY, "\U0001f1e9\U0001f1ea", "e\u0301", "👍\U0001f3fd"])
@pytest.mark.parametrize("count", [1, 5, 12, 40, 130])
def test_no_encoded_word_is_too_long_or_holds_half_a_character(text: str, count: int) -> None:
    octets = assembled(make_rendered(subject=[text * count]))
    line = re.search(rb"^Subject: ([^\r]*(?:\r\n [^\r]*)*)", octets, re.MULTILINE)
    assert line
    words = line[1].decode().split()
    assert all(len(word) <= 75 for word in words)
    pieces = [str(make_header(decode_header(word))) for word in words]
    assert "".join(pieces) == text * count
    assert all(piece == text * (len(piece) // len(text)) for piece in pieces)


def test_the_headers_that_tell_a_newsletter_are_there_once() -> None:
    mail = parsed(assembled(make_rendered(), make_sender(list_name="Wöchentlich", reply_to="editor@example.org")))
    assert mail.get_all("List-Unsubscribe") == [f"<{UNSUBSCRIBE}>"]
    assert mail.get_all("List-Unsubscribe-Post") == ["List-Unsubscribe=One-Click"]
    assert mail.get_all("List-Id") == ["Wöchentlich <weekly.news.example.org>"]
    assert mail.get_all("Feedback-ID") == ["i12:n1:issue:masthead"]
    assert mail.get_all("Precedence") == ["bulk"]
    assert mail.get_all("X-Auto-Response-Suppress") == ["OOF, AutoReply"]
    assert mail.get_all("Content-Language") == ["en"]
    assert mail.get_all("Message-ID") == ["<abc-DEF_123@news.example.org>"]
    assert mail.get_all("Date") == ["Sun, 22 Nov 2026 08:30:00 +0000"]
    assert mail.get_all("Reply-To") == ["editor@example.org"]
    assert mail.get_all("MIME-Version") == ["1.0"]
    assert mail["Auto-Submitted"] is None


def test_a_list_name_in_ascii_is_quoted() -> None:
    assert b'\r\nList-Id: "The Weekly" <weekly.news.example.org>\r\n' in assembled()


def test_programs_that_only_write_mail_can_unsubscribe_too() -> None:
    address = f"bounces+{'k' * 50}@news.example.org"
    lines = assembled(unsubscribe_address=address).split(b"\r\n")
    assert f"List-Unsubscribe: <{UNSUBSCRIBE}>, <mailto:{address}?subject=unsubscribe>".encode() in lines
    assert b"List-Unsubscribe-Post: List-Unsubscribe=One-Click" in lines


def test_the_unsubscribe_link_stands_in_one_line_however_long() -> None:
    link = "https://news.example.org/u/" + "t" * 300
    assert f"\r\nList-Unsubscribe: <{link}>\r\n".encode() in assembled(values={"unsubscribe_url": link})


@pytest.mark.parametrize("link", ["", "mailto:a@example.org", "https://a.example/>\r\nX: y", "https://a.example/ü"])
def test_no_message_without_a_link_to_leave(link: str) -> None:
    with pytest.raises(ValueError, match="List-Unsubscribe header needs a web address"):
        assembled(values={"unsubscribe_url": link})


@pytest.mark.parametrize(
    "address", ["", "ada", "a@b@c", "a b@example.org", "a@example.org>\r\nX: y", "a@exam\x00ple.org"]
)
def test_what_is_no_address_is_never_written_to(address: str) -> None:
    assert not message.is_address(address)
    with pytest.raises(ValueError, match="not an address that mail can be sent to"):
        assembled(address=address)


@pytest.mark.parametrize("message_id", ["abc", "a b@example.org", "a@example.org>\r\nX: y"])
def test_a_message_id_is_one(message_id: str) -> None:
    with pytest.raises(ValueError, match="is not a Message-ID"):
        assembled(message_id=message_id)


def test_a_sender_must_fit_every_relay() -> None:
    with pytest.raises(ValueError, match="must be ASCII"):
        message.compile(make_rendered(), make_sender(address="news@bücher.example"))
    with pytest.raises(ValueError, match="no list identifier"):
        message.compile(make_rendered(), make_sender(list_id="weekly>\r\nX: y"))


def test_only_a_local_part_that_is_not_ascii_makes_a_message_eight_bit() -> None:
    assert assembled(name="Jörg", sender=make_sender(name="Öl")).isascii()
    octets = assembled(address="jörg@example.org", name="Jörg")
    assert "<jörg@example.org>\r\n".encode() in octets
    assert octets.replace("jörg@example.org".encode(), b"").isascii()


def test_values_are_escaped_in_html_and_raw_in_text() -> None:
    reader = make_reader(name='<b>&"x"')
    mail = parsed(message.assemble(message.compile(make_rendered(), make_sender()), reader))
    plain, rich = mail.iter_parts()
    assert body(plain) == 'Hello <b>&"x"\r\n'
    assert body(rich) == "<p>Hello &lt;b&gt;&amp;&quot;x&quot;</p>\r\n"


def test_a_slot_without_a_value_shows_its_fallback() -> None:
    slot = Slot("first_name", "dear <reader>")
    octets = assembled(make_rendered(subject=["Hi ", slot], text=[slot], html=[slot]), values={"first_name": ""})
    mail = parsed(octets)
    plain, rich = mail.iter_parts()
    assert mail["Subject"] == "Hi dear <reader>"
    assert (body(plain), body(rich)) == ("dear <reader>\r\n", "dear &lt;reader&gt;\r\n")


def test_without_html_the_message_is_plain_text() -> None:
    mail = parsed(assembled(make_rendered(html=[])))
    assert mail.get_content_type() == "text/plain"
    assert body(mail) == "Hello Ada\r\n"
    assert message.html(message.compile(make_rendered(html=[]), make_sender()), make_reader()) == ""


def test_the_smaller_encoding_is_taken_for_each_part() -> None:
    mail = parsed(assembled(make_rendered(text=["漢字 ", NAME, "漢字" * 200], html=["<p>Grüße</p>", NAME])))
    plain, rich = mail.iter_parts()
    assert (plain["Content-Transfer-Encoding"], rich["Content-Transfer-Encoding"]) == ("base64", "quoted-printable")


def test_the_same_again_gives_the_same_bytes() -> None:
    assert assembled() == assembled()
    compiled = message.compile(make_rendered(), make_sender())
    assert message.assemble(pickle.loads(pickle.dumps(compiled)), make_reader()) == assembled()


def test_the_boundary_depends_on_the_content_and_occurs_in_no_body() -> None:
    first = parsed(assembled()).get_boundary()
    assert first
    again = parsed(assembled(make_rendered(text=[f"--{first}\n--{first}--\n", NAME]), name=f"--{first}"))
    assert again.get_boundary() != first
    assert body(next(again.iter_parts())) == f"--{first}\r\n--{first}--\r\n--{first}\r\n"
    assert "=_" in first, "what neither encoding can contain"


def test_the_size_is_that_of_the_message_but_for_the_readers_own() -> None:
    compiled = message.compile(make_rendered(text=["漢字" * 500, NAME]), make_sender())
    assert 0 < len(message.assemble(compiled, make_reader())) - compiled.size < 400
