"""What servers say and what follows: one line for each shape of reply, written after those of many mail systems."""

from __future__ import annotations

import pytest

from newsletter import bounces
from newsletter.bounces import Kind, Verdict
from tests import returned

# Of the sender, its address or its machine, whatever else is unknown or does not exist, and whatever the code says.
ABOUT_THE_SENDER = [
    "550-mailbox unavailable 550 invalid MX record of the sender's domain",
    "554 5.7.1 Absenderadresse abgelehnt: Domain existiert nicht",
    "550 Absender-Domain nicht gefunden",
    "550 Domaine de l'expéditeur inexistant",
    "550 dominio del remitente no existe",
    "550 remetente inexistente",
    "550 发件人不存在",
    "550 送信者が存在しません",
    "553 mail from is not matching the login",
    "550 mittente sconosciuto",
    "550 nadawca nieznany",
    "550 5.1.1 X-Lookup: reverse DNS lookup failed for 192.0.2.4",
    "550 Host unknown: we could not resolve your server's name",
    "550 5.1.1 no SPF record, user unknown to us",
    "550 5.1.1 https://www.spamhaus.org/query/ip/192.0.2.4",
    "550 5.1.1 recipient refused: blocked using dnsbl.example",
    "550 black ip",
    "501 invalid domain name in HELO",
    "550 5.1.1 invalid address in To: header",
    "554 it contains a link to a domain that does not exist",
    "550 no such user for hosts on spamhaus",
    "550 unknown user: your host is blacklisted",
    "550 no such user, see our dnsbl",
    "550 no such user: blocked using our own list",
    "553 Possible forgery (#5.1.1)",
    "550 we accept no mail from dynamic IPs",
    "550 5.7.1 Email quota exceeded for this sender",
    "554 5.7.1 recipient address rejected: Policy Rejection- Quota Exceeded",
    "550 Ip frequency limited",
    "550 5.2.2 more than 100 messages per hour",
    "550 your recipient list has too many unknown addresses",
    "550 too many recipients, user unknown limit reached",
    "554 DT:SPM 12 mx",
    "550 HL:IPB mx5",
    "553 5.7.2 [TSS09] All messages from 192.0.2.4 will be deferred",
    "554 A problem occurred, ask your postmaster",
    "550 ваш адрес занесён в чёрный список",
    "552 MIME/REJECT",
    "552 invalid structure",
    "501 invalid parameter",
    "550 5.2.3 RESOLVER.RST.RecipSizeLimit; message too large for this recipient",
    "550 your address is on our suppression list",
    "550 no: we cannot resolve your domain",
    "554 5.7.1 the envelope domain has no valid MX or A record: no A record found",
    "501 5.5.2 Invalid domain name",
    "550 5.7.1 Domain letters.example was not found in the DNS",
    "550 the domain letters.example could not be found (sender)",
    "554 spam: the linked page is about an unknown user and phishing",
    "550 5.0.0 refused as phishing: 'unknown user' in the text",
    "550 5.7.1 letters.example is not a valid sender: user unknown",
    "550 5.0.350 remote server returned an error: 550 List-Unsubscribe header is too long",
]
# Of a mailbox that is there, or of a server that could not look.
MAY_PASS = [
    "550 5.1.1 zuviele Mails",
    "550 5.1.1 el usuario esta inactivo",
    "550 5.1.1 das Speichervolumen ist ueberschritten",
    "550 user has too many messages on the server",
    "550 5.1.1 this mailbox is overfull",
    "550 recipient mailbox over hard limit",
    "550 cannot append to /var/mail/ada: error writing message: file too large",
    "550 5.5.1 mail receiving disabled",
    "550 Adressat unbekannt oder Mailbox deaktiviert",
    "550 destinataire inconnu ou boite aux lettres desactivee",
    "550 destinatario sconosciuto o mailbox disattivata",
    "550 destinatario desconocido o mailbox lleno",
    "550 indirizzo bloccato per inutilizzo",
    "550 5.7.1 ada@there.example does not want to receive mail from you",
    "550 5.1.1 the directory is not reachable",
    "550 5.1.1 recipient verification is temporarily unavailable",
    "550 5.1.1 unknown user, please try again later",
    "550 5.1.1 try again later, users are being moved",
    "550 mailbox currently unavailable",
    "550 mailbox closed until the fifth of January",
    "550 5.7.1 this list takes posts from members",
    "550 5.7.1 greylisted, come back in 300 seconds",
    "550 5.4.316 message expired, connection refused(Socket error code 10061)",
    "connect to mx.there.example[192.0.2.9]:25: Connection refused",
    "Command died with status 75: /usr/bin/spamc",
    "554 too many Received headers, mail is looping",
    "554 5.4.14 hop count exceeded",
    "550 mailbox not found, it has moved: try later",
    "550 5.7.133 el grupo no se puede alcanzar",
    "550 5.7.134",
    "550 the host was not reachable within the allowed queue period",
]
GONE = [
    "550 ada: does not exist",
    "550 that address no longer exists",
    "550 E-mail inexistente",
    "550 n'existe plus",
    "550 unavailable mail user",
    "550 not user of this server",
    "550 I don't know any user of that name",
    "550 Такого адреса нет",
    "550 no such mail drop here",
    "550 this server does not handle mail for that user",
    "550 the following addresses were unknown: ada@there.example",
    "521 5.3.2 there.example does not accept mail",
    # Mistyped, so that no list of top-level names knows them.
    "550 5.4.310 DNS domain there.exmaple does not exist",
    "550 Domain there.comm not found",
    "550 5.4.310 [Message=InfoDomainNonexistent]",
    # Names of the recipient under codes that are mostly about the sender, and other words than the recipient's.
    "550 5.7.1 no MX record for the domain of the recipient",
    "550 5.5.0 host unknown",
    "550 5.1.2 domain not found, the sender is told",
    "554 domain not found, mail is returned to sender",
    "550 5.1.1 user unknown, or taken for spam",
    "550 user unknown, see our policy",
    "550 user unknown, says the anti-spam gateway",
    "mail was not sent to this address because it is on the suppression list for your account",
    "553 sorry, this one is not in my validrcptto list (#5.7.1)",
    # Without the accents of their languages.
    "550 Empfanger existiert nicht",
    "550 Empfaenger unbekannt",
    "550 boite aux lettres inexistante",
    "550 el buzon no se encontro",
    "550 nie ma takiego uzytkownika",
]


