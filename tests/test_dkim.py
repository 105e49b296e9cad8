"""DKIM: what we sign, another's verifier accepts, and nothing that was covered can be changed, added or taken out."""

from __future__ import annotations

import base64
import datetime as dt
import re
from pathlib import Path

import dkim as verifier  # type: ignore[import-untyped]
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import example, given
from hypothesis import strategies as st

from newsletter import clock, message, transports
from newsletter.environment import Environment
from newsletter.fields import Slot, SlotTable
from newsletter.message import dkim
from newsletter.rendering import Rendered
from newsletter.settings import ENV
from newsletter.transports.smtp import SmtpTransport
from tests.smtp_sink import SmtpSink

RSA = rsa.generate_private_key(65537, 2048)
ED25519 = ed25519.Ed25519PrivateKey.generate()
SIGNERS = (dkim.Signer("example.org", "rsa", RSA), dkim.Signer("example.org", "ed", ED25519))
AT = dt.datetime(2026, 11, 22, 9, 30, tzinfo=dt.UTC)
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
OPEN = serialization.NoEncryption()


def dns(name: bytes, timeout: float = 5) -> bytes | None:
    """What the DNS would say of our two selectors."""
    if name.startswith(b"rsa._domainkey.example.org"):
        form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        return b"v=DKIM1; k=rsa; p=" + base64.b64encode(RSA.public_key().public_bytes(*form))
    if name.startswith(b"ed._domainkey.example.org"):
        raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
        return b"v=DKIM1; k=ed25519; p=" + base64.b64encode(ED25519.public_key().public_bytes(*raw))
    return None


def verdicts(octets: bytes) -> list[bool]:
    """Whether each signature of `octets` holds, from the top."""
    count = len(re.findall(rb"^DKIM-Signature:", octets, re.MULTILINE))

    def verdict(number: int) -> bool:
        try:
            return bool(verifier.DKIM(octets).verify(number, dnsfunc=dns))
        except verifier.ValidationError:
            return False

    return [verdict(number) for number in range(count)]


def make_message(
    *,
    name: str = "Ada",
    subject: str = "The weekly",
    text: str = "Hello\n",
    sender: str = "The Weekly",
    html: str = "",
    bulk: bool = True,
) -> bytes:
    table = SlotTable()
    text += table.marker(Slot("name", "there"))
    values = {"name": name, "unsubscribe_url": "https://news.example.org/u/" + "t" * 42}
    reader = message.Reader(7, "ada@example.org", name, "abc@news.example.org", AT, values)
    from_ = message.Sender(
        *(sender, "news@example.org", "desk@example.org", "weekly.news.example.org", sender, "i1:n1:issue:masthead"),
        *("news.example.org", "en", bulk),
    )
    compiled = message.compile(Rendered(subject, "", html, text, tuple(table.slots), (), 0, (), ()), from_)
    return message.assemble(compiled, reader)


def signed(octets: bytes | None = None) -> bytes:
    return dkim.signed(octets or make_message(), SIGNERS, AT)


hard = st.text(st.characters(codec="utf-8"), max_size=60)


@given(name=hard, subject=hard, text=hard, sender=hard, bulk=st.booleans())
@example(name="漢字" * 30, subject="é" * 200, text="a\n\n\n", sender="x" * 90, bulk=True)
@example(name="", subject="a  b\tc " * 30, text="\n\n\n", sender="A  B", bulk=False)
def test_anothers_verifier_accepts_what_we_sign(name: str, subject: str, text: str, sender: str, bulk: bool) -> None:
    for html in ("", "<p>Hi</p>"):
        octets = make_message(name=name, subject=subject, text=text, sender=sender, html=html, bulk=bulk)
        assert verdicts(signed(octets)) == [True, True]
        assert signed(octets).endswith(octets), "the message itself is as it was"


def test_empty_lines_at_the_end_do_not_count() -> None:
    octets = signed(make_message().rstrip(b"\r\n") + b"\r\n\r\n\r\n")
    assert verdicts(octets) == verdicts(octets.rstrip(b"\r\n") + b"\r\n") == [True, True]


def test_headers_may_be_folded_anew_on_the_way() -> None:
    octets = signed(make_message(subject="word " * 40))
    assert b"\r\n word" in octets
    again = octets.replace(b"\r\n word", b"\r\n\t  word").replace(b"\r\nTo: ", b"\r\nto:\t")
    assert verdicts(again) == [True, True]


@pytest.mark.parametrize(
    "name",
    [
        *("From", "Subject", "To", "Date", "Message-ID", "MIME-Version", "Content-Type", "List-Unsubscribe"),
        *("List-Unsubscribe-Post", "Reply-To", "List-Id", "Feedback-ID"),
    ],
)
def test_no_covered_header_can_be_changed_or_taken_out(name: str) -> None:
    octets = signed(make_message(html="<p>Hi</p>"))
    header = re.search(rb"\r\n%b: (.)[^\r]*(\r\n [^\r]*)*" % name.encode(), octets)
    assert header
    flipped = octets[: header.start(1)] + bytes([octets[header.start(1)] ^ 1]) + octets[header.end(1) :]
    assert verdicts(flipped) == [False, False]
    assert verdicts(octets.replace(header[0], b"")) == [False, False]


