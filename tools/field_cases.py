"""The cases of `field_cases/MANIFEST.md` that concern the data: what is run, and what was observed of it.

`python -m tools.observed` prints them as a table; tests/data_prep/test_field_cases.py says what must hold.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_prep.__main__ import main as data_prep
from luab_jax.byproducts.records import ImageRecord
from luab_jax.data.dataset import Manifest, open_split, splits
from luab_jax.data.decoding import decode
from luab_jax.data.features import Example
from luab_jax.data.transforms import EncodedImage, PixelBox, sample_crop
from luab_jax.errors import DataError


@dataclass(frozen=True, slots=True)
class Case:
    """One command of the manifest, run in the folder of its row; `{out}` stands for a fresh folder."""

    row: str
    folder: str
    command: str


CASES = {
    case.row: case
    for case in (
        Case(
            "01",
            "01_v2_boxes_by_bare_name",
            "suite imagenet_v2 --source=imagenetv2-threshold0.7-format-val --boxes=localization.txt --out={out}",
        ),
        Case("02", "02_png16_gray", "folder --source=src --out={out}"),
        Case("02, --max_side=60", "02_png16_gray", "folder --source=src --out={out} --max_side=60"),
        Case("02, --max_side=119", "02_png16_gray", "folder --source=src --out={out} --max_side=119"),
        *(
            Case(
                f"03, {labels}",
                "03_val_labels_silently_dropped",
                f"imagenet_ab --images=val --val_labels={labels} --split=val --out={{out}}{strict}",
            )
            for labels, strict in (
                ("vl_bom.txt", " --strict"),
                ("vl_missing.txt", " --strict"),
                ("LOC_val_solution.csv", " --strict"),
                ("timm1081.csv", " --strict"),
            )
        ),
        Case(
            "03, vl_missing.txt without --strict",
            "03_val_labels_silently_dropped",
            "imagenet_ab --images=val --val_labels=vl_missing.txt --split=val --out={out}",
        ),
        Case("04", "04_boxes_bom", "imagenet_ab --images=train --boxes=bx_bom.txt --out={out} --strict"),
        Case("05", "05_zip_backslashes", "imagenet_ab --images=win.zip --out={out} --strict"),
        Case(
            "06",
            "06_coco_no_annotations",
            "coco_ab --images=val2017 --instances=noann.json --split=val --out={out}",
        ),
        Case("06, suite", "06_coco_no_annotations", "suite coco --source=val2017 --instances=noann.json --out={out}"),
        Case(
            "07",
            "07_coco_ab_string_ids",
            "coco_ab --images=val2017 --instances=ok.json --byproducts=ab_fname.json --out={out} --strict",
        ),
        *(
            Case(
                f"08, {name}",
                "08_coco_no_sizes",
                f"coco_ab --images=val2017 --instances={name} --out={{out}} --strict",
            )
            for name in ("nosize.json", "zerosize.json")
        ),
        Case("12", "12_damaged_jpeg", "folder --source=photos --out={out}"),
        Case("12, --no_decode_check", "12_damaged_jpeg", "folder --source=photos --out={out} --no_decode_check"),
    )
}


@dataclass(slots=True)
class Observed:
    """What a command left behind."""

    code: int
    message: str
    """The last error, on one line."""
    printed: str
    manifest: Manifest | None = None
    records: dict[str, ImageRecord] = field(default_factory=dict)
    verified: int | None = None
    """Exit code of `verify` on what was prepared."""

    def boxes_in_pixels(self) -> dict[str, list[tuple[int, ...]]]:
        """x_min, y_min, x_max, y_max of each image."""
        return {
            name: [
                tuple(
                    round(edge * side)
                    for edge, side in zip(
                        (box.x_min, box.y_min, box.x_max, box.y_max), (record.width, record.height) * 2, strict=True
                    )
                )
                for box in record.boxes
            ]
            for name, record in self.records.items()
        }

    def means(self) -> list[float]:
        """Of the pixels as evaluation and as training decode them."""
        found = []
        for name, record in self.records.items():
            image = EncodedImage(record.image, name)
            for pixels in (np.asarray(decode(record.image, name)), image.region(PixelBox(0, 0, *image.size))):
                found.append(float(pixels.mean()))
        return found

    def __str__(self) -> str:
        if self.manifest is None:
            return f"exit {self.code}: {self.message}"
        facts = [f"exit {self.code}", f"{self.manifest.num_records} images"]
        if any(record.boxes for record in self.records.values()):
            facts.append("boxes " + "; ".join(f"{name} {found}" for name, found in self.boxes_in_pixels().items()))
        if any(record.showings for record in self.records.values()):
            facts.append(f"{sum(map(bool, (r.showings for r in self.records.values())))} with a byproduct")
        if any(record.image.startswith(b"\x89PNG") for record in self.records.values()) or self.manifest.stored_smaller:
            facts.append(f"mean {', '.join(f'{mean:.1f}' for mean in self.means())}")
        facts += [f"{s.file}: {s.reason}" for s in self.manifest.skipped]
        if self.verified is not None:
            facts.append(f"verify: exit {self.verified}")
        return "; ".join(facts)


def observe(case: Case, data: Path, out: Path) -> Observed:
    """Runs a case in its folder below `data` (that of the manifest)."""
    stdout, stderr = io.StringIO(), io.StringIO()
    arguments = case.command.format(out=out).split()
    with contextlib.chdir(data / case.folder), contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(stdout):
        code = data_prep([*arguments, "--workers=1"])
    errors = [line for line in stderr.getvalue().splitlines() if not line.startswith("prepare ")]
    observed = Observed(int(code), " ".join(errors).replace(f"{out}", "OUT"), stdout.getvalue())
    directory = next((path.parent for path in out.rglob("*.manifest.json")), None)
    if directory is not None:
        opened = open_split(directory, splits(directory)[0])
        observed.manifest = opened.manifest
        found = (Example(opened.records[i]).record() for i in range(len(opened.records)))
        observed.records = {record.file_name: record for record in found}
        with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(stdout):
            observed.verified = int(data_prep(["verify", str(directory), "--workers=1"]))
    return observed


def zero_height(data: Path) -> str:
    """Row 14: a training crop of a JPEG without rows."""
    path = data / "14_zero_height" / "zero_height.jpg"
    try:
        image = EncodedImage(path.read_bytes(), path.name)
        return f"a crop of {image.region(sample_crop(np.random.default_rng(0), image.size, (0.08, 1.0))).shape}"
    except DataError as e:
        return f"DataError: {e}"


def rows(data: Path, scratch: Path) -> Iterator[tuple[str, str, str]]:
    """Row of the manifest, command, observed."""
    for number, case in enumerate(CASES.values()):
        observed = observe(case, data, scratch / str(number))
        yield case.row, case.command.replace("{out}", "OUT"), str(observed)
    yield "14", "EncodedImage(zero_height.jpg), then a training crop", zero_height(data)
