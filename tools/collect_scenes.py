"""Pictures for screenshots, drawn by a browser: landscapes with the project's own icons on them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from luab_jax.data.coco_classes import CATEGORY_IDS

ICONS = Path(__file__).resolve().parents[1] / "data_prep" / "collect" / "icons"
CLASSES = {
    "cat": "a small domestic animal that purrs and keeps to itself",
    "dog": "a domestic animal that barks and wags its tail",
    "sheep": "a woolly animal that grazes in flocks",
}
SCENES = (
    ("#bfe3ff", "#d8f0d0", "#7fb069", 62),
    ("#ffd9b0", "#ffe9cf", "#d7a86e", 58),
    ("#cfd8e8", "#e6ebf4", "#9aa9c0", 66),
    ("#f6d6e0", "#fbe9ef", "#c98ea4", 70),
    ("#2b3a55", "#4a5d82", "#20283a", 64),
)
"""Sky above, sky below, ground, and where the ground begins (%)."""
SIZES = ((500, 375), (375, 500), (500, 333), (400, 400))
Things = dict[str, dict[str, tuple[float, float]]]
"""Of each picture, by file name: what is on it, and where, as fractions."""


class Painter:
    """Draws scenes as JPEG files: icons on a landscape."""

    def __init__(self, browser: Any):
        self._page = browser.new_page()
        self._icons = {path.stem.replace("-", " "): path.read_text() for path in ICONS.glob("*.svg")}

    def draw(self, path: Path, names: list[str], size: tuple[int, int], rng: random.Random) -> dict[str, list[float]]:
        """Writes one picture; returns the box of each icon as x, y, width, height in px."""
        width, height = size
        above, below, ground, horizon = rng.choice(SCENES)
        boxes, parts = {}, []
        for k, name in enumerate(names):
            side = rng.uniform(0.3, 0.5) * min(size)
            room = width / len(names)  # each icon has its part of the width
            x = min(k * room + rng.uniform(0.05, 0.5) * room, width - side)
            y = rng.uniform(0.3, 0.95 - side / height) * height
            boxes[name] = [round(v, 1) for v in (x, y, side, side)]
            style = f"left:{x}px;top:{y}px;width:{side}px;transform:rotate({rng.uniform(-8, 8)}deg)"
            parts.append(f'<div style="position:absolute;{style}">{self._icons[name]}</div>')
        sky = f"linear-gradient({above},{below} {horizon}%,{ground} {horizon}%)"
        self._page.set_viewport_size({"width": width, "height": height})
        self._page.set_content(f'<body style="margin:0;height:100vh;overflow:hidden;background:{sky}">{"".join(parts)}')
        path.parent.mkdir(parents=True, exist_ok=True)
        self._page.screenshot(path=path, type="jpeg", quality=82)
        return boxes


def middles(boxes: dict[str, list[float]], size: tuple[int, int]) -> dict[str, tuple[float, float]]:
    """The middle of each box, as fractions of the picture."""
    return {c: ((x + w / 2) / size[0], (y + h / 2) / size[1]) for c, (x, y, w, h) in boxes.items()}


def paint_classes(painter: Painter, root: Path, number: int) -> Things:
    """`number` pictures of each class, one animal each."""
    things: Things = {}
    for name in CLASSES:
        for k in range(number):
            rng = random.Random(f"{name} {k}")
            size = rng.choice(SIZES)
            boxes = painter.draw(root / name / f"{name}_{k}.jpg", [name], size, rng)
            things[f"{name}_{k}.jpg"] = middles(boxes, size)
    return things


def paint_coco(painter: Painter, root: Path, number: int) -> tuple[Path, Things]:
    """Pictures of three things, and the instances file that knows where they are."""
    images, annotations, things = [], [], {}
    groups = (["person", "dog", "frisbee"], ["cat", "couch", "tv"], ["cup", "laptop", "book"], ["car", "person", "bus"])
    for k in range(number):
        rng = random.Random(f"coco {k}")
        size, name = rng.choice(((640, 480), (600, 450))), f"COCO_train2014_{k + 1:012d}.jpg"
        boxes = painter.draw(root / name, list(groups[k % len(groups)]), size, rng)
        things[name] = middles(boxes, size)
        images.append({"id": k + 1, "file_name": name, "width": size[0], "height": size[1]})
        for c, box in boxes.items():
            facts = {"id": len(annotations) + 1, "image_id": k + 1, "category_id": CATEGORY_IDS[c], "bbox": box}
            annotations.append(facts | {"iscrowd": 0, "area": box[2] * box[3], "segmentation": []})
    categories = [{"id": i, "name": name} for name, i in CATEGORY_IDS.items()]
    path = root.with_name("instances.json")
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path, things
