"""Hit logs of a send as they are known to look, with the truth beside: people, Apple, Gmail, link scanners.

Each log draws its own shape at random: how many links, how quickly the mail goes out, who reads it with what, how many
sit behind scanners and what these do. The distributions are the published ones: scanners begin at a median of 43 s
after delivery, two thirds at 20 to 60 s, after an open at a median of 9 s, and take less than a second for all links.
"""

from __future__ import annotations

import datetime as dt
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from newsletter.judging import CLICK, OPEN, Facts, Judged, judge_all
from newsletter.judging.agents import APPLE, GMAIL_PREFETCH

START = dt.datetime(2026, 9, 1, 8, tzinfo=dt.UTC)
GOOGLE = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
YAHOO = "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"
MAIL_PROGRAMS = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.5.0",
    "Mozilla/4.0 (compatible; ms-office; MSOffice 16)",
    "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.17328; Pro)",
    "Outlook-iOS/723.4027091.prod.iphone (4.28.0)",
)


def browser(random: random.Random) -> str:
    """A browser of some version."""
    return random.choice(
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0"
            " Safari/537.36",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{0}.0.0.0"
            " Safari/537.36 Edg/{0}.0.0.0",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:{0}.0) Gecko/20100101 Firefox/{0}.0",
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0"
            " Mobile Safari/537.36",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
            " Version/18.{} Mobile/15E148 Safari/604.1",
        )
    ).format(random.randint(118, 142))


def network(random: random.Random) -> str:
    """Some /24."""
    return f"{random.randint(11, 223)}.{random.randint(0, 255)}.{random.randint(0, 255)}.0/24"


def around(random: random.Random, median: float, spread: float) -> float:
    """A time in seconds, as waits are distributed: most near the median, some far longer."""
    return random.lognormvariate(math.log(median), spread)


@dataclass
class Log:
    """Hits in the order they came, and whether a person made each."""

    hits: list[Facts] = field(default_factory=list)
    people: list[bool] = field(default_factory=list)


@dataclass(frozen=True)
class Mail:
    """One delivery, and the shape of the log it belongs to."""

    random: random.Random
    delivery: int
    sent: dt.datetime
    links: int
    domain: str

    def hit(self, kind: str, after: float, **fields: object) -> Facts:
        """A hit so many seconds after the mail was handed over."""
        at = self.sent + dt.timedelta(seconds=after)
        hit = Facts(kind=kind, at=at, since_sent=after, delivery=self.delivery, domain=self.domain, links=self.links)
        return replace(hit, **fields)  # type: ignore[arg-type]

    def urls(self, count: int) -> list[str]:
        """Some of its links."""
        return [f"https://example.com/{number}" for number in self.random.sample(range(self.links), count)]


def reading(mail: Mail, *, at_home: str = "", opens: bool = True) -> Iterator[Facts]:
    """A person opens a mail and perhaps follows links, one after the other or some at once in tabs."""
    rnd = mail.random
    home, own = at_home or network(rnd), browser(rnd)
    after = around(rnd, rnd.choice((240, 3600, 20_000)), 1.2) + 5
    if opens:
        program = rnd.choice((own, *MAIL_PROGRAMS))
        yield mail.hit(OPEN, after, network=home, agent=program)
    yield from _clicking(mail, after, home, own)


def _clicking(mail: Mail, after: float, home: str, own: str) -> Iterator[Facts]:
    rnd = mail.random
    count = min(mail.links, rnd.choice((0, 0, 1, 1, 1, 2, 3, 5)))
    after += 3 + around(rnd, 20, 1)
    if rnd.random() < 0.1:
        home = network(rnd)  # on the way to work
    for url in mail.urls(count):
        yield mail.hit(CLICK, after, network=home, agent=own, url=url)
        after += 0.8 + around(rnd, rnd.choice((2, 30)), 0.7)


def gmail(mail: Mail) -> Iterator[tuple[Facts, bool]]:
    """A reader with Gmail: sometimes fetched in advance, opened by the proxy, followed by the reader's own browser."""
    rnd = mail.random
    proxy = f"66.249.{rnd.choice((80, 81, 82, 83, 84, 85))}.0/24"
    if rnd.random() < 0.06:
        yield mail.hit(OPEN, around(rnd, 8, 0.8), network=proxy, agent=GMAIL_PREFETCH), False
    if rnd.random() < 0.6:
        after = around(rnd, 7200, 1.5) + 5
        yield mail.hit(OPEN, after, network=proxy, agent=GOOGLE), True
        for hit in _clicking(mail, after, network(rnd), browser(rnd)):
            yield hit, True


def yahoo(mail: Mail) -> Iterator[tuple[Facts, bool]]:
    """A reader with Yahoo."""
    after = around(mail.random, 7200, 1.5) + 5
    yield mail.hit(OPEN, after, network="188.125.72.0/24", agent=YAHOO), True
    for hit in _clicking(mail, after, network(mail.random), browser(mail.random)):
        yield hit, True


