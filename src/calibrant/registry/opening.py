"""Files that a registry names: hashed, found in one of their places, and held against what was recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from calibrant.errors import FileError, RegistryError
from calibrant.files import fits
from calibrant.files.hashing import HashCache, file_hash
from calibrant.files.raw import raw_frame
from calibrant.files.reading import Pathish
from calibrant.frame import Exposure, Frame
from calibrant.instrument.model import Instrument
from calibrant.product import Product
from calibrant.registry import places, words
from calibrant.registry.records import Draft, Lineage, Node

Hashes = Callable[[str], tuple[str, int]]
"""Path -> hash and size in bytes."""
Progress = Callable[[int, int, str], None]
Found = TypeVar("Found")

THREADS = 8
"""Files that are hashed at once: reading waits for the disk, and hashing leaves Python's lock."""


def hashing(cache: HashCache | None = None) -> Hashes:
    """A function from a path to hash and size, which remembers files that have not changed."""
    known = HashCache() if cache is None else cache

    def hashed(path: str) -> tuple[str, int]:
        return file_hash(path, known), Path(path).stat().st_size

    return hashed


def hashed_ahead(
    paths: Iterable[str], cache: HashCache | None = None, progress: Progress | None = None
) -> Hashes:
    """Hash many files at once, before a transaction begins.

    Parameters
    ----------
    paths : iterable of str
    cache : HashCache, optional
    progress : callable, optional
        Called as progress(done, total, what).

    Returns
    -------
    callable
        Path -> hash and size in bytes; raises the FileError of a file that could not be read.
    """
    hashes, listed = hashing(cache), list(dict.fromkeys(paths))
    found: dict[str, tuple[str, int] | FileError] = {}

    def one(path: str) -> tuple[str, int] | FileError:
        try:
            return hashes(path)
        except FileError as error:
            return error
        except OSError as error:  # it vanished between hashing and the question for its size
            return FileError(error.strerror or "it cannot be read", where=path)

    with ThreadPoolExecutor(THREADS) as pool:
        for done, (path, result) in enumerate(zip(listed, pool.map(one, listed), strict=True), 1):
            found[path] = result
            if progress is not None:
                progress(done, len(listed), "hashes")

    def known(path: str) -> tuple[str, int]:
        result = found[path] if path in found else one(path)
        if isinstance(result, FileError):
            raise result
        return result

    return known


def draft_of(product: Product, path: Pathish, hashes: Hashes | None = None) -> Draft:
    """A product that lies in a file, as it is recorded.

    Parameters
    ----------
    product : Product
    path : path
        Of its file.
    hashes : callable, optional
        Path -> hash and size in bytes.
    """
    where = places.absolute(str(path))
    hash, size = (hashes or hashing())(where)
    made = product.provenance
    facts = {"effect": made.effect, "options": made.options, "versions": made.versions}
    return Draft(
        identity=product.identity,
        kind=product.kind,
        instrument=product.instrument,
        keys=product.keys,
        epoch=product.epoch,
        path=where,
        hash=hash,
        size=size,
        quantities=[(q.name, q.place, q.value, q.sigma, q.unit) for q in product],
        inputs=[(one.hash, one.name) for one in made.inputs],
        parents=made.parents,
        facts={**facts, "created": made.created, "notes": made.notes},
    )


def product_file(path: Pathish) -> Product:
    """The product in a file.

    Raises
    ------
    FileError
        If the file cannot be read, or holds no product.
    """
    found = fits.read(path)
    if not isinstance(found, Product):
        raise FileError(
            "the file holds no product of Calibrant", where=path, do="give a file of masters/, or an identity"
        )
    return found


def read_product(identity: str, kind: str, paths: Sequence[str]) -> Product:
    """A product from the first place where it is unharmed.

    Parameters
    ----------
    identity : str
    kind : str
        For messages.
    paths : sequence of str
        Places, the likeliest first.

    Raises
    ------
    RegistryError
        If it is in none of them: lost, altered, or replaced by another one.
    """

    return _first(f"the {kind} {words.short(identity)}", paths, lambda path: _refuse_other(path, identity))