@pytest.mark.parametrize("text", ABOUT_THE_SENDER)
def test_what_is_said_of_the_sender_is_a_block(text: str) -> None:
    assert bounces.judge(text).verdict is Verdict.BLOCK


@pytest.mark.parametrize("text", MAY_PASS)
def test_a_mailbox_that_is_there_is_not_given_up(text: str) -> None:
    assert bounces.judge(text).verdict is Verdict.SOFT


@pytest.mark.parametrize("text", GONE)
def test_a_mailbox_that_is_gone_is_known_by_its_server_s_words(text: str) -> None:
    assert bounces.judge(text).verdict is Verdict.HARD


def test_what_is_true_of_a_list_of_recipients_is_not_said_of_a_mail_with_attachments() -> None:
    assert bounces.judge("550 there.example does not accept mail with attachments").verdict is not Verdict.HARD


def test_who_sends_a_report_and_who_gets_it_are_told_apart() -> None:
    said = "Absender ed@letters.example, Empfänger nicht gefunden"
    assert bounces.judge(f"550 {said}").verdict is Verdict.HARD


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        ("192.0.2.9 does not like recipient.", Verdict.HARD),
        ("192.0.2.9 failed after I sent the message.", Verdict.SOFT),
        ("Connected to 192.0.2.9 but sender was rejected.", Verdict.BLOCK),
    ],
)
def test_qmail_tells_at_which_step_a_server_refused(told: str, verdict: Verdict) -> None:
    body = (
        "Hi. This is the qmail-send program at there.example.\n"
        "I'm afraid I wasn't able to deliver your message to the following addresses.\n\n"
        f"<ada@there.example>:\n{told}\nRemote host said: 550 unknown user\n"
    )
    assert bounces.read(letter_of_a_daemon("failure notice", body)).verdict is verdict


def test_words_in_the_letter_outweigh_the_code_of_a_report_without_words() -> None:
    raw = returned.bounce("b@letters.example", "ada@there.example", status="5.1.1", said="")
    silent = b"\r\n".join(line for line in raw.split(b"\r\n") if not line.startswith(b"Diagnostic-Code:"))
    assert bounces.read(silent).verdict is Verdict.HARD
    letter = silent.replace(b"Your mail could not be delivered.", b"ada... Deferred: local mailer: quota exceeded")
    assert bounces.read(letter).verdict is Verdict.SOFT


def test_a_report_that_asks_to_come_back_is_believed_over_its_code() -> None:
    raw = returned.bounce("b@letters.example", "ada@there.example", status="5.1.1", said="rejected, try again later")
    assert bounces.read(raw).verdict is Verdict.SOFT


QUOTED = "> This is the mail system.\n> <ada@there.example>: host mx said: 550 5.1.1 User unknown\n"


def test_somebody_who_answers_a_report_is_no_report() -> None:
    raw = returned.letter("b@letters.example", "Re: Undelivered Mail Returned to Sender", f"Why this?\n\n{QUOTED}")
    assert bounces.read(raw).kind is Kind.REPLY


def test_a_newsletter_about_returned_mail_is_no_report() -> None:
    words = "550 5.1.1 User unknown: the mailbox does not exist. 552: the mailbox is full."
    subject = "Why mail is returned"
    assert bounces.read(returned.letter("b@letters.example", subject, words)).kind is Kind.BOUNCE
    raw = returned.letter("b@letters.example", subject, words, List_Id="<news.letters.example>")
    assert bounces.read(raw).kind is Kind.REPLY


def letter_of_a_daemon(subject: str, body: str) -> bytes:
    head = f"Return-Path: <>\nFrom: MAILER-DAEMON@there.example\nTo: b@letters.example\nSubject: {subject}\n\n"
    return (head + body).encode()
