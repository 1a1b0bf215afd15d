"""The layers of the house and the libraries it stands on, read off the import statements."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

import genie_lite

PACKAGE = Path(genie_lite.__file__).parent
LAYERS = {
    0: {
        "__init__",
        "types",
        "config",
        "errors",
        "files",
        "card",
        "progress",
        "threads",
        "device",
        "torchvision_shim",
    },
    1: {"nn", "losses", "metrics", "artifact", "data"},
    2: {"models"},
    3: {"latents"},
    4: {"train", "adapt", "evals", "envs"},
    5: {"inspect"},
    6: {
        "recipe",
        "folder",
        "evaluation",
        "extraction",
        "inspection",
        "steer",
        "replay",
        "pipeline",
        "pretrained",
        "export",
        "doctor",
        "controls",
    },
    7: {"play", "rl"},
    8: {"cli", "__main__"},
}
LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names}

FRAMEWORKS = {"lightning", "pytorch_lightning", "wandb", "webdataset", "decord", "av"}
FRAMEWORK_FREE = LAYERS[0] | {"nn", "losses", "metrics", "artifact", "models"}

# Imported, but declared by a library that we declare: it knows which build of it to take.
BROUGHT = {"cv2": "scenedetect-headless"}

# Declared, but imported by a library that we declare, which does not insist on it.
SPOKEN_THROUGH = {"websockets"}  # by uvicorn

FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """`genie_lite.data.video.codec` for genie_lite/data/video/codec.py; a package for its __init__.py."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path) for path in FILES}


def place_of(module: str) -> str:
    """The first name below the package, which a layer is given to."""
    return [*module.split("."), "__init__"][1]


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports, inside functions too."""
    package = name_of(path).split(".")[: None if path.name == "__init__.py" else -1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, node.module] if node.module else base)
            inner = [f"{module}.{alias.name}" for alias in node.names]
            yield from (name for name in inner if name in MODULES)  # `from genie_lite import types`
            if any(name not in MODULES for name in inner):  # `from genie_lite import __version__`
                yield module


def declared() -> dict[NormalizedName, Requirement]:
    """What an installation of the package brings, by name."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    return {canonicalize_name(need.name): need for need in map(Requirement, project["dependencies"])}


def test_the_declared_libraries_are_those_that_are_imported() -> None:
    """D10: a fresh environment lacks whatever a developer happens to have."""
    # The one runs in the engine's environment; the other says which extra it needs.
    ours = [
        path
        for path in FILES
        if path.name not in ("procgen_worker.py", "ray_engine.py", "cluster.py", "sb3.py")
    ]
    roots = {module.split(".")[0] for path in ours for module in imports_of(path)}
    libraries = roots - set(sys.stdlib_module_names) - BROUGHT.keys() - {"genie_lite"}
    owners = packages_distributions()
    known_as = {root: {canonicalize_name(name) for name in owners.get(root, [root])} for root in libraries}
    assert not {root for root, names in known_as.items() if not names & declared().keys()}
    assert declared().keys() <= set().union(*known_as.values(), BROUGHT.values(), SPOKEN_THROUGH)


def test_the_tested_set_lies_within_the_declared_bounds() -> None:
    """D10: a bound that allows what was never tested breaks by itself, one day."""
    lines = (PACKAGE.parent / "constraints.txt").read_text().splitlines()
    pinned = {
        canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)
    }
    for name, need in declared().items():
        assert pinned[name] in need.specifier, (
            f"constraints.txt pins {name} {pinned[name]}, declared is {need}"
        )


def test_every_file_has_a_layer() -> None:
    homeless = {place_of(name_of(path)) for path in FILES} - LAYER_OF.keys()
    assert not homeless, f"give these a layer in design.md and in this test: {homeless}"


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])
def test_imports_point_only_downwards(path: Path) -> None:
    here = place_of(name_of(path))
    for module in imports_of(path):
        if module.split(".")[0] != "genie_lite":
            continue
        there = place_of(module)
        both_on_top = not (PACKAGE / here).is_dir() and not (PACKAGE / there).is_dir()
        same_folder = here == there or (both_on_top and LAYER_OF[here] == LAYER_OF[there])
        assert LAYER_OF[there] < LAYER_OF[here] or same_folder, f"{name_of(path)} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])
def test_models_and_losses_know_no_framework(path: Path) -> None:
    roots = {module.split(".")[0] for module in imports_of(path)}
    if place_of(name_of(path)) in FRAMEWORK_FREE:
        assert not roots & FRAMEWORKS
    if path != PACKAGE / "data" / "video" / "codec.py":
        assert "decord" not in roots, "decord is read in data/video/codec.py alone"
    assert not roots & {"pickle", "cloudpickle", "dill"}, "nothing is pickled: a folder may come from anybody"


def test_no_two_modules_import_each_other() -> None:
    graph = {name_of(path): MODULES.intersection(imports_of(path)) for path in FILES}
    while leaves := {name for name, needs in graph.items() if not needs & graph.keys() - {name}}:
        graph = {name: needs for name, needs in graph.items() if name not in leaves}
    assert not graph, f"these files import each other: {sorted(graph)}"


def test_a_robot_loads_the_models_without_a_framework() -> None:
    models = [name_of(path) for path in FILES if place_of(name_of(path)) == "models"]
    script = f"import sys, {', '.join(models)}; print(sorted(set(sys.modules) & {FRAMEWORKS!r}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
