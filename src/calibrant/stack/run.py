"""Runner: where the tasks of a plan are carried out, one after the other, in threads, in processes or on a
cluster.

Parallel work comes from here alone: kernels never start threads of their own.
"""

from __future__ import annotations

import os
import pickle
import re
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from calibrant.errors import OptionError, WorkError

T = TypeVar("T")
R = TypeVar("R")
V = TypeVar("V", covariant=True)

RETRIES = 1
"""How often a task is tried again after an error of the operating system, such as a network disk that
stalled."""

_UNITS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}


def parse_budget(budget: str | int) -> int:
    """Bytes of a budget such as ``"512MB"``, ``"2 GiB"`` or a plain number of bytes.

    Raises
    ------
    OptionError
        If the text is no size, or the size is not positive.
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]?i?)b?\s*", str(budget), re.IGNORECASE)
    unit = _UNITS.get(found.group(2).lower()) if found else None
    size = int(float(found.group(1)) * unit) if found and unit else 0
    if size <= 0:
        raise OptionError(
            "a memory budget is a size",
            expected='such as "512MB" or "2GiB"',
            got=repr(budget),
            where="budget",
        )
    return size


class Shared(Protocol[V]):
    """A value that travels to the workers once, not once per task."""

    @property
    def value(self) -> V:
        """The value itself."""
        ...


@dataclass(frozen=True, eq=False)
class Held(Generic[T]):
    """A shared value that is simply held: its pickle, where one is made, contains it."""

    value: T


@dataclass(frozen=True)
class Spooled(Generic[T]):
    """A shared value in a temporary file, which every worker process reads once."""

    path: str

    @property
    def value(self) -> T:
        """The value, read at the first use in this process."""
        loaded: T = _unspool(self.path)
        return loaded


@lru_cache(maxsize=4)
def _unspool(path: str) -> Any:
    with Path(path).open("rb") as file:
        return pickle.load(file)


class Runner(Protocol):
    """Carries out tasks. Tasks are idempotent: one that failed may be tried again.

    Attributes
    ----------
    workers : int
        How many tasks run at once.
    """

    workers: int

    def map(self, task: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Results of ``task(item)`` in the order of `items`."""
        ...

    def share(self, value: T) -> Shared[T]:
        """A handle on `value` that tasks may carry."""
        ...

    def cancel(self) -> None:
        """Start no further task; `map` then ends with a WorkError."""
        ...


def _attempt(task: Callable[[T], R], item: T) -> R:
    for _ in range(RETRIES):
        try:
            return task(item)
        except OSError:
            continue
    return task(item)


def _one_blas_thread(task: Any) -> AbstractContextManager[Any]:
    """Hold linear algebra to one thread per task, unless the task says that it uses none."""
    if not getattr(task, "uses_blas", True):
        return nullcontext()
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits


@dataclass
class _Stop:
    """The flag behind `cancel`."""

    event: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        if self.event.is_set():
            self.event.clear()
            raise WorkError("the work was cancelled", do="start it again: nothing half-done was kept")


