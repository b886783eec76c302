"""Runners, budgets in words."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from calibrant.errors import OptionError, WorkError
from calibrant.stack.run import Pool, Serial, Threads, default_runner, parse_budget, within


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MB", 512_000_000),
        ("2 GiB", 2 << 30),
        ("1.5kB", 1500),
        (1000, 1000),
        ("64m", 64_000_000),
        ("7", 7),
    ],
)
def test_budgets(text, size):
    assert parse_budget(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", 0, "1 XB", "0.1"])
def test_budgets_that_are_none(text):
    with pytest.raises(OptionError, match="budget"):
        parse_budget(text)


def test_default_runner():
    assert default_runner("serial").workers == 1
    assert default_runner(3).workers == 3
    assert default_runner().workers == default_runner("threads").workers >= 1
    own = Serial()
    assert default_runner(own) is own


def square(x):
    return x * x


def test_results_come_in_order_whatever_the_runner():
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(2) as processes:
        for runner in (Serial(), Threads(3), Pool(threads), Pool(processes)):
            assert list(runner.map(square, range(20))) == [x * x for x in range(20)]
            assert runner.share([1, 2]).value == [1, 2]


class Sulky:
    """Fails once for every item."""

    def __init__(self, error):
        self.error, self.seen = error, set()

    def __call__(self, item):
        if item not in self.seen:
            self.seen.add(item)
            raise self.error
        return item


@pytest.mark.parametrize("runner", [Serial(), Threads(2)])
def test_errors_of_the_system_are_tried_again_and_others_are_not(runner):
    assert list(runner.map(Sulky(OSError("stalled")), range(5))) == list(range(5))
    with pytest.raises(ValueError, match="wrong"):
        list(runner.map(Sulky(ValueError("wrong")), range(5)))


@pytest.mark.parametrize("runner", [Serial(), Threads(2)])
def test_cancel_ends_the_work_and_the_runner_lives_on(runner):
    done = []
    with pytest.raises(WorkError, match="cancelled"):
        for result in runner.map(square, range(1000)):
            done.append(result)
            runner.cancel()
    assert len(done) < 10
    assert list(runner.map(square, range(3))) == [0, 1, 4]


def test_few_results_wait_at_once():
    started, gate = [], threading.Event()

    def task(item):
        started.append(item)
        gate.wait(5)
        return item

    results = Threads(2).map(task, range(100))
    threading.Timer(0.05, gate.set).start()
    assert next(results) == 0
    assert len(started) <= 6
    results.close()
    assert len(started) < 100


def blas_threads(_):
    from threadpoolctl import threadpool_info

    return max([pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"], default=1)


def test_tasks_have_one_blas_thread():
    assert list(Serial().map(blas_threads, [0])) == [1]
    assert set(Threads(2).map(blas_threads, range(4))) == {1}


def process(_):
    return os.getpid()


def test_an_interrupt_leaves_no_task_behind():
    class Interrupted:
        uses_blas = False

        def __call__(self, item):
            if item == 3:
                raise KeyboardInterrupt
            return item

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        list(Threads(2).map(Interrupted(), range(100)))
    assert threading.active_count() == before


def test_work_on_one_frame_stays_in_this_process():
    threads = Threads(2)
    assert within(threads) is threads
    assert isinstance(within("serial"), Serial) and isinstance(within(3), Threads)
    with ThreadPoolExecutor(1) as executor:
        assert isinstance(within(Pool(executor)), Pool)
    with ProcessPoolExecutor(1) as executor:
        assert within(Pool(executor)) is None
