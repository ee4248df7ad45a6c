"""Older versions of results.json as the current one. Each function takes a version to the next.

Version 1 named scores and left their meaning to the reader, so the table of names is here, and only here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from luab_jax.results.architecture import changes
from luab_jax.results.score import COUNT, FRACTION, NUMBER, SIDE, Direction, Role

_V1_HIGHER = ("top1", "top5", "map", "auroc", "aupr", "bgc_accuracy", "max_box_acc", "box_acc", "inside_box")
_V1_HIGHER_PARTS = ("mixed_", "original")
_V1_LOWER = ("gap", "mce", "ece", "fpr95", "median_distance", "v_min", "v_avg")
_V1_HEADLINES = {
    "byproduct": "median_distance",
    "imagenet_o": "aupr",
    "backgrounds_challenge": "gap",
    "demo_backgrounds": "gap",
    "bgc_accuracy": "bgc_accuracy",
    "localisation": "max_box_acc_v2",
    "coco": "map",
    "coco_context": "v_min",
}
"""Of the other suites `top1`."""
_V1_GROUPS = {
    **dict.fromkeys(("byproduct", "localisation"), "Location"),
    **dict.fromkeys(("demo_size", "demo_position", "demo_rotation", "demo_corruptions", "demo_backgrounds"), "Demo"),
}
_V1_FOLLOWS_DATA = ("imagenet", "imagenet_real", "cocc", "byproduct", "localisation", "imagenet_c_generated")
"""Suites on the validation set of whatever data there is."""
_V1_IMAGENET = "385e02404994"
"""Hash of the list of ImageNet's 1,000 classes."""
_V1_DETAILS: dict[str, type] = {
    **dict.fromkeys(("kinds", "kinds_extra", "thresholds", "removal"), dict),
    **dict.fromkeys(("map", "generated"), str),
    "groups_missing": list,
}
_V1_NO_SCORE = (
    *(
        "n",
        "seconds",
        "partial",
        "stored_smaller",
        "absent_parts",
        "parts_left_out",
        "resized_from",
        "data_notes",
        "data",
    ),
    *("groups", "intervals", "interval_method", "protocols", "restricted"),
)


def from_version_1(content: Mapping[str, Any]) -> dict[str, Any]:
    """Raises `ValueError`, `TypeError`, `KeyError` or `AttributeError` for what is no version 1."""
    checkpoint = content["checkpoint"]
    suites = {name: _suite(name, suite, checkpoint) for name, suite in content["suites"].items()}
    kept = {name: content[name] for name in ("name", "preprocessing", "versions", "compilations") if name in content}
    return {
        "results_version": 2,
        "checkpoint": checkpoint,
        "suites": suites,
        "architecture": changes(checkpoint.get("experiment", {})),
        **kept,
    }


def _suite(name: str, suite: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    intervals, protocols = suite.get("intervals", {}), suite.get("protocols", {})
    method = suite.get("interval_method", "")
    if not isinstance(intervals, dict) or not isinstance(protocols, dict):
        raise TypeError(f"suite {name}: intervals or protocols are no object")
    scores: dict[str, Any] = {}
    details: dict[str, Any] = {}
    for key, value in suite.items():
        if key in _V1_NO_SCORE:
            continue
        if key in _V1_DETAILS and isinstance(value, _V1_DETAILS[key]):
            details[key] = value
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"suite {name}: {key} is {value!r:.60}, expected a number")
        scores[key] = _entry(key, value, headline=_V1_HEADLINES.get(name, "top1"))
        if key in intervals:
            low, high = map(float, intervals[key])
            if not low <= high:
                raise ValueError(f"suite {name}: the interval of {key} is [{low}, {high}]")
            # Percentiles of a biased statistic could leave the score outside; such an interval says nothing.
            if low <= value <= high:
                scores[key] |= {"interval": [low, high], "method": method}
        if key in protocols:
            scores[key]["protocol"] = protocols[key]
    follows_data = name in _V1_FOLLOWS_DATA and checkpoint["class_list_hash"] != _V1_IMAGENET
    title = checkpoint["dataset"] if name == "imagenet" else f"{checkpoint['dataset']} {name}"
    return {
        "n": suite["n"],
        "scores": scores,
        "title": title if follows_data else "",
        "group": _V1_GROUPS.get(name, ""),
        "weights": "average" if checkpoint.get("weights") == "ema" else "raw",
        "data": _data(suite),
        "groups": suite.get("groups", {}),
        "details": details,
        "seconds": suite.get("seconds"),
    }


def _entry(name: str, value: float | int, headline: str) -> dict[str, Any]:
    known = name.startswith((*_V1_HIGHER, *_V1_HIGHER_PARTS, *_V1_LOWER, "no_fg", "only_"))
    if name.split("_")[0] in ("n", "forward") or (isinstance(value, int) and not known):
        return {"value": value, "unit": COUNT, "role": Role.COUNT.value}
    unit = SIDE if "distance" in name else FRACTION if known else NUMBER
    direction = Direction.NONE
    if not name.endswith("_of_centre") and math.isfinite(value):
        up, down = name.startswith((*_V1_HIGHER, *_V1_HIGHER_PARTS)), name.startswith(_V1_LOWER)
        direction = Direction.HIGHER if up else Direction.LOWER if down else direction
    role = Role.HEADLINE if name == headline else Role.SCORE
    return {"value": value, "unit": unit, "direction": direction.value, "role": role.value}


def _data(suite: Mapping[str, Any]) -> dict[str, Any]:
    skipped: dict[str, int] = {}
    generated: list[str] = []
    notes: list[str] = []
    for of_part in suite.get("data_notes", {}).values():
        for name, value in of_part.items():
            if name == "skipped":
                for reason, count in value.items():
                    skipped[reason] = skipped.get(reason, 0) + count
            elif name == "generated":
                generated.append(str(value))
            else:
                notes.append(f"{name}: {value}")
    return {
        "identity": suite.get("data"),
        "partial": suite.get("partial", False),
        "stored_smaller": suite.get("stored_smaller", ""),
        "generated": "; ".join(dict.fromkeys(generated)),
        "restricted": suite.get("restricted", ""),
        "resized_from": suite.get("resized_from"),
        "skipped": skipped,
        "notes": list(dict.fromkeys(notes)),
        "absent": suite.get("absent_parts", []),
        "left_out": suite.get("parts_left_out", {}),
    }


UPGRADES: dict[int, Callable[[Mapping[str, Any]], dict[str, Any]]] = {1: from_version_1}
"""Version to the function that takes it to the next."""
