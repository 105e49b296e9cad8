"""How many events of a provider a second are answered and written down with all that follows, by web server, worker,
Redis and PostgreSQL together.

    python -m bench.webhooks [--readers N]

SparkPost's events, a thousand to a call: accepted and delivered for every reader, and of a hundred readers three put
off, three bounces (hard, soft, block), one in a thousand who complains or leaves. One call in twenty comes again.
"""

from __future__ import annotations

import argparse
import base64
import datetime as dt
import http.client
import json
import os
import random
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench import programs, site

TOGETHER, CONNECTIONS = 1000, 4
PASSWORD = "bench:a password that only benches use"
SAID = {
    "delay": ("20", "451 4.7.1 Greylisted, please try again later"),
    "hard": ("10", "550 5.1.1 The email account that you tried to reach does not exist."),
    "soft": ("22", "552 5.2.2 The email account that you tried to reach is over quota."),
    "block": ("51", "550 5.7.1 Our system has detected that this message is likely unsolicited mail."),
}
WRITTEN_SECONDS = 120.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, default=30_000, help="who got the issue (default: 30,000)")
    readers = parser.parse_args().readers
    anymail = json.dumps({"WEBHOOK_SECRET": PASSWORD})
    with site.running(with_redis=True, EVENTS_FROM="sparkpost", ANYMAIL=anymail) as environment:
        mails = _make_mail(readers)
        events = list(_events(mails))
        bodies = [json.dumps(events[start : start + TOGETHER]).encode() for start in range(0, len(events), TOGETHER)]
        # Those that come again come late, as after an answer that was lost.
        calls = bodies + bodies[::20]
        with programs.running(environment) as port:
            _post(port, [b"[]"] * 8)
            began = time.monotonic()
            _post(port, calls)
            answered = time.monotonic() - began
            programs.wait(_is_written, WRITTEN_SECONDS, "Not all that was answered was written down.")
            took = time.monotonic() - began
        _check(events)
    sent = len(events) + len(bodies[::20]) * TOGETHER
    print(f"{sent:,} events in {len(calls)} calls: answered in {answered:.1f} s, written down in {took:.1f} s")
    print(f"{len(events) / took:,.0f} events/s that were new")
    site.write({"webhook_events_per_s": len(events) / took})


def _make_mail(readers: int) -> list[tuple[str, str]]:
    """An issue that was handed over, one in a hundred mails in doubt; address and delivery token of each."""
    from newsletter import scheduling, tracking
    from newsletter.models import Delivery
    from subscribers import addresses
    from subscribers.models import Subscriber

    newsletter = site.make_newsletter()
    site.make_readers(newsletter, readers)
    for person in (people := list(Subscriber.objects.only("address_key"))):
        person.fingerprint = addresses.fingerprint(person.address_key)
    Subscriber.objects.bulk_update(people, ["fingerprint"], batch_size=1000)
    dispatch = scheduling.schedule(site.make_issue(newsletter))
    scheduling.start_due()
    scheduling.prepare(dispatch)
    site.run(
        "UPDATE newsletter_delivery SET tries = 1, settled_at = now() - interval '1 hour',"
        " status = CASE WHEN mod(id, 100) = 0 THEN 'unconfirmed' ELSE 'sent' END"
    )
    site.run("UPDATE newsletter_dispatch SET status = 'sent', finished_at = now()")
    site.run("VACUUM ANALYZE")
    rows = Delivery.objects.values_list("subscriber__address", "pk")
    return [(str(address), tracking.delivery_token(pk)) for address, pk in rows]


def _events(mails: Sequence[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    chance = random.Random(1)
    now = int(dt.datetime.now(dt.UTC).timestamp()) - 600
    for address, token in mails:
        yield _event("message_event", "injection", address, token, now)
        lot = chance.random()
        for kind, limit in (("hard", 0.01), ("soft", 0.02), ("block", 0.03)):
            if lot < limit:
                yield _event("message_event", "bounce", address, token, now + 30, kind)
                break
        else:
            if lot < 0.06:
                yield _event("message_event", "delay", address, token, now + 15, "delay")
            yield _event("message_event", "delivery", address, token, now + 60)
            if lot > 0.9995:
                yield _event("message_event", "spam_complaint", address, token, now + 300)
            elif lot > 0.999:
                yield _event("unsubscribe_event", "list_unsubscribe", address, token, now + 300)


def _event(place: str, kind: str, address: str, token: str, at: int, said: str = "") -> dict[str, Any]:
    """One event with about the fields that SparkPost gives it."""
    event = {
        "type": kind,
        "event_id": str(uuid.uuid4()),
        "timestamp": str(at),
        "transmission_id": "65832150921904138",
        "message_id": uuid.uuid4().hex,
        "customer_id": "1",
        "subaccount_id": "101",
        "friendly_from": "desk@weekly.example",
        "msg_from": "msprvs1=17827RA@bounces.weekly.example",
        "msg_size": "31337",
        "subject": "Issue 1",
        "rcpt_to": address,
        "raw_rcpt_to": address,
        "rcpt_meta": {"delivery": token},
        "rcpt_tags": [],
        "recipient_domain": address.rpartition("@")[2],
        "routing_domain": address.rpartition("@")[2],
        "sending_ip": "192.0.2.7",
        "ip_pool": "shared",
        "queue_time": "1200",
        "open_tracking": False,
        "click_tracking": False,
        "template_id": "template_65832150921904138",
        "template_version": "0",
    }
    if said:
        number, words = SAID[said]
        event |= {"bounce_class": number, "error_code": words[:3], "raw_reason": words, "reason": words}
    return {"msys": {place: event}}


def _post(port: int, bodies: Sequence[bytes]) -> None:
    """All `bodies`, over CONNECTIONS kept connections. Raises RuntimeError where one is not answered 200."""
    headers = {
        "Authorization": "Basic " + base64.b64encode(PASSWORD.encode()).decode(),
        "Content-Type": "application/json",
    }

    def post(some: Sequence[bytes]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for body in some:
            connection.request("POST", "/webhooks/sparkpost/", body, headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise RuntimeError(f"The server answered {answer.status}: {answer.read()[:200]!r}.")
            answer.read()
        connection.close()

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(post, [bodies[first::CONNECTIONS] for first in range(CONNECTIONS)]))


def _is_written() -> bool:
    from newsletter import intake

    return not intake.waiting()


def _check(events: Sequence[dict[str, Any]]) -> None:
    """That each event is there once, no mail is in doubt that was told of, and those are gone who should be."""
    from newsletter.models import Delivery, Event
    from subscribers.models import Suppression

    if (rows := Event.objects.count()) != len(events):
        raise SystemExit(f"{len(events)} events were sent, and {rows} are written down.")
    if doubts := Delivery.objects.filter(status="unconfirmed").count():
        raise SystemExit(f"{doubts} mails are still in doubt.")
    flat = [next(iter(event["msys"].values())) for event in events]
    for reason, wanted in (
        ("hard bounce", sum(event.get("bounce_class") == "10" for event in flat)),
        ("complaint", sum(event["type"] == "spam_complaint" for event in flat)),
    ):
        if (there := Suppression.objects.filter(reason=reason).count()) != wanted:
            raise SystemExit(f"{wanted} readers should be suppressed by {reason}, and {there} are.")


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "newsletter.settings")
    main()