class Serial:
    """One task after the other, in the calling thread."""

    workers = 1

    def __init__(self) -> None:
        self._stop = _Stop()

    def map(self, task: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Results in the order of `items`."""
        with _one_blas_thread(task):
            for item in items:
                self._stop.check()
                yield _attempt(task, item)
        self._stop.check()

    def share(self, value: T) -> Shared[T]:
        """The value itself: nothing travels."""
        return Held(value)

    def cancel(self) -> None:
        """Start no further task."""
        self._stop.event.set()


class Threads:
    """Tasks in threads of this process: the kernels and the reading let go of the interpreter lock.

    Parameters
    ----------
    workers : int, optional
        Threads; as many as there are cores if not given.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = _count(workers)
        self._stop = _Stop()

    def map(self, task: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Results in the order of `items`; at most two tasks per worker are under way or waiting."""
        with _one_blas_thread(task), ThreadPoolExecutor(self.workers) as pool:
            yield from _in_flight(
                lambda item: pool.submit(_attempt, task, item), items, 2 * self.workers, self._stop
            )

    def share(self, value: T) -> Shared[T]:
        """The value itself: nothing travels."""
        return Held(value)

    def cancel(self) -> None:
        """Start no further task."""
        self._stop.event.set()


class Pool:
    """Tasks on any `concurrent.futures.Executor`; the caller closes it.

    Parameters
    ----------
    executor : concurrent.futures.Executor
        Of threads, processes, or of another package. Workers in other processes read the task from a
        temporary file, so they must see the same folder of temporary files.
    workers : int, optional
        How many tasks it runs at once; asked of the executor if not given.
    """

    def __init__(self, executor: Executor, workers: int | None = None) -> None:
        self.executor = executor
        self.workers = _count(workers or getattr(executor, "_max_workers", None))
        self._stop = _Stop()

    def map(self, task: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Results in the order of `items`; the task itself travels once per worker."""
        if isinstance(self.executor, ThreadPoolExecutor):
            held: Shared[Callable[[T], R]] = Held(task)
            yield from self._run(held, items)
            return
        with tempfile.TemporaryDirectory(prefix="calibrant-") as folder:
            path = Path(folder) / "task.pickle"
            path.write_bytes(pickle.dumps(task, protocol=pickle.HIGHEST_PROTOCOL))
            yield from self._run(Spooled(str(path)), items)

    def _run(self, task: Shared[Callable[[T], R]], items: Iterable[T]) -> Iterator[R]:
        return _in_flight(
            lambda item: self.executor.submit(_call, task, item), items, 2 * self.workers, self._stop
        )

    def share(self, value: T) -> Shared[T]:
        """The value itself: it travels inside the task, once per worker."""
        return Held(value)

    def cancel(self) -> None:
        """Start no further task."""
        self._stop.event.set()


def _call(task: Shared[Callable[[T], R]], item: T) -> R:
    """What a worker of another process does: fetch the task, then attempt it."""
    with _one_blas_thread(task.value):
        return _attempt(task.value, item)


class Dask:
    """Tasks on a Dask cluster.

    Parameters
    ----------
    client : distributed.Client
        An open client; the caller closes it.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self.workers = max(1, sum(client.nthreads().values()))
        self._stop = _Stop()

    def map(self, task: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Results in the order of `items`; the task itself is scattered to the workers once."""
        sent = self.client.scatter(task, broadcast=True, hash=False)
        yield from _in_flight(
            lambda item: self.client.submit(_call_bare, sent, item, pure=False),
            items,
            2 * self.workers,
            self._stop,
        )

    def share(self, value: T) -> Shared[T]:
        """The value itself: it travels inside the task, once per worker."""
        return Held(value)

    def cancel(self) -> None:
        """Start no further task."""
        self._stop.event.set()


def _call_bare(task: Callable[[T], R], item: T) -> R:
    with _one_blas_thread(task):
        return _attempt(task, item)


def _in_flight(submit: Callable[[T], Any], items: Iterable[T], most: int, stop: _Stop) -> Iterator[Any]:
    """Submit lazily, so that memory holds at most `most` results; on any error cancel what waits."""
    waiting: deque[Future[Any]] = deque()
    try:
        for item in items:
            stop.check()
            waiting.append(submit(item))
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            stop.check()
            yield waiting.popleft().result()
        stop.check()
    finally:
        for future in waiting:
            future.cancel()


def _count(workers: int | None) -> int:
    if workers is not None and workers < 1:
        raise OptionError("there must be at least one worker", where="runner", got=workers)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return workers or cores or 1


def default_runner(runner: Runner | str | int | None = None) -> Runner:
    """A runner from what a user may write: None (threads on all cores), ``"serial"``, ``"threads"``, a
    number.

    Raises
    ------
    OptionError
        If the name is unknown or the number not positive.
    """
    if runner is None or runner == "threads":
        return Threads()
    if runner == "serial":
        return Serial()
    if isinstance(runner, int):
        return Threads(runner)
    if isinstance(runner, str):
        raise OptionError(
            "there is no such runner",
            where="runner",
            got=repr(runner),
            do='use "serial", "threads" or a number',
        )
    return runner


def within(runner: Runner | str | int | None = None) -> Runner | None:
    """The runner, as of `default_runner`, if its tasks share the memory of this process; else None.

    What fills the planes of one frame cannot be sent away: such work is done here, in one thread.
    """
    found = default_runner(runner)
    local = isinstance(found, (Serial, Threads))
    threaded = isinstance(found, Pool) and isinstance(found.executor, ThreadPoolExecutor)
    return found if local or threaded else None
