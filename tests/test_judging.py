"""Who made a hit: what its request says, what sweeps give away, and what nobody can tell."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from newsletter.judging import CLICK, OPEN, SENTENCES, Facts, Judged, Reason, judge, judge_all, sentences
from newsletter.judging.agents import APPLE, GMAIL_PREFETCH
from tests import hit_logs, hit_logs_office, hit_logs_otherwise
from tests.hit_logs import GOOGLE, MAIL_PROGRAMS, START, YAHOO, Log

PERSON, MACHINE, UNKNOWN = Judged
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
HOME, GATEWAY, OTHER = "203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/24"


def hit(kind: str, after: float, url: str = "", agent: str = CHROME, network: str = HOME, **fields: Any) -> Facts:
    """A hit on mail 1, which has ten links, so many seconds after it was handed over."""
    at = START + dt.timedelta(seconds=after)
    plain = Facts(kind=kind, at=at, url=url, agent=agent, network=network, since_sent=after, delivery=1, links=10)
    return replace(plain, **fields)


def sweep(after: float, followed: int = 10, network: str = GATEWAY, seconds: float = 0.8, **fields: Any) -> list[Facts]:
    """A scanner that follows so many links."""
    step = seconds / max(1, followed - 1)
    return [hit(CLICK, after + step * number, f"/{number}", network=network, **fields) for number in range(followed)]


def judged(hits: list[Facts]) -> list[Judged]:
    return [judgement.judged for judgement in judge_all(hits)]


def reasons_of(one: Facts) -> tuple[Judged, tuple[Reason, ...]]:
    judgement = judge(one)
    return judgement.judged, judgement.reasons


# One hit by its request.


@pytest.mark.parametrize("agent", [CHROME, FIREFOX, *MAIL_PROGRAMS])
def test_an_open_by_a_mail_program_or_browser_is_a_persons(agent: str) -> None:
    assert reasons_of(hit(OPEN, 900, agent=agent)) == (PERSON, (Reason.PLAIN,))


@pytest.mark.parametrize("agent", [GOOGLE, YAHOO])
def test_a_picture_proxy_stands_for_a_person_who_opens(agent: str) -> None:
    assert reasons_of(hit(OPEN, 900, agent=agent)) == (PERSON, (Reason.PROXY,))


def test_apples_and_gmails_fetching_in_advance_are_machines() -> None:
    assert reasons_of(hit(OPEN, 900, agent=APPLE)) == (MACHINE, (Reason.APPLE,))
    assert reasons_of(hit(OPEN, 900, agent=GMAIL_PREFETCH)) == (MACHINE, (Reason.GMAIL,))


def test_the_browser_that_gmail_borrows_the_name_of_is_a_persons() -> None:
    assert judge(hit(OPEN, 900, agent=GMAIL_PREFETCH.removesuffix(" Mozilla/5.0"))).judged == PERSON


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"method": "HEAD"}, Reason.METHOD),
        ({"method": "OPTIONS"}, Reason.METHOD),
        ({"prefetch": True}, Reason.PREFETCH),
        ({"agent": ""}, Reason.NO_AGENT),
        ({"since_sent": -0.5}, Reason.EARLY),
        ({"agent": "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"}, Reason.CRAWLER),
        ({"agent": "facebookexternalhit/1.1 Facebot Twitterbot/1.0"}, Reason.CRAWLER),
        ({"agent": "WhatsApp/2.23.20.0 A"}, Reason.CRAWLER),
        ({"agent": "python-requests/2.32.3"}, Reason.CRAWLER),
        ({"agent": "curl/8.9.1"}, Reason.CRAWLER),
        ({"agent": "Mozilla/5.0 (compatible; Barracuda Sentinel (EE))"}, Reason.CRAWLER),
        ({"agent": "Mozilla/5.0 (compatible; SomeNewBot/1.0)"}, Reason.CRAWLER),
        ({"agent": "Mozilla/5.0 (X11; Linux x86_64) HeadlessChrome/140.0.0.0 Safari/537.36"}, Reason.CRAWLER),
    ],
)
@pytest.mark.parametrize("kind", [OPEN, CLICK])
def test_what_says_that_it_is_a_machine_is_one(kind: str, fields: dict[str, Any], reason: Reason) -> None:
    assert reasons_of(hit(kind, 900, "/1", **fields)) == (MACHINE, (reason,))


def test_all_reasons_for_a_machine_are_named() -> None:
    assert judge(hit(OPEN, -1, agent="", method="HEAD")).codes == "method,early,no-agent"


@pytest.mark.parametrize(("agent", "reason"), [(GOOGLE, Reason.CRAWLER), (APPLE, Reason.BARE_AGENT)])
def test_what_fetches_pictures_does_not_follow_links(agent: str, reason: Reason) -> None:
    assert reasons_of(hit(CLICK, 900, "/1", agent=agent)) == (MACHINE, (reason,))


@pytest.mark.parametrize(
    "agent",
    [
        "Mozilla/5.0 (Linux; Android 9; CUBOT_X19) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/99.0 Mobile Safari/1",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; Cubot) AppleWebKit/537.36 Chrome/140.0 Safari/537.36",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 [FBAN/FBIOS]",
        "w3m/0.5.3+git20230121",
        "Opera/9.80 (Windows NT 6.1) Presto/2.12.388 Version/12.18",
    ],
)
def test_a_browser_that_is_seldom_seen_is_a_persons(agent: str) -> None:
    assert judge(hit(CLICK, 900, "/1", agent=agent)).judged == PERSON


def test_a_click_with_a_token_that_is_none_of_ours_is_never_a_persons() -> None:
    made_up = hit(CLICK, 900, delivery=None, forged=True)
    assert reasons_of(made_up) == (UNKNOWN, (Reason.FORGED,))
    assert reasons_of(replace(made_up, method="HEAD")) == (MACHINE, (Reason.METHOD, Reason.FORGED))
    assert judged([made_up, replace(made_up, forged=False)]) == [UNKNOWN, PERSON]


def test_a_click_by_what_is_no_known_browser_is_left_open() -> None:
    assert reasons_of(hit(CLICK, 900, "/1", agent="Lamp 3.1")) == (UNKNOWN, (Reason.NO_BROWSER,))


# Sweeps.


@pytest.mark.parametrize("after", [3, 43, 290, 1700, 50_000])
def test_many_links_at_once_are_a_scanners_whenever_it_comes(after: float) -> None:
    assert judged(sweep(after)) == [MACHINE] * 10


@pytest.mark.parametrize(("links", "followed"), [(2, 2), (3, 2), (3, 3), (4, 3), (5, 3), (10, 4), (40, 24), (0, 4)])
def test_most_links_of_a_short_mail_or_four_of_any_are_a_sweep(links: int, followed: int) -> None:
    assert judged(sweep(43, followed, links=links)) == [MACHINE] * followed


def test_a_sweep_is_one_from_several_networks_and_programs_too() -> None:
    hits = [
        replace(one, network=f"198.51.{number}.0/24", agent=f"{CHROME} {number}")
        for number, one in enumerate(sweep(43))
    ]
    assert judged(hits) == [MACHINE] * 10


def test_a_scanner_that_takes_its_time_for_all_links_of_a_long_mail_is_one() -> None:
    assert judged(sweep(43, 10, seconds=25)) == [MACHINE] * 10


@pytest.mark.parametrize(("links", "followed", "seconds"), [(5, 5, 8), (10, 8, 20), (6, 5, 28)])
def test_a_scanner_that_takes_its_time_right_after_delivery_is_one(links: int, followed: int, seconds: float) -> None:
    assert judged(sweep(43, followed, seconds=seconds, links=links)) == [MACHINE] * followed
    assert judged(sweep(900, followed, seconds=seconds, links=links)) == [PERSON] * followed


def test_the_open_of_a_scanner_goes_with_its_sweep() -> None:
    hits = [hit(OPEN, 9, agent=FIREFOX, network=GATEWAY), *sweep(43)]
    assert judge_all(hits)[0].reasons == (Reason.BESIDE,)
    assert judged(hits) == [MACHINE] * 11


def test_an_open_right_after_delivery_from_elsewhere_before_a_sweep_is_left_open() -> None:
    hits = [hit(OPEN, 9, agent=FIREFOX, network=OTHER), *sweep(43)]
    assert judged(hits)[0] == UNKNOWN


def test_an_open_right_after_delivery_by_whoever_comes_back_later_stays_a_persons() -> None:
    hits = [hit(OPEN, 9), *sweep(43), hit(CLICK, 400, "/3")]
    assert judged(hits)[0] == PERSON
    assert judged(hits)[-1] == PERSON


def test_links_that_a_scanner_follows_apart_from_the_rest_go_with_its_sweep() -> None:
    assert judged([*sweep(43), hit(CLICK, 70, "/11", network=GATEWAY)])[-1] == MACHINE


def test_a_link_that_the_same_program_asked_about_just_before_is_a_programs() -> None:
    asked = hit(CLICK, 43, "/1", method="HEAD")
    assert judged([asked, hit(CLICK, 44, "/1")]) == [MACHINE, MACHINE]
    assert judged([asked, hit(CLICK, 60, "/1")]) == [MACHINE, PERSON]
    assert judged([asked, hit(CLICK, 44, "/1", agent=FIREFOX)]) == [MACHINE, PERSON]
    assert judged([asked, hit(CLICK, 43.2, "/1", agent=FIREFOX, network=OTHER)]) == [MACHINE, PERSON]


def test_a_link_that_another_program_asked_about_in_the_same_moment_is_left_open() -> None:
    hits = [hit(CLICK, 43, "/1", method="HEAD"), hit(CLICK, 43.2, "/1", agent=FIREFOX)]
    assert judge_all(hits)[1].reasons == (Reason.CHECKED,)
    assert judged(hits) == [MACHINE, UNKNOWN]


# People who look a little like machines.


@pytest.mark.parametrize("network", [HOME, GATEWAY], ids=["at home", "behind the scanner's network"])
@pytest.mark.parametrize("agent", [CHROME, FIREFOX], ids=["the scanner's agent", "another"])
def test_a_person_minutes_after_a_scanner_stays_one(network: str, agent: str) -> None:
    hits = [
        hit(OPEN, 9, network=GATEWAY),
        *sweep(43),
        hit(OPEN, 240, agent=agent, network=network),
        hit(CLICK, 245, "/3", agent=agent, network=network),
    ]
    assert judged(hits)[-2:] == [PERSON, PERSON]


def test_a_person_from_another_network_in_the_minute_of_the_sweep_stays_one() -> None:
    hits = [*sweep(43), hit(OPEN, 50, agent=FIREFOX), hit(CLICK, 60, "/3", agent=FIREFOX)]
    assert judged(hits)[-2:] == [PERSON, PERSON]


def test_links_opened_in_tabs_are_a_persons() -> None:
    hits = [hit(OPEN, 900), *(hit(CLICK, 905 + 1.1 * number, f"/{number}") for number in range(6))]
    assert judged(hits) == [PERSON] * 7


def test_two_links_of_three_opened_in_tabs_are_a_persons() -> None:
    assert judged([hit(CLICK, 900, "/1", links=3), hit(CLICK, 901.4, "/2", links=3)]) == [PERSON, PERSON]


def test_the_same_link_clicked_twice_is_a_persons() -> None:
    assert judged([hit(CLICK, 900 + number / 5, "/1") for number in range(5)]) == [PERSON] * 5


def test_two_links_faster_than_a_hand_are_left_open() -> None:
    found = judge_all([hit(CLICK, 900, "/1"), hit(CLICK, 900.3, "/2")])
    assert [judgement.reasons for judgement in found] == [(Reason.QUICK,)] * 2
    assert {judgement.judged for judgement in found} == {UNKNOWN}


def test_a_real_open_after_gmail_fetched_in_advance_is_a_persons() -> None:
    hits = [hit(OPEN, 5, agent=GMAIL_PREFETCH), hit(OPEN, 300, agent=GOOGLE), hit(CLICK, 310, "/1")]
    assert judged(hits) == [MACHINE, PERSON, PERSON]


def test_apple_fetching_the_pictures_does_not_take_the_readers_click() -> None:
    assert judged([hit(OPEN, 60, agent=APPLE, network=OTHER), hit(CLICK, 400, "/1")]) == [MACHINE, PERSON]


def test_a_picture_proxy_beside_a_sweep_is_a_persons() -> None:
    assert judged([hit(OPEN, 20, agent=GOOGLE, network=OTHER), *sweep(43)])[0] == PERSON


# Mails with a single link.


def test_the_click_on_a_single_link_soon_after_delivery_is_left_open_with_its_open() -> None:
    hits = [hit(OPEN, 9, links=1), hit(CLICK, 43, "/1", links=1)]
    assert [judgement.reasons for judgement in judge_all(hits)] == [(Reason.ONE_LINK,)] * 2
    assert judged(hits) == [UNKNOWN] * 2


def test_a_late_click_on_a_single_link_is_a_persons() -> None:
    assert judged([hit(CLICK, 7200, "/1", links=1)]) == [PERSON]


def test_a_later_click_from_another_network_on_a_single_link_is_a_persons() -> None:
    hits = [hit(CLICK, 43, "/1", links=1, network=GATEWAY), hit(CLICK, 300, "/1", links=1)]
    assert judged(hits) == [UNKNOWN, PERSON]


def test_a_click_on_a_single_link_after_a_proxys_open_is_a_persons() -> None:
    hits = [hit(OPEN, 200, agent=GOOGLE, network=OTHER, links=1), hit(CLICK, 210, "/1", links=1)]
    assert judged(hits) == [PERSON, PERSON]


# Many readers behind one network.


OFFICE = "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.17328; Pro)"


def crowd(readers: int, seconds: float, agent: Callable[[int], str], after: float = 43, **fields: Any) -> list[Facts]:
    made: dict[str, Any] = {"network": GATEWAY, "domain": "firm.example"} | fields
    return [
        replace(
            hit(CLICK, after, "/1", agent=agent(number)),
            at=START + dt.timedelta(seconds=after + seconds * number / readers),
            delivery=number,
            **made,
        )
        for number in range(readers)
    ]


def test_one_program_at_the_mail_of_a_whole_domain_is_a_scanner() -> None:
    assert judged(crowd(30, 50, lambda _: CHROME)) == [MACHINE] * 30


def test_a_scanner_that_opens_for_a_whole_domain_as_the_mail_arrives_is_one() -> None:
    hits = [replace(one, kind=OPEN, url="") for one in crowd(30, 40, lambda _: CHROME, after=9)]
    assert judged(hits) == [MACHINE] * 30


def test_the_opens_of_a_scanner_go_with_what_it_follows_for_a_whole_domain() -> None:
    clicks = crowd(30, 40, lambda _: CHROME, after=200)
    opens = [replace(one, kind=OPEN, url="", at=one.at - dt.timedelta(seconds=5), since_sent=195) for one in clicks]
    assert judged(opens + clicks) == [MACHINE] * 60


def test_colleagues_who_open_with_a_mail_program_and_follow_with_a_browser_stay_people() -> None:
    clicks = crowd(30, 40, lambda _: CHROME, after=200)
    opens = [
        replace(one, kind=OPEN, url="", agent=OFFICE, at=one.at - dt.timedelta(seconds=20), since_sent=180)
        for one in clicks
    ]
    assert judged(opens + clicks) == [PERSON] * 60


def test_readers_who_come_back_with_the_same_program_were_no_scanner() -> None:
    clicks = crowd(30, 40, lambda _: CHROME)
    later = [replace(one, url="/2", at=one.at + dt.timedelta(seconds=3000), since_sent=3043) for one in clicks]
    assert judged(clicks + later) == [PERSON] * 60
    assert judged(clicks + later[:5]) == [PERSON] * 5 + [MACHINE] * 25 + [PERSON] * 5


def test_many_programs_at_once_from_one_network_are_left_open() -> None:
    assert judged(crowd(30, 50, lambda number: f"{CHROME} {number}")) == [UNKNOWN] * 30


@pytest.mark.parametrize(
    "hits",
    [
        crowd(19, 50, lambda _: CHROME),
        crowd(180, 600, lambda _: CHROME),
        crowd(60, 50, lambda _: CHROME, after=7200),
        crowd(60, 50, lambda _: CHROME, network=""),
        crowd(60, 50, lambda _: CHROME, domain=""),
        crowd(60, 50, lambda _: OFFICE, after=100, kind=OPEN, url=""),
    ],
    ids=["few", "ten minutes", "hours later, told to read it", "unknown networks", "unknown domains", "at nine"],
)
def test_people_of_one_firm_behind_one_network_stay_people(hits: list[Facts]) -> None:
    assert judged(hits) == [PERSON] * len(hits)


@pytest.mark.parametrize("domain", ["gmail.com", "yahoo.co.jp", "libero.it"])
@pytest.mark.parametrize("kind", [OPEN, CLICK])
def test_readers_of_a_mail_service_behind_one_telephone_network_stay_people(kind: str, domain: str) -> None:
    assert judged(crowd(60, 50, lambda _: CHROME, domain=domain, kind=kind)) == [PERSON] * 60


def test_a_mail_services_proxy_that_opens_for_many_readers_stays_people() -> None:
    hits = [replace(one, kind=OPEN, agent=GOOGLE) for one in crowd(200, 30, lambda _: GOOGLE)]
    assert judged(hits) == [PERSON] * 200


# What holds for any hits.


def test_anonymous_hits_that_look_like_a_sweep_are_left_open() -> None:
    hits = [replace(one, delivery=None, links=0, network="") for one in sweep(43)]
    assert {judgement.reasons for judgement in judge_all(hits)} == {(Reason.SWEEP,)}
    assert judged(hits) == [UNKNOWN] * 10
    # Several people, or one at leisure.
    assert judged([replace(one, agent=f"{CHROME} {number}") for number, one in enumerate(hits)]) == [PERSON] * 10
    assert judged([*hits, hits[3]]) == [PERSON] * 11
    assert judged(hits[:5]) == [PERSON] * 5
    assert judged([replace(one, at=START + 9 * (one.at - START)) for one in hits]) == [PERSON] * 10


def test_anonymous_hits_of_one_program_are_no_mail_of_one_reader() -> None:
    hits = [hit(OPEN, 9), hit(CLICK, 43, "/1", method="HEAD"), hit(CLICK, 43.2, "/1"), hit(CLICK, 43.3, "/2")]
    assert judged([replace(one, delivery=None) for one in hits]) == [PERSON, MACHINE, PERSON, PERSON]


ANY = st.lists(
    st.builds(
        hit,
        kind=st.sampled_from([OPEN, CLICK]),
        after=st.floats(-5, 2000),
        url=st.sampled_from(["/1", "/2", "/3", "/4", "/5"]),
        agent=st.sampled_from([CHROME, FIREFOX, APPLE, GOOGLE, "", "curl/8"]),
        network=st.sampled_from([HOME, GATEWAY, ""]),
        method=st.sampled_from(["GET", "HEAD"]),
        delivery=st.sampled_from([1, 2, None]),
        links=st.sampled_from([0, 5]),
    ),
    max_size=30,
)


@given(ANY, st.randoms())
@settings(deadline=None)
def test_hits_are_judged_the_same_in_whatever_order_they_are_given(hits: list[Facts], random: Random) -> None:
    known = dict(zip(map(id, hits), judge_all(hits), strict=True))
    if all(earlier.at != later.at for earlier, later in pairwise(sorted(hits, key=lambda one: one.at))):
        shuffled = list(hits)
        random.shuffle(shuffled)
        assert dict(zip(map(id, shuffled), judge_all(shuffled), strict=True)) == known


@given(ANY)
@settings(deadline=None)
def test_what_says_itself_that_it_is_a_machine_is_never_a_person(hits: list[Facts]) -> None:
    for one, judgement in zip(hits, judge_all(hits), strict=True):
        if judge(one).judged == MACHINE:
            assert judgement.judged == MACHINE
        assert judgement.reasons
        assert len(judgement.codes) <= 200


def test_ten_thousand_hits_on_one_mail_are_judged_in_a_pass() -> None:
    hits = [hit(CLICK, 43 + number / 1000, f"/{number % 10}") for number in range(10_000)]
    assert set(judged(hits)) == {MACHINE}


def test_every_reason_has_a_sentence_and_a_code_of_old_stands_for_itself() -> None:
    assert set(SENTENCES) == set(Reason)
    assert sentences("sweep,of-old") == [SENTENCES[Reason.SWEEP], "of-old"]
    assert sentences("") == []


# The figures: people kept at least 99 %, machines counted as people at most 3 %.


@pytest.mark.parametrize(
    "make_log",
    [hit_logs.make_log, hit_logs_otherwise.make_log, hit_logs_office.make_log],
    ids=["one way", "another way", "offices"],
)
@pytest.mark.parametrize("seed", range(4))
def test_people_and_machines_are_told_apart_in_logs_of_any_shape(make_log: Callable[[int], Log], seed: int) -> None:
    found = hit_logs.shares([make_log(1000 * seed + number) for number in range(20)])
    assert found.kept >= 0.99
    assert found.mistaken <= 0.03
