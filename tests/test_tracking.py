"""Signed tokens and links: who a hit belongs to, for ever, and nobody else's."""

from __future__ import annotations

import string
from base64 import b32encode, urlsafe_b64decode
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import Settings

from newsletter import tracking
from newsletter.tracking import BadToken

BASE64URL = string.ascii_letters + string.digits + "-_"
READERS: list[Callable[[str], object]] = [
    tracking.read_reader_token,
    tracking.read_delivery_token,
    tracking.read_dispatch_token,
    tracking.read_click,
    tracking.delivery_of_message_id,
]

# The address stays the same from example to example.
settings_of_hypothesis = hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
ids = st.integers(1, 2**48 - 1)
characters = st.characters(exclude_categories=["Cs", "Cc"])
urls = st.builds(
    lambda scheme, path, query, fragment: f"{scheme}://host.example/{path}?{query}#{fragment}",
    st.sampled_from(["http", "https", "HTTPS"]),
    st.text(characters, max_size=200),
    st.text(characters, max_size=200),
    st.text(characters, max_size=200),
)


def static_of(url: str) -> str:
    return url.rpartition("/c/")[2]


def make_tokens() -> dict[Callable[[str], object], str]:
    """A valid token for each reading function."""
    return dict(
        zip(
            READERS,
            [
                tracking.reader_token(2**63 - 1, 2**31 - 1, 7),
                tracking.delivery_token(7),
                tracking.pixel_url(7, individual=False).rpartition("/")[2],
                static_of(tracking.click_url(7, "https://example.com/ä?b=c#d")),
                tracking.message_id(7).partition("@")[0],
            ],
            strict=True,
        )
    )


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**31 - 1), ids)
def test_a_reader_token_says_whose_it_is(subscriber: int, newsletter: int, delivery: int) -> None:
    said = tracking.read_reader_token(tracking.reader_token(subscriber, newsletter, delivery))
    assert said == tracking.ReaderToken(subscriber, newsletter, delivery)


def test_a_reader_token_may_belong_to_no_delivery() -> None:
    assert tracking.read_reader_token(tracking.reader_token(1, 2)).delivery_id is None


@given(ids)
def test_a_token_names_its_delivery_in_links_and_message_ids(delivery: int) -> None:
    assert tracking.read_delivery_token(tracking.delivery_token(delivery)) == delivery
    message_id = tracking.message_id(delivery)
    assert tracking.delivery_of_message_id(message_id) == delivery
    assert tracking.delivery_of_message_id(f" <{message_id}>\r\n") == delivery
    assert tracking.Links(1).message_id(delivery) == message_id


@given(ids)
def test_the_anonymous_pixel_names_its_dispatch_and_the_individual_one_waits_for_a_token(dispatch: int) -> None:
    base, _, token = tracking.pixel_url(dispatch, individual=False).rpartition("/")
    assert (base, tracking.read_dispatch_token(token)) == ("http://127.0.0.1:8000/o/d", dispatch)
    assert tracking.pixel_url(dispatch, individual=True) == "http://127.0.0.1:8000/o/"


@given(ids, urls)
def test_a_click_carries_any_url_whole(dispatch: int, url: str) -> None:
    assume(len(url.encode()) <= tracking.URL_BYTES)
    link = tracking.click_url(dispatch, url)
    assert set(static_of(link)) <= set(BASE64URL)
    assert tracking.read_click(static_of(link)) == (dispatch, url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "javascript:alert(1)",
        "data:text/html,x",
        "ftp://example.com/",
        "mailto:ada@example.com",
        "//example.com/",
        "/path",
        "https:///path",
        "http://[::1",
        "https://example.com/\r\nSet-Cookie: a=b",
        "java\nscript://example.com",
        "https://example.com/\x00",
        "https://example.com/\ud800",
        "https://example.com/" + "a" * tracking.URL_BYTES,
    ],
)
def test_only_web_addresses_can_be_tracked(url: str) -> None:
    assert not tracking.trackable(url)
    with pytest.raises(ValueError, match="http"):
        tracking.click_url(1, url)


@pytest.mark.parametrize("read", READERS)
def test_every_truncation_is_refused(read: Callable[[str], object]) -> None:
    token = make_tokens()[read]
    for length in range(len(token)):
        with pytest.raises(BadToken):
            read(token[:length])
        with pytest.raises(BadToken):
            read(token[len(token) - length :] if length else "")


