"""How many open pixels a second the web server answers, with Redis, PostgreSQL and a worker beside it, and how soon at
a steady pace; then, whether each answered hit was written down once.

    python -m bench.pixel [--seconds N]

Web server, worker and beat are started as docker-compose.yml does.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import time
from collections.abc import Iterator

from bench import clients, programs, site

READERS = 20_000
CONNECTIONS, PACE = 32, 500
WRITTEN_SECONDS = 120.0  # for the worker to write down what waits
AGENTS = [
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)",
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
    "Mozilla/5.0",
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="of each of the two measurements (default: 10)")
    seconds = parser.parse_args().seconds
    with site.running(with_redis=True) as environment:
        tokens = _make_mail()
        with programs.running(environment) as port:
            requests = _requests(tokens)
            _ask(port, requests, seconds=2, connections=CONNECTIONS)
            full = _ask(port, requests, seconds=seconds, connections=CONNECTIONS)
            print(
                f"at full speed   {full.per_second:8,.0f}/s over {CONNECTIONS} connections, half within"
                f" {full.percentile(0.5) * 1000:.1f} ms, 99 % within {full.percentile(0.99) * 1000:.1f} ms",
                flush=True,
            )
            waited = _written()
            print(f"                all written down {waited:.1f} s later", flush=True)
            paced = _ask(port, requests, seconds=seconds, connections=CONNECTIONS, per_second=PACE)
            print(
                f"at a pace       {paced.per_second:8,.0f}/s, half within {paced.percentile(0.5) * 1000:.1f} ms,"
                f" 99 % within {paced.percentile(0.99) * 1000:.1f} ms, all within {paced.percentile(1) * 1000:.1f} ms",
                flush=True,
            )
            _written()
    site.write({"pixel_per_s": full.per_second, "pixel_p99_ms": paced.percentile(0.99) * 1000})


_answered = 0


def _ask(port: int, requests: Iterator[bytes], **how: float) -> clients.Answers:
    global _answered
    from newsletter.views.hits import GIF

    found = clients.ask(port, requests, begins=b"HTTP/1.1 200", ends=GIF, **how)  # type: ignore[arg-type]
    _answered += len(found.seconds)
    return found


def _make_mail() -> list[str]:
    """An issue that was sent to READERS; the tokens of its deliveries."""
    from newsletter import scheduling, tracking
    from newsletter.models import Delivery

    newsletter = site.make_newsletter()
    site.make_readers(newsletter, READERS)
    dispatch = scheduling.schedule(site.make_issue(newsletter))
    scheduling.start_due()
    scheduling.prepare(dispatch)
    site.run("UPDATE newsletter_delivery SET status = 'sent', tries = 1, settled_at = now()")
    site.run("UPDATE newsletter_dispatch SET status = 'sent', finished_at = now()")
    site.run("VACUUM ANALYZE")
    return [tracking.delivery_token(pk) for pk in Delivery.objects.values_list("pk", flat=True)]


def _requests(tokens: list[str]) -> Iterator[bytes]:
    chance = random.Random(1)
    chance.shuffle(tokens)
    for token, agent in zip(itertools.cycle(tokens), itertools.cycle(AGENTS)):
        lines = f"GET /o/{token} HTTP/1.1", "Host: 127.0.0.1:8000", f"User-Agent: {agent}", "Accept: image/*", "", ""
        yield "\r\n".join(lines).encode()


def _written() -> float:
    """Wait until each answered hit is written down, each once; the seconds it took."""
    from newsletter.models import Event

    began = time.monotonic()
    programs.wait(
        lambda: Event.objects.count() >= _answered, WRITTEN_SECONDS, "Not all that was answered was written down."
    )
    if (rows := Event.objects.count()) != _answered:
        raise SystemExit(f"{_answered} hits were answered, and {rows} were written down.")
    return time.monotonic() - began


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "newsletter.settings")
    main()
