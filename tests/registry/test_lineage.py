"""Lineage: back to raw files, as a graph, and what a withdrawal taints."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from calibrant.errors import RegistryError
from calibrant.frame import Exposure
from calibrant.instrument import load
from calibrant.registry import events
from calibrant.registry.ingest import ingest
from calibrant.registry.lineage import dot, of, tainted
from calibrant.registry.records import Draft, Lineage, Node

CAMERA = load("generic-ccd")


def sha(word):
    return f"sha256:{word.encode().hex():0<64}"


def draft(word, inputs=(), parents=()):
    return Draft(
        sha(word),
        word,
        CAMERA.name,
        {"detector": "0", "temperature": -10.5},
        5,
        f"/out/{word}.fits",
        sha(f"file {word}"),
        100,
        inputs=[(sha(f"/raw/{name}"), name) for name in inputs],
        parents=[sha(parent) for parent in parents],
        facts={"options": {"clip": 5}, "versions": {"calibrant": "0.1"}},
    )


@pytest.fixture
def night(database):
    """A raw bias and flat, masters of them, and a calibrated frame."""
    names = ("b1.fits", "f1.fits", "l1.fits")
    raw = [
        Exposure(kind=kind, start=n, identifier=f'{kind}; "{n}"', path=f"/raw/{name}")
        for n, (kind, name) in enumerate(zip(("bias", "flat", "light"), names, strict=True))
    ]
    with database.write() as writing:
        ingest(writing, raw, lambda path: (sha(path), 10), CAMERA)
        bias, flat = draft("bias", ["b1.fits"]), draft("flat", ["f1.fits"], ["bias"])
        gain = draft("gain", ["f1.fits", "unseen.fits"], ["flat", "bias", "stranger"])
        events.add(writing, [bias, flat, gain], {CAMERA.name: CAMERA})
        inputs = [(sha("flat"), "parent", "flat"), (sha("bias"), "parent", "bias")]
        events.add_frame(
            writing, sha("/raw/l1.fits"), "/out/l1.fits", sha("l1"), 10, inputs, {"steps": ["bias"]}
        )
    return database


def lineage(database, word):
    with database.read() as connection:
        return of(connection, word)


def withdraw(database, key, why="light leak"):
    with database.write() as writing:
        return events.withdraw(writing, key, why)


def taints(database, word):
    with database.read() as connection:
        return tainted(connection, sha(word))


def test_a_product_back_to_its_raw_files(night):
    found = lineage(night, sha("flat"))
    assert set(found.edges) == {
        (sha("flat"), sha("/raw/f1.fits"), "input"),
        (sha("flat"), sha("bias"), "parent"),
        (sha("bias"), sha("/raw/b1.fits"), "input"),
    }
    assert len(found.edges) == 3 and next(iter(found.nodes)) == found.root == sha("flat")
    flat, raw = found.nodes[sha("flat")], found.nodes[sha("/raw/f1.fits")]
    assert (flat.kind, flat.state, flat.path, flat.problem) == ("flat", "draft", "/out/flat.fits", "")
    assert flat.name == "flat detector=0 temperature=-10.5"
    assert flat.facts["options"] == {"clip": 5} and flat.facts["versions"] == {"calibrant": "0.1"}
    assert flat.facts["hash"] == sha("file flat") and flat.facts["keys"]["temperature"] == -10.5
    assert (raw.kind, raw.path, raw.state) == ("flat", "/raw/f1.fits", "")


def test_a_calibrated_frame_and_a_raw_file(night):
    found = lineage(night, sha("l1"))
    assert found.nodes[sha("l1")].kind == "calibrated" and found.nodes[sha("l1")].name == "l1.fits"
    assert set(found.nodes) == {
        sha(word) for word in ("l1", "/raw/l1.fits", "flat", "bias", "/raw/f1.fits", "/raw/b1.fits")
    }
    alone = lineage(night, sha("/raw/l1.fits"))
    assert list(alone.nodes) == [sha("/raw/l1.fits")] and alone.edges == ()


def test_the_file_of_a_product_stands_for_it(night):
    assert lineage(night, sha("file flat")).root == sha("flat")


def test_ancestors_that_nobody_knows(night):
    found = lineage(night, sha("gain"))
    assert found.nodes[sha("stranger")].problem == found.nodes[sha("/raw/unseen.fits")].problem == "unknown"
    assert found.nodes[sha("/raw/unseen.fits")].name == "unseen.fits"
    with pytest.raises(RegistryError, match="nothing with the hash"):
        lineage(night, sha("nobody"))


def test_a_withdrawn_ancestor_taints_what_was_made_of_it(night):
    assert taints(night, "flat") == taints(night, "l1") == ()
    revision = withdraw(night, sha("bias"))
    told = f"bias {sha('bias')[:19]}, an ancestor, was withdrawn (revision {revision}): light leak"
    assert taints(night, "flat") == taints(night, "gain") == taints(night, "l1") == (told,)
    assert taints(night, "bias") == ()  # itself withdrawn, its ancestors are not
    found = lineage(night, sha("gain"))
    assert found.nodes[sha("bias")].problem == found.nodes[sha("bias")].state == "withdrawn"
    assert found.nodes[sha("flat")].problem == ""


def test_a_withdrawn_raw_file_taints_through_its_masters(night):
    revision = withdraw(night, sha("/raw/b1.fits"), "dome open")
    (told,) = taints(night, "gain")
    assert told == f'raw file bias; "0", an input, was withdrawn (revision {revision}): dome open'
    withdraw(night, sha("flat"))
    assert len(taints(night, "gain")) == 2
    assert len(taints(night, "flat")) == 1


def test_states_in_a_lineage(night):
    with night.write() as writing:
        for word in ("bias", "flat"):
            events.certify(writing, sha(word), 0, 100, "default", force="test")
        events.add(writing, [draft("newer")], {})
    nodes = lineage(night, sha("gain")).nodes
    assert [nodes[sha(word)].state for word in ("bias", "flat", "gain")] == [
        "certified",
        "certified",
        "draft",
    ]
    with night.write() as writing:
        other = Draft(sha("b2"), "bias", CAMERA.name, draft("bias").keys, 5, "/out/b2.fits", sha("fb2"), 1)
        events.add(writing, [other], {})
        events.certify(writing, sha("b2"), None, None, "default", replace=True, force="test")
    assert lineage(night, sha("flat")).nodes[sha("bias")].state == "superseded"


def test_dot(night):
    withdraw(night, sha("bias"))
    text = dot(lineage(night, sha("l1")))
    assert text.startswith("digraph") and text.rstrip().endswith("}")
    assert text.count(" -> ") == len(lineage(night, sha("l1")).edges)
    assert 'bias; \\"0\\"' in text and sha("flat")[:19] in text and "withdrawn" in text
    outside = re.sub(r'"(\\.|[^"\\])*"', "", text)
    assert '"' not in outside and ";" not in outside.replace(";\n", "\n")


def test_dot_of_odd_names():
    node = Node('k"\\', "kind", 'a "b" \\ \n c', problem="")
    text = dot(Lineage(node.key, {node.key: node}, ((node.key, node.key, "input"),)))
    strings = re.findall(r'"(?:\\.|[^"\\])*"', text)
    assert '"k\\"\\\\"' in strings
    assert "\n c" not in text


def test_graphviz_reads_it(night):
    if shutil.which("dot") is None:
        if "graphviz" in os.environ.get("CALIBRANT_REQUIRE", "").split(","):
            pytest.fail("Graphviz is required, and `dot` is not installed")
        pytest.skip("Graphviz is not installed")
    text = dot(lineage(night, sha("gain")))
    done = subprocess.run(["dot", "-Tplain"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_long_chain_and_a_diamond(database):
    with database.write() as writing:
        chain = [draft("p0")]
        chain += [draft(f"p{n}", parents=[f"p{n - 1}", f"p{max(n - 2, 0)}"]) for n in range(1, 200)]
        events.add(writing, chain, {})
    found = lineage(database, sha("p199"))
    assert len(found.nodes) == 200 and len(found.edges) == 2 * 198 + 1
    withdraw(database, sha("p0"))
    assert len(taints(database, "p199")) == 1
