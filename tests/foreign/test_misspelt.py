"""What `--checkpoint` probably meant, where it names no kind of model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import luab_jax
from luab_jax.errors import UserError


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("models/tiny.onnx", r"did you mean onnx:models/tiny\.onnx\?"),
        ("mine.py", r"did you mean python:mine\.py:FUNCTION\?"),
        ("ONNX:tiny.bin", r"no kind 'ONNX' of model; did you mean onnx:tiny\.bin\?"),
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
