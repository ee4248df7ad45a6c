"""Raw data made by the tests, and the shared data where it is at hand."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED_DATA = Path(os.environ.get("LUAB_JAX_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
CLASSES = ("cat", "dog")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared test data; skips the test where it is absent."""
    if not (SHARED_DATA / "imagenet_ab_mini").is_dir():
        pytest.skip(f"no test data at {SHARED_DATA}; set LUAB_JAX_TEST_DATA to the folder of imagenet_ab_mini")
    return SHARED_DATA


def image_bytes(seed: int = 0, *, size: tuple[int, int] = (8, 6), kind: str = "JPEG", **save: object) -> bytes:
    """An encoded image of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **save)
    return buffer.getvalue()


def record_xml(tag: str, x: object, y: object, time: object = 1641244077060) -> str:
    return f"<{tag}><time>{time}</time><x>{x}</x><y>{y}</y></{tag}>"


def metadata_xml(
    image_id: str, *, selected: str = "True", clicks: str | None = None, trace: str = "", extra: str = ""
) -> str:
    """One showing, with a click at (0.25, 0.75) unless told otherwise."""
    clicks = record_xml("selectedRecord", 0.25, 0.75) if clicks is None else clicks
    return (
        f"<metadata><estimateTime>700</estimateTime><imageID>{image_id}</imageID>{extra}"
        f"{trace or '<mouseTracking>None</mouseTracking>'}<selected>{selected}</selected>{clicks}"
        "<worker_id>W1</worker_id></metadata>"
    )


def annotation_xml(*parts: str, root: str = "annotation") -> bytes:
    return f"<{root}><filename>x</filename>{''.join(parts)}</{root}>".encode()


class RawData:
    """A small raw data set: class folders of images, and an XML with one good click for most of them."""

    def __init__(self, root: Path, per_class: int):
        self.images, self.byproducts = root / "images", root / "xml"
        self.classes = root / "classes.txt"
        self.classes.write_text("".join(f"{name}\tthe {name}\n" for name in CLASSES))
        for label, name in enumerate(CLASSES):
            (self.images / name).mkdir(parents=True)
            (self.byproducts / name).mkdir(parents=True)
            for k in range(per_class):
                (self.images / name / f"{name}_{k}.JPEG").write_bytes(image_bytes(1000 * label + k))
                if k % 4 != 3:
                    xml = annotation_xml(metadata_xml(f"{name}/{name}_{k}"))
                    (self.byproducts / name / f"{name}_{k}.xml").write_bytes(xml)

    def arguments(self, out: Path, *extra: str) -> list[str]:
        """A command line with small shards, in this process unless told otherwise."""
        workers = [] if any(a.startswith("--workers") for a in extra) else ["--workers=1"]
        return [
            "imagenet_ab",
            f"--images={self.images}",
            f"--byproducts={self.byproducts}",
            f"--classes={self.classes}",
            f"--out={out}",
            *workers,
            *extra,
        ]


@pytest.fixture
def make_raw(tmp_path: Path) -> Callable[..., RawData]:
    def make(per_class: int = 8, name: str = "raw") -> RawData:
        (tmp_path / name).mkdir()
        return RawData(tmp_path / name, per_class)

    return make


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that is gs://bucket, here and in spawned workers, which are given this process's `sys.path`."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "buckets"))
    monkeypatch.delitem(sys.modules, "gcsfs", raising=False)
    monkeypatch.setenv("LUAB_JAX_TEST_BUCKETS", str(tmp_path / "buckets"))
    classes = importlib.import_module("fsspec.registry")._registry
    before = {name: classes.pop(name) for name in ("gs", "gcs") if name in classes}
    (tmp_path / "buckets" / "bucket").mkdir(parents=True)
    yield tmp_path / "buckets" / "bucket"
    for name in ("gs", "gcs"):
        classes.pop(name, None)
    classes.update(before)
    sys.modules.pop("gcsfs", None)


def shard_bytes(directory: Path) -> dict[str, bytes]:
    """Everything that must be the same for the same input: shards and index."""
    return {p.name: p.read_bytes() for p in directory.iterdir() if ".tfrecord-" in p.name or p.name.endswith(".npz")}
