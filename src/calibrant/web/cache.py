"""What was read or computed, kept while there is room: least recently used goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol, TypeVar


class Sized(Protocol):
    """Whatever says how much room it takes."""

    @property
    def nbytes(self) -> int:
        """Bytes."""
        ...


T = TypeVar("T", bound=Sized)


@dataclass
class Cache:
    """Arrays and pyramids by key, at most `budget` bytes of them; one maker for each key at a time.

    Attributes
    ----------
    budget : int
        Bytes.
    """

    budget: int
    _kept: OrderedDict[Hashable, Any] = field(default_factory=OrderedDict)
    _makers: dict[Hashable, Lock] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    _bytes: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes that are kept now."""
        return self._bytes

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is kept under `key`; made, and kept, if it is not there."""
        found = self._look(key)
        if found is not None:
            return found  # type: ignore[no-any-return]
        with self._lock:
            maker = self._makers.setdefault(key, Lock())
        with maker:
            found = self._look(key)
            if found is None:
                try:
                    found = make()
                finally:
                    with self._lock:
                        self._makers.pop(key, None)
                self._keep(key, found)
        return found  # type: ignore[no-any-return]

    def _look(self, key: Hashable) -> Any:
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def _keep(self, key: Hashable, value: Any) -> None:
        with self._lock:
            before = self._kept.pop(key, None)
            self._bytes += value.nbytes - (0 if before is None else before.nbytes)
            self._kept[key] = value
            while self._bytes > self.budget and len(self._kept) > 1:
                _, old = self._kept.popitem(last=False)
                self._bytes -= old.nbytes

    def forget(self, belongs: Callable[[Hashable], bool]) -> None:
        """Drop everything whose key says so."""
        with self._lock:
            for key in [key for key in self._kept if belongs(key)]:
                self._bytes -= self._kept.pop(key).nbytes
