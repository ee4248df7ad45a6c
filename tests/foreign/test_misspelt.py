"""What `--checkpoint` probably meant, where it names no kind of model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import luab_jax
from luab_jax.errors import UserError
from luab_jax.foreign.misspelt import refuse_misspelt


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("models/tiny.onnx", r"did you mean onnx:models/tiny\.onnx\?"),
        ("mine.py", r"did you mean python:mine\.py:FUNCTION\?"),
        ("ONNX:tiny.bin", r"no kind 'ONNX' of model; did you mean onnx:tiny\.bin\?"),
        ("ONNX:model.onnx", r"did you mean onnx:model\.onnx\?"),
        ("ONNX:gs://b/m.onnx", r"did you mean onnx:gs://b/m\.onnx\?"),
        ("keras:Model.ONNX", r"did you mean onnx:Model\.ONNX\?"),
        ("model.py:load", r"did you mean python:model\.py:load\?"),
        ("torch.py:load", r"did you mean python:torch\.py:load\?"),
        ("path/model.py:load", r"did you mean python:path/model\.py:load\?"),
        ("pyton:model.py:load", r"did you mean python:model\.py:load\?"),
        ("prediction:PRED", r"did you mean predictions:PRED\?"),
        ("predictions:DIR", r"no model to load; run_suites takes 'predictions:DIR' itself"),
        ("tf:abc", r"no such folder, and no kind of model; those are timm:"),
        ("tim:resnet18:w", r"did you mean timm:resnet18:w\?"),
        ("hff:FOLDER", r"did you mean hf:FOLDER\?"),
        ("", r"is empty; name the workdir of a run or a model"),
        ("keras:FOLDER", r"no such folder, and no kind of model; those are timm:, onnx:, python:, torch:, hf:"),
        ("nowhere", r"nowhere: no such folder; is it the workdir of a run\?"),
        ("s3x://bucket/run", "s3x"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"classes": "classes.txt"}], ids=["alone", "with an option of such models"])
def test_a_kind_that_is_misspelt_or_missing_is_named(
    given: str, told: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if options and given in ("nowhere", "s3x://bucket/run"):
        told = "classes: for models of others alone"
    with pytest.raises(UserError, match=told) as error:
        luab_jax.load(given, **options)
    assert "\n" not in str(error.value)


def test_a_folder_in_the_layout_of_hugging_face_and_a_step_behind_a_workdir_are_recognised(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=f"did you mean hf:{tmp_path}"):
        luab_jax.load(tmp_path)
    with pytest.raises(UserError, match="step='best' beside checkpoint="):
        luab_jax.load(f"{tmp_path}:best")
    with pytest.raises(UserError, match=rf"no such folder; did you mean {tmp_path}\?$"):
        luab_jax.load(f"{tmp_path}:")


@pytest.mark.parametrize("name", ["run.onnx", "ONNX:run", "timn", "run.py:8"])
def test_a_workdir_may_have_any_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name / "checkpoints").mkdir(parents=True)
    refuse_misspelt(name, "timm:", "predictions:")


def test_a_folder_called_nearly_as_a_kind_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "timn").mkdir()
    with pytest.raises(UserError, match="step='best' beside checkpoint='timn'"):
        luab_jax.load("timn:best")
