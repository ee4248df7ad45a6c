"""What was right on a practice page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_prep.collect.summary import EXPECTED, is_inside
from data_prep.collect.tasks import Task


def judge_selection(task: Task, selected: list[int]) -> list[dict[str, Any]]:
    """Of each picture of a practice page: what was expected, and what came."""
    chosen = set(selected)
    return [
        {"index": index, "expected": EXPECTED[shown.role], "got": index in chosen}
        for index, shown in enumerate(task.pictures)
        if shown.role in EXPECTED
    ]


def judge_icons(task: Task, icons: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each class that is on the picture or was put there."""
    placed: Mapping[str, tuple[float, float]] = {icon["c"]: (icon["x"], icon["y"]) for icon in icons}
    feedback = []
    for name in sorted(task.gold.keys() | placed.keys()):
        inside = None
        if name in placed and task.gold.get(name):
            x, y = placed[name]
            inside = is_inside(task.gold[name], x, y)
        feedback.append({"c": name, "expected": name in task.gold, "got": name in placed, "inside": inside})
    return feedback
