"""What "Neglected Free Lunch" (ICCV 2023, arXiv 2303.17595) reports, and which of its rows a run corresponds to."""

from __future__ import annotations

import csv
import functools
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

from luab_jax.report.runs import Experiment, Run
from luab_jax.results.foreign import Foreign
from luab_jax.results.format import Checkpoint, File

SOURCE = (
    "Han et al., Neglected Free Lunch, ICCV 2023 (arXiv 2303.17595); transcribed from its poster, where a few cells"
    " cannot be read"
)
IMAGENET_HASH = "385e02404994"
"""Of the list of ImageNet's 1,000 classes; `luab_jax.data.class_lists` makes it of the list itself."""
_SIDE = 224


class PaperColumn(NamedTuple):
    """A column of the paper's tables: which score of which suite it is."""

    group: str
    name: str
    suite: str
    score: str
    n: int
    """How many images (with all their versions) the published set has."""
    counted_in: str = ""
    """The suite whose n that is, where the suite itself counts something else."""


COLUMNS = (
    PaperColumn("In distribution", "IN-1K", "imagenet", "top1", 50_000),
    PaperColumn("In distribution", "IN-V2", "imagenet_v2", "top1", 10_000),
    PaperColumn("In distribution", "IN-ReaL", "imagenet_real", "top1", 46_837),
    PaperColumn("Shifted", "IN-A", "imagenet_a", "top1", 7_500),
    PaperColumn("Shifted", "IN-C", "imagenet_c", "top1", 15 * 5 * 50_000),
    PaperColumn("Shifted", "IN-O", "imagenet_o", "auroc", 12_000),
    PaperColumn("Shifted", "IN-Sketch", "imagenet_sketch", "top1", 50_889),
    PaperColumn("Shifted", "IN-R", "imagenet_r", "top1", 30_000),
    PaperColumn("Shifted", "Cocc", "cocc", "top1", 50_000),
    PaperColumn("Shifted", "ObjNet", "objectnet", "top1", 18_574),
    PaperColumn("Object and background", "SI-size", "si_size", "top1", 92_884),
    PaperColumn("Object and background", "SI-loc", "si_location", "top1", 541_548),
    PaperColumn("Object and background", "SI-rot", "si_rotation", "top1", 39_540),
    PaperColumn("Object and background", "BGC-gap", "backgrounds_challenge", "gap", 4_050),
    PaperColumn("Object and background", "BGC-acc", "bgc_accuracy", "bgc_accuracy", 4_050),
    PaperColumn("COCO", "mAP", "coco", "map", 40_504),
    PaperColumn("COCO", "V_min", "coco_context", "v_min", 40_504, "coco"),
    PaperColumn("COCO", "V_avg", "coco_context", "v_avg", 40_504, "coco"),
)
"""In the order of the paper's tables. IN-O is AUROC there (see paper_results.csv), the others are the headline."""

_MODELS = {
    "resnet18": "R18",
    "resnet50": "R50",
    "resnet101": "R101",
    "resnet152": "R152",
    "vit_ti": "ViT-Ti",
    "vit_s": "ViT-S",
    "vit_b": "ViT-B",
}
_METHODS = {"none": "baseline", "random": "matched Rand", "random_in_image": "Rand", Foreign.TIMM.value: "baseline"}
"""By target, LUAB for any other experiment. The paper has no row of a control that is matched to the clicks."""

Row = tuple[str, str, str]
"""Data set, model and method, as the paper writes them."""


@functools.cache
def paper_results() -> dict[Row, dict[str, float]]:
    """Percent by the paper's name of the column; what could not be read is absent."""
    text = resources.files("luab_jax.report").joinpath("paper_results.csv").read_text(encoding="utf-8")
    rows: dict[Row, dict[str, float]] = {}
    for entry in csv.DictReader(line for line in text.splitlines() if not line.startswith("#")):
        row = rows.setdefault((entry["dataset"], entry["model"], entry["method"]), {})
        if entry["value"]:
            row[entry["metric"]] = float(entry["value"])
    return rows


class Reported(NamedTuple):
    """A row of the paper beside a run."""

    row: Row
    values: dict[str, float]
    """Percent by the paper's name of the column, of the suites that the run has whole."""


def paper_rows(experiments: Sequence[Experiment]) -> tuple[dict[int, Reported], list[str]]:
    """The paper's rows, each at the position of the first run that corresponds to it; and why others have none."""
    found: dict[Row, tuple[int, dict[str, float]]] = {}
    reasons: list[str] = []
    for place, experiment in enumerate(experiments):
        run = experiment.runs[0]
        row = counterpart(run.checkpoint)
        if row is None:
            continue
        reason = _other_network(run.file)
        if run.checkpoint.weights == "ema":
            reason = "it is a moving average, and the paper's ViTs have the raw weights"
        whole = {} if reason else {name: v for name, v in paper_results()[row].items() if _is_whole(run, name)}
        if whole:
            found.setdefault(row, (place, whole))
        else:
            why = reason or "none of its suites is a whole published set"
            reasons.append(f"No row of the paper beside {experiment.name}: {why}.")
    return {place: Reported(row, values) for row, (place, values) in found.items()}, reasons


def counterpart(checkpoint: Checkpoint) -> Row | None:
    """The paper's row of this model by name, data set and method; None for a model of other classes or of others.

    timm's weights, which were trained by another recipe, stand beside the paper's baseline.
    """
    if checkpoint.is_foreign and checkpoint.target not in _METHODS:
        return None
    name = checkpoint.model.partition(".")[0]
    model = _MODELS.get(name) or _MODELS.get(_of_timm(name))
    if checkpoint.class_list_hash == IMAGENET_HASH:
        dataset = "ImageNet-AB"
    elif checkpoint.dataset == "coco_ab":
        dataset = "COCO-AB"
    else:
        return None
    row = (dataset, model or "", _METHODS.get(checkpoint.target, "LUAB"))
    return row if row in paper_results() else None


def _other_network(file: File) -> str:
    """In what a network is not the paper's, which has the presets at 224 pixels."""
    if file.architecture:
        return f"its network is another ({file.architecture})"
    side = file.preprocessing.get("image_size")
    return "" if side in (None, _SIDE) else f"its input has {side} pixels, the paper's {_SIDE}"


def _is_whole(run: Run, name: str) -> bool:
    """Whether the run has all published images of a column's suite, as they were published."""
    column = next((column for column in COLUMNS if column.name == name), None)
    if column is None or column.suite not in run.file.suites:
        return False
    suite, counted = run.file.suites[column.suite], run.file.suites.get(column.counted_in or column.suite)
    data = suite.data
    changed = data.partial or data.stored_smaller or data.generated or data.restricted or suite.title
    return not changed and counted is not None and counted.n == column.n


def _of_timm(name: str) -> str:
    """`vit_s` of `vit_small_patch16_224` and of DeiT's."""
    sizes = {"tiny": "vit_ti", "small": "vit_s", "base": "vit_b"}
    parts = name.split("_")
    is_known = parts[0] in ("vit", "deit") and parts[2:] == ["patch16", "224"]
    return sizes.get(parts[1], "") if is_known else ""
