"""Threads that share round trips: each has the answer to its own lines, and nobody's are left behind."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from newsletter.intake.together import Together, Unsaid
from tests.waiting import until


class Server:
    """Takes lines, one round trip at a time, once it is let; refuses those that hold a b"bad"."""

    def __init__(self) -> None:
        self.trips: list[list[bytes]] = []
        self.asked = threading.Semaphore(0)
        self.let = threading.Semaphore(0)

    def __call__(self, lines: list[bytes]) -> None:
        self.asked.release()
        assert self.let.acquire(timeout=30)
        self.trips.append(lines)
        if b"bad" in lines:
            raise ConnectionError("it hung up")


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def together(server: Server) -> Together:
    return Together(server)


def wait_for(together: Together, waiting: int) -> None:
    until(lambda: len(together._waiting) == waiting, "another thread waits")


def fill(together: Together, pool: ThreadPoolExecutor, lines: list[bytes]) -> list[Future[None]]:
    """Each of `lines` by a thread of its own, in their order, behind a round trip that is under way."""
    found = []
    for number, line in enumerate(lines, 1):
        found.append(pool.submit(together, [line]))
        wait_for(together, number)
    return found


def test_those_who_come_meanwhile_share_the_next_round_trip(server: Server, together: Together) -> None:
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(together, [b"first"])
        assert server.asked.acquire(timeout=30)
        others = fill(together, pool, [b"1", b"2", b"3"])
        assert not first.done()
        server.let.release(2)
        for future in (first, *others):
            assert future.result(30) is None
    assert server.trips == [[b"first"], [b"1", b"2", b"3"]]


def test_who_comes_while_another_has_taken_over_waits_too(server: Server, together: Together) -> None:
    with ThreadPoolExecutor(9) as pool:
        futures = [pool.submit(together, [b"first"])]
        assert server.asked.acquire(timeout=30)
        futures += fill(together, pool, [b"1"])
        server.let.release(1)
        assert server.asked.acquire(timeout=30)
        futures += fill(together, pool, [b"2"])
        server.let.release(2)
        for future in futures:
            assert future.result(30) is None
    assert server.trips == [[b"first"], [b"1"], [b"2"]]


def test_lines_of_one_call_stay_together(server: Server, together: Together) -> None:
    server.let.release(1)
    together([b"1", b"2"])
    assert server.trips == [[b"1", b"2"]]


def test_what_fails_fails_for_all_who_shared_it_and_for_nobody_else(server: Server, together: Together) -> None:
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(together, [b"first"])
        assert server.asked.acquire(timeout=30)
        others = fill(together, pool, [b"1", b"bad", b"3"])
        server.let.release(2)
        assert first.result(30) is None
        errors = [future.exception(30) for future in others]
        # Whoever made the round trip met it, the others hear of it.
        assert [type(error) for error in errors] == [ConnectionError, Unsaid, Unsaid]
        assert all("it hung up" in str(error) for error in errors)
        server.let.release(1)
        assert pool.submit(together, [b"after"]).result(30) is None


def test_many_threads_that_go_on_and_on_lose_nothing(server: Server) -> None:
    server.let.release(100_000)
    together, count = Together(server), 40

    def run(thread: int) -> None:
        for number in range(count):
            together([b"%d-%d" % (thread, number)])

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(run, thread) for thread in range(8)]:
            future.result(60)
    kept = [line for trip in server.trips for line in trip]
    assert sorted(kept) == sorted(b"%d-%d" % (thread, number) for thread in range(8) for number in range(count))
