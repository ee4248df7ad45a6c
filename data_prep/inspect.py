"""What a prepared directory holds, as text: counts, byproduct coverage, clicks against boxes, annotators' times."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from data_prep.parallel import run_tasks
from luab_jax.byproducts.icons import IconRule, action_columns, class_points
from luab_jax.byproducts.records import Box, ImageRecord, TimedPoint
from luab_jax.data import dataset, storage, tfrecord
from luab_jax.data.features import Example
from luab_jax.data.storage import Place
from luab_jax.errors import DataError
from luab_jax.progress import Progress


@dataclass(slots=True)
class Statistics:
    """Sums over records; those of shards add up. Memory grows with the annotators, not with the images."""

    facts: Counter[str] = field(default_factory=Counter)
    clicks_per_image: Counter[int] = field(default_factory=Counter)
    images_per_label: Counter[int] = field(default_factory=Counter)
    worker_showings: Counter[str] = field(default_factory=Counter)
    worker_ms: Counter[str] = field(default_factory=Counter)

    def add(self, record: ImageRecord) -> None:
        selected = [showing for showing in record.showings if showing.selected]
        self.images_per_label.update(record.labels if record.label < 0 else [record.label])
        self.clicks_per_image[sum(len(showing.clicks) for showing in selected)] += 1
        self.facts["records"] += 1
        self.facts["image_bytes"] += len(record.image)
        self.facts["with_showing"] += bool(record.showings)
        self.facts["with_selected"] += bool(selected)
        self.facts["with_box"] += bool(record.boxes)
        self.facts["masks"] += sum(bool(box.mask) for box in record.boxes)
        self.facts["actions"] += sum(len(showing.actions) for showing in record.showings)
        self._add_icons(record)
        self.facts["trace_points"] += sum(len(showing.trace) for showing in record.showings)
        for showing in selected:
            if showing.clicks and record.boxes:
                self.facts["final_clicks_with_box"] += 1
                self.facts["final_clicks_in_box"] += any(_inside(showing.clicks[-1], box) for box in record.boxes)
        for showing in record.showings:
            self.facts["showings"] += 1
            if showing.time_spent_ms is not None:
                self.worker_showings[showing.worker_id] += 1
                self.worker_ms[showing.worker_id] += showing.time_spent_ms

    def _add_icons(self, record: ImageRecord) -> None:
        """Final points of present classes against the boxes of the class."""
        if not any(showing.actions for showing in record.showings):
            return
        points = class_points(IconRule.FINAL, action_columns(record.showings), max(record.labels, default=-1) + 1)
        for label in record.labels:
            x, y = points[label].tolist()
            if x == x:
                boxes = [box for box in record.boxes if box.label == label]
                self.facts["final_points"] += 1
                self.facts["final_points_in_box"] += any(_inside(TimedPoint(x, y, None), box) for box in boxes)

    def merge(self, other: Statistics) -> None:
        self.facts += other.facts
        self.clicks_per_image += other.clicks_per_image
        self.images_per_label += other.images_per_label
        self.worker_showings += other.worker_showings
        self.worker_ms.update(other.worker_ms)


def _inside(point: TimedPoint, box: Box) -> bool:
    return box.x_min <= point.x <= box.x_max and box.y_min <= point.y <= box.y_max


def inspect(directory: Place, *, workers: int) -> str:
    """Reads every record of every split; returns the report."""
    names = dataset.splits(directory)
    if not names:
        raise DataError(f"{directory}: no prepared split here (no <split>.manifest.json)")
    return "\n\n".join(_report(directory, split, workers) for split in names)


def _report(directory: Place, split: str, workers: int) -> str:
    manifest = dataset.read_manifest(directory, split)
    statistics = Statistics()
    paths = [directory / shard.file_name for shard in manifest.shards]
    with Progress(f"inspect {split}", manifest.num_records) as progress:
        for part in run_tasks(_read_shard, paths, workers=workers, name_of=lambda path: path.name):
            statistics.merge(part)
            progress.advance(part.facts["records"])
    title = f"{split} of {manifest.dataset}: {manifest.num_records:,} images in {len(manifest.shards)} shard(s)"
    if manifest.partial:
        title += f", PARTIAL: {manifest.expected_records:,} are published"
    if manifest.stored_smaller:
        title += f", images stored with {manifest.stored_smaller}"
    lines = [title] + [f"  {name:<24} {value}" for name, value in _rows(statistics, len(manifest.classes))]
    problems = Counter(skipped.reason for skipped in manifest.skipped)
    lines += [f"  {'skipped or damaged':<24} {count:,}: {reason}" for reason, count in sorted(problems.items())]
    return "\n".join(lines)


def _read_shard(path: Place) -> Statistics:
    statistics = Statistics()
    try:
        with storage.open_forwards(path) as file:
            for _, data in tfrecord.scan(file, str(path)):
                statistics.add(Example(data).record())
    except OSError as e:
        raise DataError(f"{path}: cannot be read ({e.strerror or e})") from e
    return statistics


def _rows(statistics: Statistics, num_classes: int) -> list[tuple[str, str]]:
    facts = statistics.facts
    total = max(facts["records"], 1)
    per_label = sorted(statistics.images_per_label.values()) or [0]
    present = len(statistics.images_per_label)
    clicks = statistics.clicks_per_image
    rows = [
        ("classes", f"{present} of {num_classes}, {per_label[0]:,} to {per_label[-1]:,} images each"),
        ("image bytes", f"{facts['image_bytes'] / 1e6:,.1f} MB, {facts['image_bytes'] / total / 1e3:.1f} kB each"),
        ("shown to an annotator", f"{facts['with_showing']:,} images, {facts['showings']:,} showings"),
        ("selected byproduct", f"{facts['with_selected']:,} ({facts['with_selected'] / total:.1%})"),
        ("clicks per image", ", ".join(f"{n}: {clicks[n]:,}" for n in sorted(clicks))),
        ("trace points", f"{facts['trace_points']:,}"),
        ("with a box", f"{facts['with_box']:,}"),
    ]
    if checked := facts["final_clicks_with_box"]:
        inside = facts["final_clicks_in_box"]
        rows.append(("final clicks in a box", f"{inside:,} of {checked:,} ({inside / checked:.1%})"))
    if facts["masks"]:
        rows.append(("masks", f"{facts['masks']:,}"))
    if facts["actions"]:
        rows.append(("icon actions", f"{facts['actions']:,}"))
    if points := facts["final_points"]:
        inside = facts["final_points_in_box"]
        rows.append(("final points in a box", f"{inside:,} of {points:,} ({inside / points:.1%})"))
    if workers := statistics.worker_showings:
        means = np.asarray([statistics.worker_ms[worker] / workers[worker] / 1000 for worker in workers])
        low, middle, high = np.percentile(means, [10, 50, 90])
        rows.append(("annotators", f"{len(workers):,}, median {int(np.median(list(workers.values()))):,} showings"))
        rows.append(
            ("mean time per showing", f"{middle:.2f} s for the median annotator, 10-90 %: {low:.2f} to {high:.2f} s")
        )
    return rows
