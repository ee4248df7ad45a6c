"""Runs that were not trained alike are told so wherever they are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from luab_jax.report.render import Format, read, render
from luab_jax.report.training import training_notes
from luab_jax.results.format import to_json
from tests.report import made


def notes(*runs: tuple[str, dict[str, Any]], step: int = 3, chosen: str = "latest") -> list[str]:
    found = [made.run(target, experiment={"t": target, **config}, step=step, chosen=chosen) for target, config in runs]
    return training_notes(made.comparison(*found).experiments)


def test_what_differs_is_named_with_who_has_it() -> None:
    (line,) = notes(("none", {"epochs": 90.0, "batch_size": 256}), ("box", {"epochs": 30.0, "batch_size": 1024}))
    assert line == (
        "Not trained alike: training 90 epochs (resnet18 baseline), 30 epochs (resnet18 LUAB box λ=20);"
        " batch_size 256 (resnet18 baseline), 1,024 (resnet18 LUAB box λ=20)."
    )


def test_experiments_of_one_name_are_all_counted() -> None:
    runs = [made.run("none", experiment={"a": i, "epochs": epochs}) for i, epochs in enumerate((3.0, 9.0, 9.0))]
    experiments = made.comparison(*runs).experiments
    for of in experiments:
        of.name = "same"
    assert training_notes(experiments) == ["Not trained alike: training 3 epochs (same), 9 epochs (same; same)."]


@pytest.mark.parametrize("config", [{}, {"epochs": 90.0, "batch_size": 256}, {"epochs": "x", "total_steps": []}])
def test_runs_that_were_trained_alike_are_not_spoken_of(config: dict[str, Any]) -> None:
    assert notes(("none", config), ("box", config)) == []


def test_steps_override_epochs() -> None:
    assert notes(("none", {"epochs": 9.0, "total_steps": 3}), ("box", {"epochs": 5.0, "total_steps": 3})) == []


def test_a_run_that_was_stopped_is_named() -> None:
    config = {"total_steps": 3000}
    assert notes(("none", config), step=67) == ["resnet18 baseline: stopped at step 67 of 3,000."]
    assert notes(("none", config), step=3000) == notes(("none", config), step=67, chosen="best") == []


@pytest.mark.parametrize("format", [Format.TEXT, Format.MARKDOWN, Format.HTML, Format.LATEX])
def test_every_format_says_it(tmp_path: Path, format: Format) -> None:
    paths = []
    for target, epochs in (("none", 90.0), ("box", 30.0)):
        paths.append(tmp_path / f"{target}.json")
        paths[-1].write_text(to_json(made.run(target, experiment={"t": target, "epochs": epochs}).file))
    assert "Not trained alike: training 90 epochs" in render(read(paths), format)
