"""The smallest data and experiment that are still real: prepared shards of drawn images, a ResNet of two blocks."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.writing.publish import prepare
from data_prep.writing.shards import Outcome, Plan
from luab_jax.byproducts.records import Box, Hover, ImageRecord, Showing, TimedPoint
from luab_jax.byproducts.targets import Target
from luab_jax.config import ByproductConfig, Config, DataConfig, LogConfig, OptimConfig, Optimizer
from luab_jax.data.class_lists import ClassList
from luab_jax.data.transforms import Preprocessing
from luab_jax.models.config import Dtype, ModelConfig, Stem

CLASSES = ClassList(("red", "green", "blue"), ("red", "green", "blue"))
SIDE = 16


class Drawn:
    """One image to prepare: a bright spot of the class's colour, clicked in its middle."""

    def __init__(self, index: int, group: str = "", labels: tuple[int, ...] = ()):
        self.file_name = f"{CLASSES.ids[index % 3]}/{index:04d}.png"
        self.index, self.group, self.labels = index, group, labels

    def __repr__(self) -> str:
        return f"Drawn({self.index}, {self.group}, {self.labels})"


def draw(item: Drawn) -> Outcome:
    """A pure function of the item, as a preparation wants it."""
    rng = np.random.default_rng(item.index)
    label = item.index % 3
    pixels = rng.integers(0, 80, (24, 30, 3), np.uint8)
    x, y = int(rng.integers(4, 26)), int(rng.integers(4, 20))
    pixels[y - 4 : y + 4, x - 4 : x + 4, label] = 250
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    record = ImageRecord(
        file_name=item.file_name,
        image=buffer.getvalue(),
        height=24,
        width=30,
        label=label,
        labels=item.labels,
        group=item.group,
        boxes=(Box(x_min=(x - 4) / 30, y_min=(y - 4) / 24, x_max=(x + 4) / 30, y_max=(y + 4) / 24, label=label),),
        showings=(simulate(x / 30, y / 24, label),),
    )
    return Outcome(record, {"images": 1}, ())


def simulate(x: float, y: float, label: int) -> Showing:
    """The pointer comes from the left, waits there and then on the spot, and clicks; all but the place is of the class.

    Class c is clicked (c + 1)² tenths of a second after the pointer came, c times taken back, by an annotator of its
    own.
    """
    clicked_ms = 100 * (label + 1) ** 2
    return Showing(
        selected=True,
        clicks=tuple(TimedPoint(x, y, clicked_ms + 10 * again) for again in range(label + 1)),
        trace=tuple(TimedPoint(x * i / 4, y + (4 - i) / 24, clicked_ms * i // 5) for i in range(5)),
        hovers=(Hover(entered=True, time_ms=0),),
        worker_id=f"SIMULATED_{label}",
    )


def prepare_split(
    directory: Path,
    split: str,
    num_images: int,
    *,
    items: list[Drawn] | None = None,
    num_shards: int = 2,
    read: Callable[[Drawn], Outcome] = draw,
) -> Path:
    """Writes a prepared split through data_prep's own writer."""
    plan = Plan(
        directory=directory,
        dataset="tiny",
        split=split,
        classes=CLASSES,
        items=items or [Drawn(i) for i in range(num_images)],
        read=read,
        num_shards=num_shards,
        source={},
    )
    prepare(plan, workers=1, strict=True)
    return directory


def prepare_data(directory: Path, num_train: int = 32, num_val: int = 13) -> Path:
    """A train and a val split; the latter divides by nothing."""
    prepare_split(directory, "train", num_train)
    return prepare_split(directory, "val", num_val)


def experiment(root: Path, **changes: object) -> Config:
    """A config that trains in seconds; `changes` replace top-level fields."""
    fields: dict[str, object] = {
        "total_steps": 6,
        "batch_size": 8,
        "model": ModelConfig(
            name="resnet18", width=4, stage_sizes=(1, 1), stem=Stem.PATCH, compute_dtype=Dtype.FLOAT32
        ),
        "data": DataConfig(
            root=str(root),
            crop_scale=(0.5, 1.0),
            preprocessing=Preprocessing(image_size=SIDE, resize_side=SIDE),
            num_threads=2,
            prefetch_examples=16,
        ),
        "byproduct": ByproductConfig(target=Target.CLICK_LAST, weight=2.0),
        "optim": OptimConfig(name=Optimizer.SGD, learning_rate=0.05, warmup_epochs=0.5),
        "log": LogConfig(every_steps=2, tensorboard=False),
        "compilation_cache": os.environ.get("LUAB_JAX_TEST_CACHE", ""),
    }
    return Config(**(fields | changes))  # pyright: ignore[reportArgumentType]
