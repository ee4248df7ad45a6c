"""The house keeps its doors: who may import which library, and which room may import which.

Read from the source, so imports inside functions and under TYPE_CHECKING count too.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("luab_jax", "data_prep", "configs")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}

OWNERS = {
    "flax": ("luab_jax.models",),
    "grain": ("luab_jax.data.pipeline",),
    "orbax": ("luab_jax.checkpoint",),
    "optax": ("luab_jax.losses", "luab_jax.optim", "luab_jax.step"),
    "apache_beam": ("data_prep.beam",),
    "fsspec": ("luab_jax.data.storage",),
    "absl": (
        "luab_jax.cli",
        "luab_jax.main",
        "luab_jax.evaluate",
        "luab_jax.export",
        "luab_jax.report",
        "luab_jax.preflight",
        "luab_jax.preview",
    ),
    "ml_collections": ("luab_jax.main", "luab_jax.preflight", "luab_jax.preview"),
    "tensorflow_datasets": ("luab_jax.data.features", "luab_jax.data.schema", "data_prep"),
    "tensorboardX": ("luab_jax.log",),
    "cv2": (
        *("luab_jax.data.transforms", "luab_jax.data.resampling", "luab_jax.evaluation"),
        "benchmarks",
    ),
    "pycocotools": ("luab_jax.data.masks",),
    "PIL": (
        *("luab_jax.data.transforms", "luab_jax.data.resampling", "luab_jax.corruptions.frost_photos"),
        "luab_jax.preview_grid",
        *("data_prep", "benchmarks"),
    ),
    "safetensors": ("luab_jax.models.timm_weights",),
    "tensorflow": (),
    "torch": (),
    "torchvision": (),
    "timm": (),
}
"""Library to the modules or packages that may import it."""

DATA = {"byproducts", "data", "errors"}
ROOMS = {
    "errors": set(),
    "byproducts": set(),
    "augmentation": {"byproducts", "errors"},
    "corruptions": {"errors"},
    "models": set(),
    "progress": set(),
    "pipes": set(),
    "losses": set(),
    "metrics": set(),
    "ema": set(),
    "accumulation": {"metrics"},
    "data": {"byproducts", "errors", "progress"},
    "config": {*DATA, "augmentation", "models"},
    "batches": {"byproducts", "config", "data"},
    "optim": {"config"},
    "sharding": {"config", "errors"},
    "log": {"progress"},
    "integrity": set(),
    "checkpoint": {"errors", "integrity", "log", "sharding"},
    "step": {"accumulation", "augmentation", "ema", "byproducts", "config", "data", "losses", "metrics", "models"},
    "average_precision": {"errors"},
    "stop": {"log"},
    "run_statistics": {*DATA, "config", "sharding"},
    "program": {*DATA, "config", "models", "optim", "sharding", "step"},
    "run": {*DATA, "checkpoint", "config", "log", "metrics", "program", "run_statistics", "sharding", "step"},
    "hosts": {"errors"},
    "evidence": {"batches", "data", "run"},
    "window": {"errors", "evidence", "metrics", "run"},
    "train": {
        *DATA,
        "average_precision",
        "batches",
        "checkpoint",
        "config",
        "hosts",
        "log",
        "metrics",
        "models",
        "pretrained",
        "run",
        "sharding",
        "step",
        "stop",
        "window",
    },
    "pretrained": {*DATA, "checkpoint", "config", "evaluation", "log", "models", "run", "sharding", "step"},
    "export": {"cli", "errors", "evaluation", "models", "config", "sharding"},
    "evaluation": {
        *DATA,
        "average_precision",
        "checkpoint",
        "config",
        "corruptions",
        "log",
        "models",
        "progress",
        "sharding",
    },
    "cli": {"config", "errors", "pipes"},
    "main": {"cli", "config", "errors", "train"},
    "evaluate": {"cli", "config", "data", "errors", "evaluation", "hosts", "sharding"},
    "report": {"cli", "errors", "evaluation"},
    "compiled": {*DATA, "config", "models", "program", "progress"},
    "preflight": {"cli", "compiled", "config", "errors"},
    "preview": {"cli", "errors", "preview_grid"},
    "preview_grid": {*DATA, "augmentation", "batches", "config", "step"},
    "data_prep": {*DATA, "corruptions", "pipes", "progress"},
    "configs": {"augmentation", "byproducts", "config", "data", "models"},
}
"""Room to the rooms of luab_jax that it may import, besides itself."""


@functools.cache
def imports(module: str) -> tuple[str, ...]:
    """Every dotted name that a module imports; of `from a import b` both `a` and, where it is a module, `a.b`."""
    return tuple(_imports(ast.parse(MODULES[module].read_text(encoding="utf-8"))))


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            assert node.module is not None
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            known = [name for name in submodules if name in MODULES]
            yield from known
            if len(known) < len(submodules):
                yield node.module


def room(module: str) -> str:
    """`data` of `luab_jax.data.pipeline`; `data_prep` of everything there."""
    parts = module.split(".")
    return parts[1] if parts[0] == "luab_jax" and len(parts) > 1 else parts[0]


def is_within(module: str, owner: str) -> bool:
    return module == owner or module.startswith(f"{owner}.")


def test_there_is_something_to_check() -> None:
    assert {"luab_jax.train", "luab_jax.data.pipeline", "data_prep.shards", "configs.demo"} <= MODULES.keys()
    assert "grain" in imports("luab_jax.data.pipeline")
    assert "luab_jax.losses" in imports("luab_jax.step")


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_imported_by_its_owners_only(library: str) -> None:
    users = {module for module in MODULES if any(name.split(".")[0] == library for name in imports(module))}
    strangers = {module for module in users if not any(is_within(module, owner) for owner in OWNERS[library])}
    assert not strangers, f"{library} belongs to {OWNERS[library] or 'nobody'}"


@pytest.mark.parametrize("name", sorted({room(module) for module in MODULES} - {"luab_jax"}))
def test_a_room_imports_only_rooms_below_it(name: str) -> None:
    assert name in ROOMS, f"{name} is new: say in this table what it may import"
    for module in MODULES:
        if room(module) != name:
            continue
        entered = {room(other) for other in imports(module) if other.split(".")[0] in PACKAGES} - {name}
        assert entered <= ROOMS[name], f"{module} may not import {sorted(entered - ROOMS[name])}"


def test_the_table_itself_has_no_circle() -> None:
    order: list[str] = []
    while len(order) < len(ROOMS):
        ready = [name for name in ROOMS if name not in order and ROOMS[name] <= set(order)]
        assert ready, f"a circle among {sorted(set(ROOMS) - set(order))}"
        order += ready


def test_nothing_in_the_library_knows_its_users() -> None:
    for module in MODULES:
        tops = {name.split(".")[0] for name in imports(module)}
        assert not tops & {"tests", "benchmarks", "notebooks"}, module
        if module.startswith("luab_jax"):
            assert not tops & {"data_prep", "configs"}, module


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    arrows = {module: {name for name in imports(module) if name in MODULES and name != module} for module in MODULES}
    remaining = dict(arrows)
    while remaining:
        free = [module for module, needed in remaining.items() if not needed & remaining.keys()]
        assert free, f"a circle among {sorted(remaining)}"
        for module in free:
            del remaining[module]


@pytest.mark.parametrize(
    "module",
    ["luab_jax.config", "luab_jax.cli", "luab_jax.models.config", "luab_jax.augmentation.config", "configs.demo"],
)
def test_reading_a_config_or_the_help_needs_no_jax(module: str) -> None:
    """Followed through everything that a module imports; jax takes seconds to load."""
    seen, waiting = set(), [module]
    while waiting:
        current = waiting.pop()
        if current in MODULES and current not in seen:
            seen.add(current)
            waiting += imports(current)
        assert current.split(".")[0] not in ("jax", "flax", "optax", "orbax", "grain"), f"{module} imports {current}"
