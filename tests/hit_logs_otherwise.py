"""Hit logs made in another way than `hit_logs`, from other assumptions.

Here readers have habits (a device, a time of day, links in tabs or one by one) and each firm has a filter of its own,
with quirks that `hit_logs` has none of: filters that come twice, that skip links, that ask first, that come from a
cloud with a new network for every request, or out of the firm's own network; readers who come back on another device.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from random import Random

from newsletter.judging import CLICK, OPEN, Facts
from newsletter.judging.agents import APPLE, GMAIL_PREFETCH
from tests.hit_logs import GOOGLE, YAHOO, Log

DAY = dt.datetime(2026, 11, 3, 6, 30, tzinfo=dt.UTC)
DESKTOP = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
)
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/53",
)
FILTERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/79.0.3945.88 Safari/537",
    "Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/92.0.4515.159 Safari/537.36",
    DESKTOP[0],
)


@dataclass
class Desk:
    """Where hits are put down."""

    random: Random
    links: int
    rows: list[tuple[Facts, bool]]

    def put(
        self, person: bool, kind: str, who: tuple[int, str, float], second: float, network: str, agent: str, **more: str
    ) -> None:
        """One hit on the mail of `who` (delivery, domain, second of the day at which it was handed over)."""
        delivery, domain, sent = who
        at = DAY + dt.timedelta(seconds=second)
        self.rows.append(
            (
                Facts(
                    kind,
                    at,
                    network=network,
                    agent=agent,
                    since_sent=second - sent,
                    url=more.get("url", ""),
                    method=more.get("method", "GET"),
                    delivery=delivery,
                    domain=domain,
                    links=self.links,
                ),
                person,
            )
        )


def _net(random: Random) -> str:
    return f"{random.randrange(20, 200)}.{random.randrange(256)}.{random.randrange(256)}.0/24"


def _person(desk: Desk, who: tuple[int, str, float], home: str, *, images: str) -> None:
    random, sent = desk.random, who[2]
    mine = random.choice(DESKTOP + PHONE)
    # The next time this person looks at mail: half look every few minutes, the others in the evening.
    at = sent + (random.expovariate(1 / 900) + 8 if random.random() < 0.5 else random.uniform(3600, 50_000))
    for visit in range(random.choice((1, 1, 1, 2, 3))):
        if images == "direct":
            desk.put(True, OPEN, who, at, home, mine)
        elif images == "proxy":
            desk.put(True, OPEN, who, at, f"74.125.{random.randrange(208, 216)}.0/24", GOOGLE)
        elif images == "yahoo":
            desk.put(True, OPEN, who, at, "98.136.10.0/24", YAHOO)
        wanted = min(desk.links, random.choice((0, 1, 1, 2, 4, 7)))
        tabs = random.random() < 0.25
        read = at + random.uniform(2, 90)
        for number in random.sample(range(desk.links), wanted):
            desk.put(True, CLICK, who, read, home, mine, url=f"l{number}")
            read += random.uniform(0.9, 2.2) if tabs else random.uniform(8, 240)
        at += random.uniform(600, 30_000)
        if visit == 0 and random.random() < 0.3:
            home, mine = _net(random), random.choice(PHONE)


def _filter(desk: Desk, who: tuple[int, str, float], quirks: dict[str, bool], nets: list[str]) -> None:
    random, sent = desk.random, who[2]
    start = sent + random.gammavariate(2.2, 22) + 4
    for _ in range(2 if quirks["twice"] else 1):
        net, agent = random.choice(nets), random.choice(FILTERS)
        if quirks["opens"]:
            desk.put(False, OPEN, who, max(sent + 1, start - random.gammavariate(2, 16)), net, agent)
        numbers = list(range(desk.links))
        if quirks["skips"] and desk.links > 6:
            numbers = [number for number in numbers if random.random() < 0.8]
        at = start
        for number in numbers:
            where = _net(random) if quirks["cloud"] else net
            at += random.uniform(0, 1.0 / max(1, desk.links))
            if quirks["head"]:
                desk.put(False, CLICK, who, at, where, agent, url=f"l{number}", method="HEAD")
            desk.put(False, CLICK, who, at, where, agent, url=f"l{number}")
        start += random.uniform(60, 600)


def make_log(seed: int, firms: int = 5, others: int = 100) -> Log:
    """A morning's send to some firms and many readers at mail services."""
    random = Random(f"otherwise {seed}")
    desk = Desk(random, random.choice((2, 3, 5, 8, 12, 25)), [])
    delivery = 0
    second = 0.0
    for number in range(firms):
        way_out = _net(random)
        quirks = {
            name: random.random() < share
            for name, share in (("twice", 0.2), ("opens", 0.8), ("skips", 0.3), ("cloud", 0.15), ("head", 0.15))
        }
        nets = [way_out] if random.random() < 0.2 else [_net(random) for _ in range(random.randint(1, 5))]
        for _ in range(random.choice((1, 5, 40, 120))):
            delivery += 1
            second += random.uniform(0, 0.4)
            who = (delivery, f"firm{number}.example", second)
            _filter(desk, who, quirks, nets)
            if random.random() < 0.6:
                _person(desk, who, way_out, images="direct")
    for _ in range(others):
        delivery += 1
        second += random.uniform(0, 0.4)
        service = random.choice(("gmail", "icloud", "yahoo", "own"))
        who = (delivery, f"{service}.example", second)
        if service == "icloud":
            desk.put(False, OPEN, who, second + random.uniform(2, 9000), _net(random), APPLE)
        if service == "gmail" and random.random() < 0.05:
            desk.put(False, OPEN, who, second + random.uniform(1, 30), "66.102.8.0/24", GMAIL_PREFETCH)
        if random.random() < 0.5:
            images = {"gmail": "proxy", "icloud": "", "yahoo": "yahoo", "own": random.choice(("direct", ""))}[service]
            _person(desk, who, _net(random), images=images)
    desk.rows.sort(key=lambda row: row[0].at)
    return Log([hit for hit, _ in desk.rows], [person for _, person in desk.rows])
