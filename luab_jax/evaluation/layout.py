"""The columns of a table in the paper's layout: suites side by side, in groups, one score of each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from luab_jax.data.class_lists import imagenet
from luab_jax.evaluation.report import Column, scalar_scores
from luab_jax.evaluation.suites import SUITES


class Heading(NamedTuple):
    """One column: which score of which suite, under which group."""

    group: str
    label: str
    suite: str
    score: str
    paper: str | None = None
    """The paper's name of the column, if it has it."""


_OF_THE_PAPER = (
    ("In distribution", "IN-1K", "imagenet", "top1"),
    ("In distribution", "IN-V2", "imagenet_v2", "top1"),
    ("In distribution", "IN-ReaL", "imagenet_real", "top1"),
    ("Shifted", "IN-A", "imagenet_a", "top1"),
    ("Shifted", "IN-C", "imagenet_c", "top1"),
    ("Shifted", "IN-O", "imagenet_o", "auroc"),
    ("Shifted", "IN-Sketch", "imagenet_sketch", "top1"),
    ("Shifted", "IN-R", "imagenet_r", "top1"),
    ("Shifted", "Cocc", "cocc", "top1"),
    ("Shifted", "ObjNet", "objectnet", "top1"),
    ("Object and background", "SI-size", "si_size", "top1"),
    ("Object and background", "SI-loc", "si_location", "top1"),
    ("Object and background", "SI-rot", "si_rotation", "top1"),
    ("Object and background", "BGC-gap", "backgrounds_challenge", "gap"),
    ("Object and background", "BGC-acc", "bgc_accuracy", "bgc_accuracy"),
    ("COCO", "mAP", "coco", "map"),
    ("COCO", "V_min", "coco_context", "v_min"),
    ("COCO", "V_avg", "coco_context", "v_avg"),
)
"""In the order of the paper's tables. IN-O is AUROC there (see paper_results.csv), the others are the headline."""

_HIGHER = (
    *("top1", "top5", "map", "auroc", "aupr", "bgc_accuracy", "max_box_acc", "box_acc", "inside_box"),
    *("mixed_", "original"),
)
_LOWER = ("gap", "mce", "ece", "fpr95", "median_distance", "v_min", "v_avg")


def direction(score: str) -> int:
    """1 if more is better, -1 if less is, 0 where neither holds: of the image's centre, or of a bare background."""
    if score.endswith("_of_centre"):
        return 0
    if score.startswith(_HIGHER):
        return 1
    return -1 if score.startswith(_LOWER) else 0


def arrow(score: str) -> str:
    """`↑` if more is better, `↓` if less is."""
    return {1: "↑", -1: "↓", 0: ""}[direction(score)]


def headings(columns: Sequence[Column], of_paper: Collection[str] = ()) -> list[Heading]:
    """The headline score of every suite in any result; the paper's columns in its order, also those in `of_paper`.

    A suite whose images are not the published ones (`imagenet_c [generated]`) is a column of its own, and not the
    paper's.
    """
    results = [result for column in columns for result in column.results]
    there: dict[str, dict[str, float]] = {}
    for result in results:
        for suite, scores in result["suites"].items():
            there.setdefault(suite, {}).update(scalar_scores(scores))
    is_imagenet = any(result["checkpoint"]["class_list_hash"] == imagenet().hash for result in results)
    shown: list[Heading] = []
    for group, label, base, score in _OF_THE_PAPER:
        own = "val" if base == "imagenet" and not is_imagenet else label
        if score in there.get(base, {}) or label in of_paper:
            shown.append(Heading(group, own, base, score, label))
        shown += [
            Heading(group, own + suite.removeprefix(base), suite, score)
            for suite, scores in there.items()
            if suite.startswith(f"{base} [") and score in scores
        ]
    placed = {heading.suite for heading in shown}
    headlines = {suite.name: suite.headline for suite in SUITES}
    for suite, scores in there.items():
        score = headlines.get(suite.partition(" [")[0], next(iter(scores), ""))
        if suite not in placed and score in scores:
            shown.append(Heading(_group(suite), _label(suite), suite, score))
    return sorted(shown, key=lambda heading: _GROUPS.index(heading.group))


_GROUPS = ("In distribution", "Shifted", "Object and background", "COCO", "Demo", "Others", "Location")
_PLACED = {
    "imagenet_c_generated": ("Shifted", "IN-C generated"),
    "localisation": ("Location", "MaxBoxAccV2"),
    "byproduct": ("Location", "point"),
}
"""Group and label of suites that the paper's tables do not have."""


def _group(suite: str) -> str:
    return _PLACED.get(suite.partition(" [")[0], ("Demo" if suite.startswith("demo_") else "Others", ""))[0]


def _label(suite: str) -> str:
    base, bracket, rest = suite.partition(" [")
    return _PLACED.get(base, ("", base.removeprefix("demo_")))[1] + bracket + rest
