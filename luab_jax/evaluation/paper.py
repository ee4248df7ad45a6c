"""What "Neglected Free Lunch" (ICCV 2023, arXiv 2303.17595) reports, and which of its rows a run corresponds to."""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from luab_jax.data.class_lists import imagenet
from luab_jax.evaluation.report import Column

SOURCE = (
    "Han et al., Neglected Free Lunch, ICCV 2023 (arXiv 2303.17595); transcribed from its poster, where a few cells"
    " cannot be read"
)

_MODELS = {
    "resnet18": "R18",
    "resnet50": "R50",
    "resnet101": "R101",
    "resnet152": "R152",
    "vit_ti": "ViT-Ti",
    "vit_s": "ViT-S",
    "vit_b": "ViT-B",
}
_METHODS = {"none": "baseline", "random": "Rand", "timm": "baseline"}

Row = tuple[str, str, str]
"""Data set, model and method, as the paper writes them."""


@functools.cache
def paper_results() -> dict[Row, dict[str, float]]:
    """Percent by the paper's name of the column; what could not be read is absent."""
    text = resources.files("luab_jax.evaluation").joinpath("paper_results.csv").read_text(encoding="utf-8")
    rows: dict[Row, dict[str, float]] = {}
    for entry in csv.DictReader(line for line in text.splitlines() if not line.startswith("#")):
        row = rows.setdefault((entry["dataset"], entry["model"], entry["method"]), {})
        if entry["value"]:
            row[entry["metric"]] = float(entry["value"])
    return rows


def paper_rows(columns: Sequence[Column]) -> dict[int, tuple[Row, dict[str, float]]]:
    """The paper's rows, each at the position of the first run that corresponds to it."""
    found: dict[Row, int] = {}
    for run, column in enumerate(columns):
        row = counterpart(column.results[0]["checkpoint"])
        if row is not None:
            found.setdefault(row, run)
    return {run: (row, paper_results()[row]) for row, run in found.items()}


def counterpart(checkpoint: Mapping[str, Any]) -> Row | None:
    """The paper's row of this architecture, data set and method; None for a model of other classes.

    timm's weights, which were trained by another recipe, stand beside the paper's baseline.
    """
    name = checkpoint["model"].partition(".")[0]
    model = _MODELS.get(name) or _MODELS.get(_of_timm(name))
    if checkpoint["class_list_hash"] == imagenet().hash:
        dataset = "ImageNet-AB"
    elif checkpoint["dataset"] == "coco_ab":
        dataset = "COCO-AB"
    else:
        return None
    row = (dataset, model or "", _METHODS.get(checkpoint["target"], "LUAB"))
    return row if row in paper_results() else None


def _of_timm(name: str) -> str:
    """`vit_s` of `vit_small_patch16_224` and of DeiT's."""
    sizes = {"tiny": "vit_ti", "small": "vit_s", "base": "vit_b"}
    parts = name.split("_")
    is_known = parts[0] in ("vit", "deit") and parts[2:] == ["patch16", "224"]
    return sizes.get(parts[1], "") if is_known else ""