@pytest.mark.parametrize("read", READERS)
def test_every_changed_character_is_refused_also_in_bits_that_decode_to_nothing(read: Callable[[str], object]) -> None:
    token = make_tokens()[read]
    for position in range(len(token)):
        for other in BASE64URL:
            if other != token[position]:
                with pytest.raises(BadToken):
                    read(token[:position] + other + token[position + 1 :])


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("form", ["{}=", "{}A", " {}x", "{} x", "{}\n\n.", "{}/", "+{}", "{}%00", "é{}"])
def test_a_token_has_one_spelling(read: Callable[[str], object], form: str) -> None:
    with pytest.raises(BadToken):
        read(form.format(make_tokens()[read]))


@pytest.mark.parametrize("read", READERS)
@given(text=st.text(max_size=120) | st.text(BASE64URL, max_size=120))
def test_garbage_is_a_bad_token_and_no_other_error(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(BadToken):
        read(text)


@pytest.mark.parametrize("read", READERS)
def test_an_overlong_token_is_refused(read: Callable[[str], object]) -> None:
    for length in (1_000, 10_000, 1_000_000):
        with pytest.raises(BadToken):
            read("A" * length)


def test_a_token_serves_one_purpose() -> None:
    tokens = make_tokens()
    for read in tokens:
        for other, token in tokens.items():
            if other != read:
                with pytest.raises(BadToken):
                    read(token)


def test_the_highest_key_signs_and_all_verify(settings: Settings) -> None:
    settings.TOKEN_KEYS = {1: "the first key there was"}
    old = make_tokens()
    settings.TOKEN_KEYS = {1: "the first key there was", 2: "the second key there is"}
    new = make_tokens()
    for read in READERS:
        assert read(old[read]) == read(new[read])
        assert old[read] != new[read]
    settings.TOKEN_KEYS = {2: "the second key there is"}
    for read in READERS:
        read(new[read])
        with pytest.raises(BadToken):
            read(old[read])


@pytest.mark.parametrize("octets", [16, 63, 64, 65, 200])
def test_a_key_of_any_length_signs_what_it_verifies(settings: Settings, octets: int) -> None:
    settings.TOKEN_KEYS = {7: "é" * (octets // 2) + "k" * (octets % 2)}
    for read, token in make_tokens().items():
        read(token)


def test_another_sites_key_forges_nothing(settings: Settings) -> None:
    settings.TOKEN_KEYS = {1: "the key of somebody else"}
    forged = make_tokens()
    settings.TOKEN_KEYS = {1: "the key of this site"}
    for read in READERS:
        with pytest.raises(BadToken):
            read(forged[read])


def test_the_number_of_the_key_is_signed_too(settings: Settings) -> None:
    settings.TOKEN_KEYS = {1: "one key under two numbers", 2: "one key under two numbers"}
    token = tracking.delivery_token(7)
    with pytest.raises(BadToken):
        tracking.read_delivery_token("AQ" + token[2:])


def test_the_unsubscribe_link_fits_an_unfolded_header(settings: Settings) -> None:
    settings.SITE_URL = "https://news.example.org"
    url = tracking.reader_urls(2**63 - 1, 2**31 - 1, 2**48 - 1)["unsubscribe_url"]
    assert url.startswith("https://news.example.org/u/")
    assert len(url) < 70


def test_a_reader_without_an_upgrade_page_is_led_to_their_preferences() -> None:
    urls = tracking.reader_urls(1, 2, 3)
    assert urls["upgrade_url"] == urls["preferences_url"]
    assert tracking.reader_urls(1, 2, 3, "https://pay.example/")["upgrade_url"] == "https://pay.example/"


@pytest.mark.parametrize(
    ("site", "domain"),
    [
        ("https://news.example.org:8443/in", "news.example.org"),
        ("https://bücher.example", "xn--bcher-kva.example"),
        ("http://[::1]:8000", "[IPv6:::1]"),
    ],
)
def test_a_message_id_stands_at_this_sites_host(settings: Settings, site: str, domain: str) -> None:
    settings.SITE_URL = site
    message_id = tracking.message_id(7)
    assert message_id.partition("@")[2] == domain
    assert message_id == tracking.message_id(7)
    assert tracking.delivery_of_message_id(message_id) == 7


DOMAIN = "news.example.org"


@pytest.fixture
def bounce_address(settings: Settings) -> str:
    settings.BOUNCE_ADDRESS = f"bounces@{DOMAIN}"
    return str(settings.BOUNCE_ADDRESS)


def return_address(delivery: int) -> str:
    return tracking.Links(3).return_address(delivery)


def unsubscribe_address(subscriber: int = 2**63 - 1, delivery: int = 2**48 - 1) -> str:
    return tracking.Links(2**31 - 1).unsubscribe_address(subscriber, delivery)


@settings_of_hypothesis
@given(ids, st.randoms(use_true_random=False), st.sampled_from("+-=_."))
def test_a_return_address_is_read_back_in_any_case_and_with_any_separator(
    bounce_address: str, delivery: int, random: Random, separator: str
) -> None:
    mangled = "".join(random.choice((c.upper(), c.lower())) for c in return_address(delivery))
    assert tracking.read_address(mangled.replace("+", separator)) == delivery


@settings_of_hypothesis
@given(st.integers(0, 2**63 - 1), ids, st.randoms(use_true_random=False))
def test_an_unsubscribe_address_is_read_back_in_any_case(
    bounce_address: str, subscriber: int, delivery: int, random: Random
) -> None:
    mangled = "".join(random.choice((c.upper(), c.lower())) for c in unsubscribe_address(subscriber, delivery))
    assert tracking.read_address(mangled) == tracking.ReaderToken(subscriber, 2**31 - 1, delivery)


@pytest.mark.parametrize("tag", ["prvs=1234abcdef=", "btv1==3045f9a1b2c==", "msprvs1=17001abCDEfg="])
def test_tags_that_mail_systems_put_in_front_are_read_over(bounce_address: str, tag: str) -> None:
    assert tracking.read_address(tag + return_address(7)) == 7


def test_a_plus_sign_that_a_mail_program_encoded_is_read(bounce_address: str) -> None:
    assert tracking.read_address(return_address(7).replace("+", "%2B")) == 7


@settings_of_hypothesis
@given(st.integers(0, 49), st.integers(1, 31), st.booleans())
def test_no_character_of_an_address_can_be_changed(bounce_address: str, place: int, by: int, leave: bool) -> None:
    with pytest.raises(BadToken):
        tracking.read_address(changed(unsubscribe_address(1, 1) if leave else return_address(7), place, by))


def changed(address: str, place: int, by: int) -> str:
    """`address` with one character of its token replaced by one that stands `by` away."""
    prefix, _, rest = address.partition("+")
    token, _, domain = rest.partition("@")
    place %= len(token)
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    other = alphabet[alphabet.index(token[place]) ^ by]
    return f"{prefix}+{token[:place]}{other}{token[place + 1 :]}@{domain}"


@pytest.mark.parametrize("by", range(1, 32))
def test_not_even_bits_that_mean_nothing_can_be_changed(bounce_address: str, by: int) -> None:
    for address in (return_address(7), unsubscribe_address(1, 1)):
        with pytest.raises(BadToken):
            tracking.read_address(changed(address, -1, by))


@given(st.binary(max_size=40))
def test_what_stands_in_addresses_is_plain_base32(raw: bytes) -> None:
    assert tracking._base32(raw) == b32encode(raw).decode().rstrip("=").lower()


def test_addresses_without_a_token_say_nothing() -> None:
    for address in ("", "@", "bounces@news.example.org", "ada+news@example.org", "bounces+@news.example.org"):
        assert tracking.read_address(address) is None


def test_a_token_of_links_is_worth_nothing_in_an_address(bounce_address: str) -> None:
    raw = urlsafe_b64decode(tracking.delivery_token(7) + "==")
    with pytest.raises(BadToken):
        tracking.read_address(f"bounces+{b32encode(raw).decode().rstrip('=')}@{DOMAIN}")


def test_local_parts_fit_beside_the_longest_name_that_the_setting_allows(settings: Settings) -> None:
    settings.BOUNCE_ADDRESS = f"{'b' * 13}@{DOMAIN}"
    for address in (return_address(2**48 - 1), unsubscribe_address()):
        assert len(address.partition("@")[0]) <= 64


def test_without_a_bounce_address_there_are_no_addresses() -> None:
    assert (return_address(7), unsubscribe_address()) == ("", "")
