"""What publishers of suites left: videos, parquet files, people's answers, factors, tables of images."""

from __future__ import annotations

import io
import json
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from data_prep.annotations.image_tables import Columns, read_image_table
from data_prep.annotations.imagenet_ab import fractions
from data_prep.datasets import imagenet_hard, imagenet_p
from data_prep.datasets.factors import read_factors
from data_prep.datasets.humans import attach_answers
from data_prep.datasets.listing import Item, Listing
from data_prep.sources.tree import Span
from luab_jax.byproducts.records import Size
from luab_jax.data.label_tables import FACTORS, PERTURBATION_SIDE
from tools.fuzz import mutations as m
from tools.fuzz.reader import JSON_TOKENS, Reader

_KIND = "tilt"


def videos(scratch: Path) -> Reader:
    """`frames_of`: ImageNet-P's mp4 files, whose frames become the image of a record."""
    path, side = scratch / "seed.mp4", PERTURBATION_SIDE
    film = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 1, (side, side))
    for k in range(31):
        film.write(np.full((side, side, 3), 8 * k, np.uint8))
    film.release()
    seeds = [path.read_bytes()]

    def read(data: bytes) -> None:
        frames = imagenet_p.frames_of(data, 31)
        imagenet_p.check_frames(frames, _KIND)
        assert np.concatenate(frames).shape == (31 * side, side, 3)

    return Reader(seeds, (*m.of_bytes(seeds), m.flip), read)


def parquet_files(scratch: Path) -> Reader:
    """ImageNet-Hard: its rows, and the tar of its images."""
    seeds = [_table(column) for column in ("struct", "binary")]
    source, out = scratch / "rows.parquet", scratch / "out"

    def read(data: bytes) -> None:
        source.write_bytes(data)
        rows = imagenet_hard.open_rows(str(source))
        for origin in rows.origins:
            origin.encode()
        tar = imagenet_hard.tar_of(rows, out)
        tar.unlink()

    return Reader(seeds, (*m.of_bytes(seeds), m.flip, _odd_parquet), read)


def _table(images: str, labels: object = None) -> bytes:
    png = io.BytesIO()
    Image.new("RGB", (4, 4)).save(png, "PNG")
    column = [{"bytes": png.getvalue(), "path": None}] * 4 if images == "struct" else [png.getvalue()] * 4
    columns = {"image": column, "label": labels or [[1, 2]] * 4, "origin": ["imagenet_a", "objectnet"] * 2}
    written = io.BytesIO()
    parquet.write_table(pa.table(columns), written, row_group_size=2)
    return written.getvalue()


def _odd_parquet(data: bytes, rng: Random) -> bytes:
    """A whole file whose columns are of other types, or whose rows say something else."""
    del data
    labels = rng.choice(([[-1]] * 4, [[]] * 4, [None] * 4, ["1"] * 4, [1.5] * 4, [[2**40]] * 4, [[[1]]] * 4))
    return _table(rng.choice(("struct", "binary")), labels)


def people(scratch: Path) -> Reader:
    """Answers of a subject to cue-conflict images."""
    head = "subj,Session,trial,rt,object_response,category,condition,imagename\n"
    rows = "".join(f"subject-01,1,{k},0.7,cat,cat,0,{k:04d}_cue_cat{k}-dog1.png\n" for k in range(4))
    seeds = [f"{head}{rows}".encode(), f"{head}{rows}".replace(",cat,cat", ",na,cat").encode()]
    folder = scratch / "people"
    folder.mkdir()

    def read(data: bytes) -> None:
        (folder / "cue-conflict_subject-01_session_1.csv").write_bytes(data)
        listing = Listing()
        listing.items = [Item("cat/cat1-dog1.png", 0, Span(0, 1))]
        attach_answers(listing, str(folder))
        for item in listing.items:
            item.group.encode()

    return Reader(seeds, m.of_text(seeds, (b"na", b",,,", b'"', b"\0", b"\xff", b"=", b"+", b"\xef\xbb\xbf")), read)


def factor_lines(scratch: Path) -> Reader:
    """ImageNet-X's JSON lines."""
    row = {"file_name": "ILSVRC2012_val_00000001.JPEG", "class": 0, **dict.fromkeys(FACTORS, 0), "pose": 1}
    seeds = [(json.dumps(row) + "\n").encode() * 2]
    path = scratch / "x.jsonl"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        for name, factors in read_factors(str(path)).items():
            name.encode()
            assert set(factors.split("+")) <= {"", *FACTORS}

    return Reader(seeds, (*m.of_text(seeds, JSON_TOKENS), m.odd_json, m.odd_json), read)


def image_tables(scratch: Path) -> Reader:
    """`data_prep folder --annotations`: as CSV and as JSON lines."""
    rows = [{"image": f"{k}.jpg", "y": "cat|dog", "place": "sea", "boxes": [[0, 0, 3, 4]], "mask": ""} for k in "ab"]
    head = "image,y,place,x_min,y_min,x_max,y_max,mask\n"
    seeds = [
        f"{head}a.jpg,cat,sea,0,0,3,4,a.png\nb.jpg,dog,land,,,,,\n".encode(),
        "".join(json.dumps(row) + "\n" for row in rows).encode(),
    ]
    paths = scratch / "images.csv", scratch / "images.jsonl"
    columns = Columns(file_name="image", label="y", groups=("place",))

    def read(data: bytes) -> None:
        path = paths[data.lstrip().startswith(b"{")]
        path.write_bytes(data)
        for name, row in read_image_table(path, columns).items():
            "".join((name, row.group, row.mask, *(row.labels or ()))).encode()
            for box in row.boxes:
                fractions(box.edges(), Size(8, 6))

    tokens = (*JSON_TOKENS, b'"', b"\r", b"\0", b",,,", b"|", b"nan", b"\xef\xbb\xbf")
    return Reader(seeds, (*m.of_text(seeds, tokens), m.odd_json, m.odd_json), read)