@pytest.mark.parametrize("name", dkim.OVERSIGNED)
def test_none_of_the_headers_that_matter_can_be_added(name: bytes) -> None:
    octets = signed()
    assert verdicts(octets) == [True, True]
    assert verdicts(name + b": x\r\n" + octets) == [False, False]
    assert verdicts(octets.replace(b"\r\nMIME-Version", b"\r\n" + name + b": x\r\nMIME-Version")) == [False, False]


def test_every_octet_of_the_body_is_covered() -> None:
    octets = signed(make_message(text="abc\n"))
    begin = octets.index(b"\r\n\r\n") + 4
    for at in range(begin, len(octets)):
        assert verdicts(octets[:at] + bytes([octets[at] ^ 1]) + octets[at + 1 :]) == [False, False]
    assert verdicts(octets + b"more\r\n") == [False, False]
    assert b" l=" not in octets


def test_the_signature_says_when_and_is_the_same_again() -> None:
    assert signed() == signed()
    assert signed().count(b" t=%d;" % AT.timestamp()) == 2
    later = dkim.signed(make_message(), SIGNERS, AT + dt.timedelta(seconds=1))
    assert later != signed()
    assert verdicts(later) == [True, True]


def test_signatures_stand_in_short_lines() -> None:
    head = signed().partition(b"\r\nFrom:")[0]
    assert max(map(len, head.split(b"\r\n"))) <= 76


def write(path: Path, octets: bytes) -> Path:
    path.write_bytes(octets)
    return path


def test_keys_are_read_from_files(tmp_path: Path) -> None:
    pem = {"rsa": RSA.private_bytes(PEM, PKCS8, OPEN), "ed": ED25519.private_bytes(PEM, PKCS8, OPEN)}
    keys = {selector: write(tmp_path / selector, octets) for selector, octets in pem.items()}
    assert verdicts(dkim.signed(make_message(), dkim.signers("example.org", keys), AT)) == [True, True]
    assert dkim.problems("example.org", keys) == []
    assert dkim.problems("", {}) == []


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (None, "cannot be read"),
        (b"no key", "no private key in PEM form"),
        (rsa.generate_private_key(65537, 1024).private_bytes(PEM, PKCS8, OPEN), "1024 bits"),
        (RSA.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"secret")), "locked with a password"),
        (ec.generate_private_key(ec.SECP256R1()).private_bytes(PEM, PKCS8, OPEN), "neither RSA nor Ed25519"),
    ],
)
def test_a_key_that_cannot_sign_is_said_in_a_sentence(tmp_path: Path, octets: bytes | None, said: str) -> None:
    path = tmp_path / "key.pem"
    if octets is not None:
        path.write_bytes(octets)
    (problem,) = dkim.problems("example.org", {"news1": path})
    assert said in problem
    assert "news1" in problem
    assert problem.endswith(".")


def test_a_domain_without_keys_or_keys_without_a_domain_sign_nothing(tmp_path: Path) -> None:
    assert "go together" in dkim.problems("example.org", {})[0]
    assert "go together" in dkim.problems("", {"news1": tmp_path / "key.pem"})[0]


def test_no_key_is_shown() -> None:
    assert "key" not in repr(SIGNERS[0])


def test_keys_are_set_by_selector_and_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DKIM_DOMAIN", "Example.org")
    monkeypatch.setenv("DKIM_KEYS", "news1:/keys/a.pem, news2:/keys/b.pem")
    found = Environment()
    assert found.dkim_domain == "example.org"
    assert found.dkim_keys == {"news1": Path("/keys/a.pem"), "news2": Path("/keys/b.pem")}
    for name, wrong in [("DKIM_KEYS", "/keys/a.pem"), ("DKIM_KEYS", "a b:/x"), ("DKIM_DOMAIN", "example.org\r\nx")]:
        with monkeypatch.context() as patch:
            patch.setenv(name, wrong)
            with pytest.raises(ValueError, match="write it"):
                Environment()


def make_sender() -> message.Sender:
    return message.Sender("W", "news@example.org", "", "w.example.org", "W", "f", "example.org", "en")


def test_mail_by_smtp_is_signed_where_keys_are_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = write(tmp_path / "rsa.pem", RSA.private_bytes(PEM, PKCS8, OPEN))
    with SmtpSink() as sink:
        for setting, value in [("smtp_url", sink.url), ("dkim_domain", "example.org"), ("dkim_keys", {"rsa": key})]:
            monkeypatch.setitem(ENV.__dict__, setting, value)
        assert transports.problems() == []
        transport = transports.open_transport()
        assert isinstance(transport, SmtpTransport)
        compiled = message.compile(
            Rendered("Weekly", "", "", "Hello\n", (), (), 0, (), ()),
            make_sender(),
        )
        values = {"unsubscribe_url": "https://news.example.org/u/1"}
        reader = message.Reader(1, "ada@example.org", "", "1@example.org", AT, values)
        transports.hand_over(transport, [(compiled, [reader])], make_sender(), deadline=clock.now() + 30)
        transport.close()
        (kept,) = sink.messages()
        assert verdicts(kept.raw) == [True]
        monkeypatch.setitem(ENV.__dict__, "dkim_keys", {"rsa": tmp_path / "gone.pem"})
        assert len(transports.problems()) == 1
