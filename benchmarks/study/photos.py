"""The photos of the study, prepared: `train`, `choose` and `val`, and training splits with fewer or noisier clicks.

Of every class the last tenth of the training photos is `choose`, by which λ is chosen, so that nothing is tuned on the
photos that are reported. Boxes of all splits are real; the clicks of this data are simulated.

    OUT/data/clicks/          train, choose, val: what most runs use, and what the suites are made of
    OUT/data/clicks_10/       train alone: a tenth of the photos keep their byproducts
    OUT/data/clicks_jitter_20 train alone: clicks moved by a normal of 20 % of the side, cut off at the border
    OUT/data/own_*            suites made of val by boxes: backgrounds, corruptions, occlusions
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.__main__ import main as data_prep
from luab_jax.errors import UserError

ARCHIVES = ("train.tar", "val.tar", "train_xml.tar.gz")
TRAIN, CHOOSE, VAL = "train", "choose", "val"
SHARE_TO_CHOOSE = 0.1
CORRUPTIONS = ("gaussian_noise", "defocus_blur", "fog", "contrast")
"""One or two of each of ImageNet-C's groups but the digital ones, which photos of 64 pixels hardly survive."""
OCCLUDED_PER_CLASS = 15
"""Each is shown once for every part that is hidden."""


@dataclass(frozen=True, slots=True)
class Clicks:
    """What becomes of the clicks of the training photos."""

    share: float = 1.0
    """Of the photos that keep their byproducts; a smaller share is part of a larger one."""
    jitter: float = 0.0
    """Standard deviation of what is added to both coordinates of a click, in fractions of the side."""

    @property
    def name(self) -> str:
        share = f"_{round(100 * self.share)}" if self.share < 1 else ""
        return f"clicks{share}" + (f"_jitter_{round(100 * self.jitter)}" if self.jitter else "")


def prepare(photos: Path, out: Path, wanted: list[Clicks], *, workers: int | None = None) -> None:
    """Prepares what is not prepared yet; `photos` is a folder in the layout of imagenet_ab_40. Raises `UserError`."""
    raw = out / "raw"
    complete = raw / "complete"
    if not complete.exists():
        if not (photos / "train_xml.tar.gz").exists():
            raise UserError(f"--photos={photos}: no train_xml.tar.gz there; expected the layout of imagenet_ab_40")
        _unpack(photos, raw)
        complete.write_text(_sizes(photos))
    elif photos.exists() and complete.read_text() not in (_sizes(photos), ""):  # "": of an older version
        raise UserError(f"--out={out}: it has other photos than those of --photos={photos}; choose another --out")
    everything = Clicks()
    processes = [] if workers is None else [f"--workers={workers}"]
    for split in (TRAIN, CHOOSE, VAL):
        _prepare_split(raw, out / "data" / everything.name, split, raw / "train_xml", processes)
    for clicks in wanted:
        if clicks != everything:
            annotations = raw / f"{clicks.name}_xml"
            if not (annotations / "complete").exists():
                _change(raw / "train_xml", annotations, clicks)
            _prepare_split(raw, out / "data" / clicks.name, TRAIN, annotations, processes)
    made_of = [f"--from={out / 'data' / everything.name}", f"--split={VAL}", f"--out={out / 'data'}", *processes]
    _done(["backgrounds", *made_of])
    _done(["corruptions", *made_of, f"--kinds={','.join(CORRUPTIONS)}", "--severities=3", "--quality=95"])
    _done(["occlusions", *made_of, f"--per_class={OCCLUDED_PER_CLASS}"])


def _unpack(photos: Path, raw: Path) -> None:
    """Files by split and class, boxes as one text for each split, the class list."""
    shutil.rmtree(raw, ignore_errors=True)
    raw.mkdir(parents=True)
    for archive in ARCHIVES:
        with tarfile.open(photos / archive) as tar:
            tar.extractall(raw, filter="data")
    for folder in sorted((raw / "train").iterdir()):
        images = sorted(folder.iterdir(), key=lambda path: int(path.stem.rpartition("_")[2]))
        kept = round(len(images) * SHARE_TO_CHOOSE)
        (raw / CHOOSE / folder.name).mkdir(parents=True)
        for image in images[len(images) - kept :]:
            image.rename(raw / CHOOSE / folder.name / image.name)
    shutil.copytree(photos / "boxes" / "train", raw / "boxes_train")
    shutil.copy(photos / "boxes" / "val.txt", raw / "boxes_val.txt")
    shutil.copy(photos / "classes.txt", raw / "classes.txt")


def _sizes(photos: Path) -> str:
    """By which other photos are known, wherever they lie."""
    return json.dumps({name: (photos / name).stat().st_size for name in ARCHIVES if (photos / name).exists()})


def _prepare_split(raw: Path, out: Path, split: str, annotations: Path, processes: list[str]) -> None:
    boxes = raw / ("boxes_val.txt" if split == VAL else "boxes_train")
    arguments = ["imagenet_ab", f"--images={raw / split}", f"--split={split}", f"--out={out}"]
    arguments += [f"--classes={raw / 'classes.txt'}", f"--boxes={boxes}", f"--byproducts={annotations}"]
    # Validation photos have no byproducts, and the rows of `choose` and `train` are in one table.
    _done([*arguments, "--min_match=0", *processes])


def _done(arguments: list[str]) -> None:
    """Carries out a command of data_prep, which leaves alone what it has finished."""
    code = data_prep(arguments)
    if code:
        raise UserError(f"data_prep {' '.join(arguments)} ended with exit code {int(code)}")


def _change(source: Path, target: Path, clicks: Clicks) -> None:
    shutil.rmtree(target, ignore_errors=True)
    for path in sorted(source.rglob("*.xml")):
        name = path.relative_to(source).as_posix()
        if _uniform(name) < clicks.share:
            changed = target / name
            changed.parent.mkdir(parents=True, exist_ok=True)
            changed.write_bytes(
                _jittered(path.read_bytes(), name, clicks.jitter) if clicks.jitter else path.read_bytes()
            )
    (target / "complete").touch()


def _uniform(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def _jittered(content: bytes, name: str, sigma: float) -> bytes:
    tree = ElementTree.parse(io.BytesIO(content))
    rng = np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))
    for x, y in _click_places(tree.getroot()):
        for place in (x, y):
            place.text = repr(float(np.clip(float(place.text or "nan") + rng.normal(0, sigma), 0, 1)))
    changed = io.BytesIO()
    tree.write(changed)
    return changed.getvalue()


def _click_places(annotation: ElementTree.Element) -> Iterator[tuple[ElementTree.Element, ElementTree.Element]]:
    for record in annotation.iter("selectedRecord"):
        x, y = record.find("x"), record.find("y")
        if x is not None and y is not None and x.text and y.text:
            yield x, y
