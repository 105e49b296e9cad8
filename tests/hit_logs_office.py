"""Hit logs of a send to offices at nine: colleagues with one standard computer and one way out.

They open their mail within minutes of each other; some sit behind a scanner, some behind a gateway that follows one
link of each mail. Besides, there are readers of a mail service on telephones of one network.
"""

from __future__ import annotations

from random import Random

from newsletter.judging import CLICK, OPEN, Facts
from tests.hit_logs import MAIL_PROGRAMS, START, Log, Mail, browser, network

PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"


def make_log(seed: int) -> Log:
    """A morning's send to some offices and to readers on the way there."""
    rnd = Random(f"offices {seed}")
    links = rnd.choice((3, 5, 9, 15))
    made: list[tuple[Facts, bool]] = []
    delivery = 0
    for office in range(4):
        way_out, program, own = network(rnd), rnd.choice(MAIL_PROGRAMS), browser(rnd)
        guard = rnd.choice(("", "", "scanner", "gateway"))
        cloud, scanning = network(rnd), browser(rnd)
        for _ in range(rnd.choice((25, 60, 150))):
            delivery += 1
            mail = Mail(rnd, delivery, START, links, f"office{office}.example")
            made += ((hit, True) for hit in _colleague(mail, way_out, program, own))
            if guard:
                count = links if guard == "scanner" else 1
                made += ((hit, False) for hit in _guard(mail, cloud, scanning, count))
    carrier = network(rnd)
    for _ in range(rnd.choice((0, 40, 200))):
        delivery += 1
        mail = Mail(rnd, delivery, START, links, rnd.choice(("gmail.com", "hotmail.fr")))
        made += ((hit, True) for hit in _colleague(mail, carrier, PHONE, PHONE))
    made.sort(key=lambda pair: pair[0].at)
    return Log([hit for hit, _ in made], [person for _, person in made])


def _colleague(mail: Mail, way_out: str, program: str, own: str) -> list[Facts]:
    rnd = mail.random
    after = 75 + rnd.expovariate(1 / rnd.choice((60, 900)))
    hits = [mail.hit(OPEN, after, network=way_out, agent=program)]
    after += rnd.uniform(5, 60)
    for url in mail.urls(rnd.choice((0, 0, 0, 1, 1, 2))):
        hits.append(mail.hit(CLICK, after, network=way_out, agent=own, url=url))
        after += rnd.uniform(3, 60)
    return hits


def _guard(mail: Mail, cloud: str, agent: str, count: int) -> list[Facts]:
    begin = mail.random.uniform(20, 60)
    hits = [mail.hit(OPEN, begin - mail.random.uniform(2, 15), network=cloud, agent=agent)]
    for number, url in enumerate(mail.urls(count)):
        hits.append(mail.hit(CLICK, begin + number * 0.1, network=cloud, agent=agent, url=url))
    return hits
