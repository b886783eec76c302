"""Hashes of files: right, made once, made anew when the file changes."""

import hashlib
import os

import pytest

from calibrant.errors import FileError
from calibrant.files import hashing
from calibrant.files.hashing import HashCache, file_hash


def test_the_hash_is_sha256_of_the_bytes(tmp_path):
    data = os.urandom(3_000_001)
    (tmp_path / "a").write_bytes(data)
    assert file_hash(tmp_path / "a") == f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_a_file_is_hashed_once_until_it_changes(tmp_path, monkeypatch):
    path, cache, made = tmp_path / "a", HashCache(), []
    real = hashlib.sha256
    monkeypatch.setattr(hashing.hashlib, "sha256", lambda *data: made.append(1) or real(*data))
    path.write_bytes(b"one")
    first = file_hash(path, cache)
    assert file_hash(path, cache) == first
    assert len(made) == 1
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert file_hash(path, cache) != first
    assert len(made) == 2
    path.rename(tmp_path / "b")  # another name is the same file
    file_hash(tmp_path / "b", cache)
    assert len(made) == 2


def test_hashes_are_kept_between_runs(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    cache = HashCache(tmp_path / "hashes.json")
    value = file_hash(path, cache)
    cache.save()
    again = HashCache(tmp_path / "hashes.json")
    assert len(again) == 1
    assert file_hash(path, again) == value
    (tmp_path / "hashes.json").write_text("rubbish")
    assert len(HashCache(tmp_path / "hashes.json")) == 0
    HashCache(tmp_path / "none" / "hashes.json").save()


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileError, match="there is no such file"):
        file_hash(tmp_path / "none")
