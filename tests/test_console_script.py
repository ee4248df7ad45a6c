"""`luab-jax COMMAND ...` is `python -m ...` of that command."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest

from luab_jax import __main__ as console
from luab_jax.errors import ExitCode


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["luab-jax", *arguments])
    with pytest.raises(SystemExit) as stopped:
        console.main()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


@pytest.mark.parametrize("asked", [[], ["--help"], ["help"]])
def test_help_lists_every_command(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *asked) == ExitCode.DONE
    printed = capsys.readouterr().out
    assert all(name in printed for name in console.COMMANDS)


def test_an_unknown_command_is_wrong_usage_and_the_nearest_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "reprot") == ExitCode.USAGE
    assert "did you mean report?" in capsys.readouterr().err


def test_arguments_reach_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(console.runpy, "run_module", lambda module, **_: seen.append((module, sys.argv)))
    monkeypatch.setattr(sys, "argv", ["luab-jax", "data", "verify", "DATA"])
    console.main()
    assert seen == [("data_prep", ["luab-jax data", "verify", "DATA"])]


@pytest.mark.parametrize("module", [module for module, _ in console.COMMANDS.values()])
def test_every_command_is_there(module: str) -> None:
    spec = find_spec(module)
    assert spec is not None
    assert spec.submodule_search_locations is None or find_spec(f"{module}.__main__") is not None
