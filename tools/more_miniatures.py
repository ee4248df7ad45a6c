"""Miniatures of the suites beyond the paper's tables, in the layout of what is downloaded, and of suites of one's own.

Beside `tools.miniatures`, whose suites the tests hold to plain loops; those of this file have tests of their own.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
from PIL import Image, ImageFont
from pyarrow import parquet

from data_prep.__main__ import main as data_prep
from data_prep.datasets.suites import C_BAR, THREE_D
from luab_jax.data.label_tables import FACTORS, IMAGENET_D, IMAGENET_O, PERTURBATION_SIDE, PERTURBATIONS, SIXTEEN
from tools.miniatures import IDS, Miniatures, draw, prepare_suite, write

FONT = "font.otf"
"""Pillow's own, which has none of the watermark's characters: boxes stand for them."""


def add_more(made: Miniatures, root: Path) -> None:
    """Prepares them below `made.data`, and leaves a font for `--font` in `root`."""
    rng = np.random.default_rng(1)
    val = root / "ILSVRC2012_img_val"
    names = [raw.path for raw, _ in made.images["val"]]
    labels = [IDS[made.val_label(raw)] for raw, _ in made.images["val"]]
    (root / FONT).write_bytes(_font())
    _cue_conflict(root / "cue-conflict", root / "raw-data", made.data, rng)
    _videos(root / "ImageNet-P", made.data, rng)
    _parquet(root / "imagenet-hard" / "data", made.data, rng)
    _counteranimal(root / "LAION-final", made.data, rng)
    _imagenet_d(root / "ImageNet-D", made.data, rng)
    _corruptions(root, made.data, rng)
    _masks(root / "hardImageNet", dict(zip(names, labels, strict=True)))
    prepare_suite("hard_imagenet", val, made.data, f"--masks={root / 'hardImageNet'}")
    prepare_suite("imagenet_w", val, made.data, f"--font={root / FONT}")
    prepare_suite("imagenet_x", val, made.data, f"--factors={_factors(root / 'imagenet_x.jsonl', names, rng)}")
    for i in range(40):
        write(root / "train", f"{IDS[IMAGENET_O[i]]}/{IDS[IMAGENET_O[i]]}_{i}.JPEG", draw(rng, 64, 60))
    _run("imagenet_ab", f"--images={root / 'train'}", "--split=train", f"--out={made.data / 'imagenet_ab'}")
    own = (f"--from={made.data / 'imagenet_localisation'}", "--split=val", f"--out={made.data}")
    _run("backgrounds", *own)
    _run("corruptions", *own, "--kinds=brightness,contrast", "--severities=1,3")
    _run("occlusions", *own)
    with_masks = (f"--from={made.data / 'hard_imagenet'}", "--split=original", f"--out={made.data}")
    _run("grids", *with_masks, "--places=2", "--per_class=1", "--kinds=size,position")


def _run(*words: str) -> None:
    assert data_prep([*words, "--workers=1"]) == 0


def _font() -> bytes:
    font = ImageFont.load_default(36)
    assert isinstance(font, ImageFont.FreeTypeFont) and isinstance(font.path, io.BytesIO)
    return font.path.getvalue()


def _cue_conflict(source: Path, people: Path, data: Path, rng: np.random.Generator) -> None:
    """With the answers of two people."""
    names, rows = list(SIXTEEN), []
    for i in range(24):
        shape, texture = names[i % 16], names[int(rng.integers(16))]
        write(source, f"{shape}/{shape}{i}-{texture}1.png", draw(rng, 64, 64))
        rows.append((shape, f"{i:04d}_cue_{shape}{i}-{texture}1.png"))
    people.mkdir()
    for subject in ("subject-01", "subject-02"):
        lines = ["subj,Session,trial,rt,object_response,category,condition,imagename"]
        for i, (shape, name) in enumerate(rows, 1):
            said = shape if rng.random() < 0.6 else names[int(rng.integers(16))]
            lines.append(f"{subject},1,{i},0.7,{said},{shape},0,{name}")
        (people / f"cue-conflict_{subject}_session_1.csv").write_text("\n".join(lines))
    prepare_suite("cue_conflict", source, data, f"--humans={people}")


def _videos(source: Path, data: Path, rng: np.random.Generator) -> None:
    """One of each perturbation of the test set."""
    for i, kind in enumerate(list(PERTURBATIONS)[:10]):
        path = source / kind / IDS[i] / f"ILSVRC2012_val_{i + 1:08d}.mp4"
        path.parent.mkdir(parents=True)
        side = PERTURBATION_SIDE
        film = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 1, (side, side))
        frame = draw(rng, side, side).astype(np.float64)
        for _ in range(PERTURBATIONS[kind]):
            film.write(np.clip(frame, 0, 255).astype(np.uint8))
            frame += rng.normal(0, 4, 3)
        film.release()
    prepare_suite("imagenet_p", source, data)


def _parquet(source: Path, data: Path, rng: np.random.Generator) -> None:
    source.mkdir(parents=True)
    images = []
    for _ in range(12):
        buffer = io.BytesIO()
        Image.fromarray(draw(rng, 70, 60)).save(buffer, "PNG")
        images.append({"bytes": buffer.getvalue(), "path": None})
    columns = {"image": images, "label": [[int(k) for k in rng.integers(1000, size=2)] for _ in images],
               "origin": [("imagenet_a", "objectnet")[i % 2] for i in range(12)]}  # fmt: skip
    parquet.write_table(pa.table(columns), source / "validation-00000-of-00001.parquet")
    prepare_suite("imagenet_hard", source, data)


def _counteranimal(source: Path, data: Path, rng: np.random.Generator) -> None:
    for i in range(16):
        folder = f"{80 + i % 2} a bird/{('common-snow', 'counter-grass')[i // 2 % 2]}"
        write(source, f"{folder}/{i}.jpeg", draw(rng, 64, 60))
    prepare_suite("counteranimal", source, data)


def _imagenet_d(source: Path, data: Path, rng: np.random.Generator) -> None:
    for i in range(12):
        attribute = ("background", "texture", "material")[i % 3]
        write(source, f"{attribute}/{list(IMAGENET_D)[i]}/{i}.png", draw(rng, 64, 60))
    prepare_suite("imagenet_d", source, data)


def _corruptions(root: Path, data: Path, rng: np.random.Generator) -> None:
    """One image of each kind and severity."""
    for name, kinds in (("imagenet_c_bar", C_BAR), ("imagenet_3dcc", THREE_D)):
        for kind in kinds:
            for severity in range(1, 6):
                wnid = IDS[int(rng.integers(1000))]
                write(root / name, f"{kind}/{severity}/{wnid}/v.JPEG", draw(rng, 224, 224))
        prepare_suite(name, root / name, data)


def _masks(source: Path, wnid_of: dict[str, str]) -> None:
    """Of every second image."""
    (source / "val").mkdir(parents=True)
    for i, (name, wnid) in enumerate(wnid_of.items()):
        mask = np.zeros((50, 60), np.uint8)
        mask[8 + i % 5 : 30, 10 : 40 - i % 7] = 255
        if i % 2:
            Image.fromarray(mask).save(source / "val" / f"{wnid}_{Path(name).name}", "PNG")


def _factors(file: Path, names: list[str], rng: np.random.Generator) -> Path:
    rows = [{"file_name": Path(name).name, **{f: int(rng.random() < 0.5) for f in FACTORS}} for name in names]
    file.write_text("\n".join(map(json.dumps, rows)))
    return file
