"""Preparation beside cp: each contestant leaves what it should, and has a row."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import prepare_disk
from luab_jax.data.dataset import open_split


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a/1.JPEG", "a/2.JPEG", "b/3.JPEG"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(path)
    return tmp_path / "photos"


def test_every_contestant_has_a_row_and_brought_every_photo(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    brought, of_shards = {}, []
    timed = prepare_disk._seconds

    def counted(work, out: Path) -> float:
        def and_counted(out: Path) -> None:
            work(out)
            if out.is_file():
                brought["tar"] = out.stat().st_size
            elif (out / "a").is_dir():
                brought["folder"] = len(list(out.glob("*/*.JPEG")))
            else:
                of_shards.append(len(open_split(out, "train").records))

        return timed(and_counted, out)

    monkeypatch.setattr(prepare_disk, "_seconds", counted)
    monkeypatch.setattr(prepare_disk.os, "sync", lambda: None)  # waits for whatever else the machine writes
    monkeypatch.setattr(prepare_disk.os, "sched_getaffinity", lambda pid: {0})
    flags = [f"--photos={photos}", "--copies=2", "--rounds=1", f"--folder={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["prepare_disk", *flags])
    prepare_disk.main()
    num_bytes = 2 * sum(path.stat().st_size for path in photos.glob("*/*"))
    assert brought["folder"] == 6 and of_shards == [6, 6]  # with the check of every image, and without
    assert brought["tar"] > num_bytes
    table = capsys.readouterr().out
    assert f"6 photos, {num_bytes / 1e6:,.0f} MB" in table
    names = ("cp of the tar", "cp of the folder", "preparation", "preparation, --no_decode_check")
    assert [line.partition("  ")[0] for line in table.splitlines()[-4:]] == list(names)
