"""Imports only go down: the table of layers of docs/architecture.md, held against the source."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "calibrant"

NOUNS = {"frame", "instrument", "product"}
BELOW: dict[str, set[str]] = {
    "errors": set(),
    "stats": {"errors"},
    "sections": {"errors"},
    "times": {"errors"},
    "frame": {"errors", "stats", "times"},
    "instrument": {"errors", "stats", "sections", "times", "frame"},
    "product": {"errors", "frame", "instrument", "times"},
    "stack": {"errors", "stats", "frame"},
    "files": {"errors", "stats", "sections", *NOUNS, "times", "stack.source"},
    "exposures": {"errors", "stats", "sections", "times", *NOUNS, "files", "stack"},
    "effects": {"errors", "stats", "sections", "times", *NOUNS, "stack", "exposures"},
    "simulate": {"errors", "stats", "sections", "times", *NOUNS, "files"},
    "comparison": {"errors", "stats", *NOUNS},
    "registry": {"errors", "times", *NOUNS, "files"},
    "pipeline": {
        "errors", "stats", "times", *NOUNS, "files", "stack", "exposures", "effects", "registry",
        "comparison",
    },
    "report": {"errors", "stats", "times", *NOUNS, "files", "exposures", "registry", "comparison"},
}  # fmt: skip
TOP = {"cli", "web", "__main__"}  # may import everything below
ROOMS_OF_LIBRARIES = {
    "astropy.io": {"files"},
    "sqlalchemy": {"registry"},
    "matplotlib": {"report"},
    "numba": {"stack"},
    "dask": {"stack"},
    "distributed": {"stack"},
    "typer": {"cli"},
    "rich": {"cli"},
    "starlette": {"web"},
    "uvicorn": {"web"},
    "jinja2": {"report", "web"},
}
SANCTIONED = {
    # Late imports (inside functions) that go up, each with its reason.
    ("frame", "report.plots"): "Frame.show and _repr_html_",
    ("product", "report.plots"): "Product._repr_html_",
    ("exposures", "report.plots"): "Exposures._repr_html_",
    ("frame", "files.interchange"): "Frame.to_ccddata and from_ccddata",
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(path: Path) -> list[tuple[str, bool]]:
    """Every import of a module: (absolute name, whether it is only for types)."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    for_types = {
        node
        for block in nodes
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [(alias.name, node in for_types) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [(f"{node.module}.{alias.name}", node in for_types) for alias in node.names]
    return found


def allowed(module: str, target: str) -> bool:
    room = module.split(".")[0]
    if room == target.split(".")[0]:
        return True
    if any(room == up and target.startswith(name) for up, name in SANCTIONED):
        return True
    return any(target == low or target.startswith(low + ".") for low in BELOW[room])


def test_imports_go_down() -> None:
    for path in modules():
        module = dotted(path)
        if module == "" or module.split(".")[0] in TOP:
            continue
        assert module.split(".")[0] in BELOW, f"{module} is in no room of the plan"
        for name, only_types in imports(path):
            if name.startswith("calibrant.") and not only_types:
                target = name.removeprefix("calibrant.")
                assert allowed(module, target), f"{module} must not import {target}"


def test_effects_do_not_know_each_other() -> None:
    """An effect may use the helpers that effects share, never another effect."""
    shared = {"common", *(p.stem for p in (PACKAGE / "effects").glob("_*.py"))}
    for path in set((PACKAGE / "effects").glob("*.py")) - {PACKAGE / "effects" / "__init__.py"}:
        for name, _ in imports(path):
            if name.startswith("calibrant.effects."):
                target = name.split(".")[2]
                assert target in shared | {path.stem}, f"{path.name} imports effect {target}"


def test_one_room_for_each_library() -> None:
    for path in modules():
        room = dotted(path).split(".")[0]
        for name, only_types in imports(path):
            for library, rooms in ROOMS_OF_LIBRARIES.items():
                if (name == library or name.startswith(library + ".")) and not only_types:
                    assert room in rooms, f"{path} imports {library}, which belongs in {sorted(rooms)}"


def test_no_circles() -> None:
    graph = {
        dotted(path): {
            name.removeprefix("calibrant.")
            for name, only_types in imports(path)
            if name.startswith("calibrant.") and not only_types
        }
        for path in modules()
    }
    known = set(graph) - {""}
    sanctioned = {(room, name) for room, name in SANCTIONED}

    def edges(module: str) -> set[str]:
        targets = set()
        for name in graph[module]:
            if any(module.split(".")[0] == room and name.startswith(low) for room, low in sanctioned):
                continue
            while name and name not in known:
                name = name.rpartition(".")[0]
            if name and name != module:
                targets.add(name)
        return targets

    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for target in sorted(edges(module)):
                visit(target, (*path, module))
            done.add(module)

    for module in sorted(known):
        visit(module, ())


def test_a_forbidden_import_is_seen() -> None:
    """The judge itself: what must be refused is refused."""
    assert not allowed("simulate.scene", "effects.bias")
    assert not allowed("effects.bias", "simulate.scene")
    assert not allowed("stack.combine", "files.fits")
    assert not allowed("pipeline.run", "report.plots")
    assert allowed("files.fits", "stack.source.Encoding")
    assert not allowed("files.fits", "stack.combine.combine")
