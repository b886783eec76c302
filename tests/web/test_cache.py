"""What is kept: within the budget, each thing made once."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from calibrant.web.cache import Cache


def test_the_least_recently_used_goes_first() -> None:
    cache = Cache(300)
    for key in "abc":
        cache.get(key, lambda: np.zeros(100, np.uint8))
    cache.get("a", lambda: pytest.fail("it was kept"))
    cache.get("d", lambda: np.zeros(100, np.uint8))
    assert cache.nbytes == 300
    made = []
    cache.get("b", lambda: made.append("b") or np.zeros(100, np.uint8))
    assert made == ["b"]


def test_something_larger_than_the_budget_is_given_all_the_same() -> None:
    cache = Cache(10)
    cache.get("a", lambda: np.zeros(5, np.uint8))
    assert cache.get("b", lambda: np.zeros(50, np.uint8)).nbytes == 50
    assert cache.nbytes == 50


def test_many_threads_make_it_once() -> None:
    cache, made = Cache(1000), []

    def make() -> np.ndarray:
        made.append(1)
        time.sleep(0.02)
        return np.zeros(1, np.uint8)

    threads = [threading.Thread(target=cache.get, args=("a", make)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_what_could_not_be_made_is_tried_again() -> None:
    cache = Cache(1000)
    with pytest.raises(ZeroDivisionError):
        cache.get("a", lambda: 1 / 0)
    assert cache.get("a", lambda: np.ones(1)) == 1


def test_forgetting() -> None:
    cache = Cache(1000)
    for key in (("a", 1), ("a", 2), ("b", 1)):
        cache.get(key, lambda: np.zeros(10, np.uint8))
    cache.forget(lambda key: key[0] == "a")
    assert cache.nbytes == 10