def place_of_product(identity: str, kind: str, paths: Sequence[str]) -> str:
    """The first place where a product is unharmed; its pixels are read to know that.

    Raises
    ------
    RegistryError
        If it is in none of them.
    """

    def one(path: str) -> str:
        _refuse_other(path, identity)
        return path

    return _first(f"the {kind} {words.short(identity)}", paths, one)


def read_raw(exposure: Exposure, hash: str, paths: Sequence[str], instrument: Instrument) -> Frame:
    """The frame of a raw file, in memory, from the first place where the file is unharmed.

    Parameters
    ----------
    exposure : Exposure
        As it was ingested.
    hash : str
        Of the file.
    paths : sequence of str
    instrument : Instrument
        How the file holds its pixels.

    Raises
    ------
    RegistryError
        If it is in none of the places.
    """

    def one(path: str) -> Frame:
        _refuse_altered(path, hash)
        facts = replace(exposure, path=path)
        return replace(raw_frame(facts, instrument), exposure=facts).load()

    return _first(f"the raw file of exposure {exposure.identifier or ''}".rstrip(), paths, one)


def read_calibrated(hash: str, paths: Sequence[str]) -> Frame:
    """A calibrated frame, in memory, from the first place where its file is unharmed.

    Raises
    ------
    RegistryError
        If it is in none of the places.
    """

    def one(path: str) -> Frame:
        _refuse_altered(path, hash)
        found = fits.read(path)
        if not isinstance(found, Frame):
            raise FileError("the file holds no frame", where=path)
        return found.load()

    return _first("the calibrated frame", paths, one)


def unharmed(name: str, hash: str, paths: Sequence[str]) -> str:
    """The first place that holds a file of this hash.

    Raises
    ------
    RegistryError
        If none does.
    """

    def one(path: str) -> str:
        _refuse_altered(path, hash)
        return path

    return _first(name, paths, one)


def examined(lineage: Lineage, files: Mapping[str, tuple[int, list[str]]]) -> Lineage:
    """A lineage whose nodes say of their files what can be seen without reading them.

    Parameters
    ----------
    lineage : Lineage
    files : mapping
        Hash -> size in bytes and places.
    """
    nodes = {
        key: _examined(node, files.get(node.facts.get("hash", ""))) for key, node in lineage.nodes.items()
    }
    return replace(lineage, nodes=nodes)


def _examined(node: Node, file: tuple[int, list[str]] | None) -> Node:
    if node.problem or file is None:
        return node
    size, paths = file
    there = [path for path in paths if Path(path).is_file()]
    good = [path for path in there if Path(path).stat().st_size == size]
    if good:
        return replace(node, path=good[0])
    return replace(node, problem="altered" if there else "lost")


def _refuse_other(path: str, identity: str) -> Product:
    """The product of a file, which has to be this one; reading sees whether it was changed."""
    product = product_file(path)
    if product.identity != identity:
        raise FileError(f"it holds another product, {words.short(product.identity)}", where=path)
    return product


def _refuse_altered(path: str, hash: str) -> None:
    found = file_hash(path)
    if found != hash:
        raise FileError(
            "the file was altered since it was recorded",
            where=path,
            expected=words.short(hash),
            got=words.short(found),
        )


def _first(name: str, paths: Sequence[str], read: Callable[[str], Found]) -> Found:
    """What `read` makes of the first path where it does not fail."""
    reasons: list[tuple[str, str]] = []
    for path in paths:
        try:
            return read(path)
        except FileError as error:
            error.do = None  # what is to be done is said once
            reasons.append((path, str(error)))
    do = "put it back, or record where it is now: calibrant registry add (products), ingest (raw files)"
    if not paths:
        raise RegistryError(f"{name} has no known place", do=do)
    told = "; ".join(
        reason.rstrip(".") if path in reason else f"{path}: {reason.rstrip('.')}" for path, reason in reasons
    )
    lost = not any(Path(path).exists() for path, _ in reasons)
    raise RegistryError(
        f"{name} is {'lost' if lost else 'not as it was recorded'}: {told}",
        do=do,
    )