def apple(mail: Mail) -> Iterator[tuple[Facts, bool]]:
    """A reader with Apple Mail: fetched whether or not it is read, perhaps twice."""
    rnd = mail.random
    for _ in range(rnd.choice((1, 1, 1, 2))):
        yield mail.hit(OPEN, around(rnd, rnd.choice((20, 3000)), 1.2), network=network(rnd), agent=APPLE), False
    if rnd.random() < 0.4:
        for hit in _clicking(mail, around(rnd, 7200, 1.5), network(rnd), browser(rnd)):
            yield hit, True


@dataclass(frozen=True)
class Fleet:
    """Link scanners of one maker: their networks, and how they behave."""

    networks: tuple[str, ...]
    agents: tuple[str, ...]
    opens: float
    changes: bool  # of agent with each request
    heads: float
    share: float
    seconds: float

    @classmethod
    def of(cls, rnd: random.Random) -> Fleet:
        return cls(
            networks=tuple(network(rnd) for _ in range(rnd.choice((1, 1, 3, 8)))),
            agents=tuple(browser(rnd) for _ in range(rnd.choice((1, 2, 6)))),
            opens=rnd.choice((0, 0.5, 0.96)),
            changes=rnd.random() < 0.3,
            heads=rnd.choice((0, 0, 0, 0.5)),
            share=rnd.choice((0.6, 0.9, 1.0)),
            seconds=rnd.uniform(0.05, 1.9),
        )

    def scan(self, mail: Mail) -> Iterator[Facts]:
        """All of a mail's links in one go, after an open."""
        rnd = mail.random
        begin = rnd.choices(
            (rnd.uniform(1, 20), rnd.uniform(20, 60), rnd.uniform(60, 300), rnd.uniform(300, 1800)), (3, 66, 29, 2)
        )[0]
        here, program = rnd.choice(self.networks), rnd.choice(self.agents)
        if rnd.random() < self.opens:
            opened = min(around(rnd, 9, 0.7), begin - 0.1)
            yield mail.hit(OPEN, opened, network=here, agent=self._agent(rnd, program))
        count = max(1, math.ceil(self.share * mail.links))
        # The longer ones are swept within the two seconds that the slowest takes.
        gaps = sorted(rnd.uniform(0, min(self.seconds, 0.9 if mail.links <= 3 else 1.9)) for _ in range(count))
        for gap, url in zip(gaps, mail.urls(count), strict=True):
            if rnd.random() < self.heads:
                yield mail.hit(
                    CLICK, begin + gap, network=here, agent=self._agent(rnd, program), url=url, method="HEAD"
                )
            yield mail.hit(CLICK, begin + gap + 0.01, network=here, agent=self._agent(rnd, program), url=url)

    def _agent(self, rnd: random.Random, program: str) -> str:
        return rnd.choice(self.agents) if self.changes else program


def make_log(seed: int, deliveries: int = 400) -> Log:
    """The hits of a send of so many mails."""
    rnd = random.Random(seed)
    links = rnd.choice((1, 2, 3, 4, 6, 10, 10, 20, 40))
    pace = rnd.choice((0.01, 0.2, 3.0))  # seconds from one mail to the next
    fleets = [Fleet.of(rnd) for _ in range(rnd.randint(1, 4))]
    domains = [(f"firm{number}.example", rnd.choice(fleets), network(rnd)) for number in range(rnd.randint(1, 30))]
    weights = [rnd.random() for _ in range(5)]
    made: list[tuple[Facts, bool]] = []
    for delivery in range(deliveries):
        sent = START + dt.timedelta(seconds=delivery * pace)
        kind = rnd.choices(("gmail", "yahoo", "apple", "firm", "plain"), weights)[0]
        domain, fleet, office = rnd.choice(domains)
        mail = Mail(rnd, delivery, sent, links, domain if kind == "firm" else f"{kind}.example")
        match kind:
            case "gmail":
                made += gmail(mail)
            case "yahoo":
                made += yahoo(mail)
            case "apple":
                made += apple(mail)
            case "firm":
                made += ((hit, False) for hit in fleet.scan(mail))
                if rnd.random() < 0.5:
                    # Some scanners stand in the firm's own network.
                    at_home = rnd.choice((office, office, fleet.networks[0], ""))
                    made += ((hit, True) for hit in reading(mail, at_home=at_home, opens=rnd.random() < 0.7))
            case _:
                if rnd.random() < 0.7:
                    made += ((hit, True) for hit in reading(mail, opens=rnd.random() < 0.7))
    made.sort(key=lambda pair: pair[0].at)
    return Log([hit for hit, _ in made], [person for _, person in made])


@dataclass(frozen=True)
class Shares:
    """How well a log was told apart: hits of people kept as people, and of machines counted as people."""

    kept: float
    mistaken: float


def shares(logs: list[Log]) -> Shares:
    """Over all `logs`. Of a mail with a single link nobody can tell what comes soon after delivery: those of people
    that were left open for that reason are taken out of the sum."""
    people = kept = machines = mistaken = 0
    for log in logs:
        for hit, person, judgement in zip(log.hits, log.people, judge_all(log.hits), strict=True):
            counted = judgement.judged == Judged.PERSON
            if person and not (hit.links == 1 and judgement.judged == Judged.UNKNOWN):
                people, kept = people + 1, kept + counted
            elif not person:
                machines, mistaken = machines + 1, mistaken + counted
    return Shares(kept / max(1, people), mistaken / max(1, machines))
