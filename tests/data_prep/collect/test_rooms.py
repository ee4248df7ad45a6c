"""Which part of the collection may import which; data_prep as a whole is one room of tests/test_architecture.py."""

from __future__ import annotations

import pytest

from tests.test_architecture import MODULES, imports

PREFIX = "data_prep.collect"
PURE = {"events", "fold", "tasks", "agreement", "classes", "config", "practice"}
"""What they do depends on their arguments alone: no store, no web, no clock."""
FORBIDDEN = {
    **{name: {"store", "sqlite", "postgres", "log", "leases", "service", "web", "project", "export"} for name in PURE},
    "store": {"sqlite", "postgres", "web", "service"},
    "leases": {"web", "service", "log", "events"},
    "log": {"web", "service", "sqlite", "postgres"},
    "visits": {"web", "service", "sqlite", "postgres", "project"},
    "service": {"web", "sqlite", "postgres", "project"},
    "export": {"web", "service", "simulate"},
    "reports": {"web", "service"},
    "platforms": {"web", "store", "service"},
    "web": {"simulate", "postgres"},
}
JAX = ("jax", "flax", "optax", "orbax", "grain", "tensorflow", "torch")


def part(module: str) -> str:
    return module.removeprefix(f"{PREFIX}.").split(".")[0]


def of_collect() -> list[str]:
    return [module for module in MODULES if module.startswith(f"{PREFIX}.")]


@pytest.mark.parametrize("name", sorted(FORBIDDEN))
def test_a_part_imports_only_parts_below_it(name: str) -> None:
    members = [module for module in of_collect() if part(module) == name]
    assert members, f"{name} is no part any more"
    for module in members:
        entered = {part(other) for other in imports(module) if other.startswith(f"{PREFIX}.")}
        assert not entered & FORBIDDEN[name], module


def test_only_the_commands_import_the_collection() -> None:
    users = {
        module
        for module in MODULES
        if not module.startswith(PREFIX) and any(name.startswith(PREFIX) for name in imports(module))
    }
    assert users == {"data_prep.__main__", "data_prep.arguments"}


def test_nothing_that_the_collection_imports_is_jax_or_tensorflow() -> None:
    """Followed through everything that is imported, also inside functions."""
    seen, waiting = set(), of_collect()
    while waiting:
        current = waiting.pop()
        if current in MODULES and current not in seen:
            seen.add(current)
            waiting += imports(current)
        assert current.split(".")[0] not in JAX, current


def test_the_libraries_of_the_extra_are_needed_by_the_server_alone() -> None:
    """`python -m data_prep` starts without them."""
    seen, waiting = set(), ["data_prep.collect.commands"]
    top_level = {"argparse"}
    while waiting:
        current = waiting.pop()
        if current in MODULES and current not in seen:
            seen.add(current)
            waiting += _at_the_top(current)
        top_level.add(current.split(".")[0])
    assert not top_level & {"starlette", "uvicorn", "itsdangerous", "argon2", "psycopg", "playwright"}


def _at_the_top(module: str) -> list[str]:
    """Imports outside of functions."""
    import ast

    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    found = []
    for node in tree.body:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found
