"""Mail as it comes back: reports and answers as mail servers, providers and people write them."""

from __future__ import annotations

from email.message import EmailMessage

from tests.smtp_sink import Received


def bounce_of(
    mail: Received, *, to: str = "", status: str = "5.1.1", said: str = "user unknown", address: str = ""
) -> bytes:
    """The report (RFC 3464) of the system that could not deliver `mail`, sent to its envelope sender."""
    return bounce(
        to or mail.sender, address or mail.rcpt, status=status, said=said, returned=mail.raw, message_id=mail.message_id
    )


def bounce(
    to: str,
    *addresses: str,
    status: str = "5.1.1",
    said: str = "user unknown",
    returned: bytes = b"Subject: An issue\r\n\r\n",
    message_id: str = "1",
) -> bytes:
    """A report on mail to `addresses`."""
    blocks = [
        f"\r\nFinal-Recipient: rfc822; {address}\r\nAction: failed\r\nStatus: {status}\r\n"
        f"Diagnostic-Code: smtp; {'550' if status[0] == '5' else '451'} {status} <{address}>: {said}\r\n"
        for address in addresses
    ]
    head = returned.partition(b"\r\n\r\n")[0]
    return b"\r\n".join(
        [
            b"From: MAILER-DAEMON@mx.readers.example (Mail Delivery System)",
            f"To: {to}".encode(),
            b"Subject: Undelivered Mail Returned to Sender",
            b"Date: Thu, 26 Nov 2026 10:00:00 +0000",
            f"Message-ID: <report-{message_id.strip('<>')}>".encode(),
            b"Auto-Submitted: auto-replied",
            b'MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary="b"',
            b"",
            b"--b\r\nContent-Type: text/plain\r\n\r\nYour mail could not be delivered.\r\n",
            b"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.readers.example\r\n"
            + "".join(blocks).encode(),
            b"--b\r\nContent-Type: text/rfc822-headers\r\n\r\n" + head,
            b"--b--\r\n",
        ]
    )


def complaint(to: str, returned: bytes) -> bytes:
    """The report of a provider whose customer pressed the spam button (RFC 5965), the address left out."""
    return b"\r\n".join(
        [
            b"From: fbl@mailbox.example",
            f"To: {to}".encode(),
            b"Subject: FW: Your mail",
            b"Date: Thu, 26 Nov 2026 10:00:00 +0000",
            b"Message-ID: <complaint@mailbox.example>",
            b'MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=feedback-report; boundary="b"',
            b"",
            b"--b\r\nContent-Type: text/plain\r\n\r\nA report of an abusive mail.\r\n",
            b"--b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n"
            b"User-Agent: Example/1\r\nVersion: 1\r\n",
            b"--b\r\nContent-Type: message/rfc822\r\n\r\n" + returned,
            b"--b--\r\n",
        ]
    )


def letter(to: str, subject: str = "unsubscribe", body: str = "", **headers: str) -> bytes:
    """What a person writes, or their mail program in their place."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "Ada <ada@readers.example>", to, subject
    mail["Date"], mail["Message-ID"] = "Thu, 26 Nov 2026 10:00:00 +0000", "<letter@readers.example>"
    for name, value in headers.items():
        mail[name.replace("_", "-")] = value
    mail.set_content(body or "\n")
    return mail.as_bytes()
