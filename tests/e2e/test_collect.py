"""From an annotator's click to a training crop and a report: the loop of docs/collect_loop.sh, and where points end."""

from __future__ import annotations

import io
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from data_prep.__main__ import main
from data_prep.collect.config import Config, Quality
from data_prep.collect.export import export
from data_prep.collect.plan import PlanOptions, plan
from data_prep.collect.setup_project import initialise
from data_prep.collect.tasks import PageRule
from data_prep.images import undo_exif_orientation
from luab_jax.byproducts.targets import Target
from luab_jax.data.dataset import open_split
from luab_jax.data.pipeline import Augmentation, Reading, train_batches
from luab_jax.errors import ExitCode
from luab_jax.results.read import read_results
from tests.data.test_points_stay import COLOURS, RADIUS, SIDE, canvas, is_colour, under
from tests.data_prep.collect.conftest import App, run
from tests.xla_flags import QUICK_TO_COMPILE

REPOSITORY = Path(__file__).resolve().parents[2]
ORIENTATION = 0x0112
SPOT = (0.3, 0.7)
"""Of the disc, as a browser shows the picture."""
SHOWN = (100, 76)


def turned(orientation: int, colour: tuple[int, int, int]) -> bytes:
    """A picture that browsers show at `SHOWN` with a disc at `SPOT`, stored under an EXIF orientation."""
    stored_size = SHOWN if orientation < 5 else SHOWN[::-1]
    image = canvas(stored_size, orientation)
    x, y = undo_exif_orientation(*SPOT, orientation)
    at = (x * stored_size[0], y * stored_size[1])
    ImageDraw.Draw(image).ellipse((at[0] - RADIUS, at[1] - RADIUS, at[0] + RADIUS, at[1] + RADIUS), fill=colour)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=98, subsampling=0, exif=exif)
    return buffer.getvalue()


def test_a_click_on_a_turned_photograph_is_on_the_same_spot_of_every_training_crop(tmp_path: Path) -> None:
    """All eight EXIF orientations, each in two classes; the annotator clicks on the disc that the browser shows."""
    pictures = tmp_path / "pictures"
    for label, name in enumerate(("red", "green")):
        (pictures / name).mkdir(parents=True)
        for orientation in range(1, 9):
            (pictures / name / f"{name}_{orientation}.jpg").write_bytes(turned(orientation, COLOURS[label]))
    config = Config(
        title="EXIF",
        task="imagenet",
        images=str(pictures),
        classes="own",
        practice=False,
        quality=Quality(min_control_score=0),
    )
    project, _ = initialise(tmp_path / "project", config, class_file=None)
    with project.open_store() as store:
        plan(project, store, PlanOptions(rule=PageRule(page_size=6, positive=0, negative=1), pages_per_hit=2))

        async def annotate(app: App) -> None:
            async with app.client() as client:
                annotator = app.annotator(client)
                page = await annotator.start()
                while page["state"] == "task":
                    task = app.site.cached_task(page["assignment"])
                    mine = [i for i, shown in enumerate(task.pictures) if shown.role == "candidate"]
                    assert all((p["width"], p["height"]) == SHOWN for p in page["pictures"])
                    events: list[dict[str, Any]] = annotator.loads(page)
                    events += [annotator.click(index, *SPOT) for index in mine]
                    events.append({"k": "submit", "t": annotator.time(), "selected": mine})
                    await annotator.post("/api/batch", annotator.batch(page, 0, events))
                    sent = {"assignment": page["assignment"], "tab": annotator.tab, "n": 0}
                    assert (await annotator.post("/api/submit", sent)).json()["complete"]
                    page = await annotator.next()

        run(annotate(App(project, store)))
        done = export(project, store, tmp_path / "export")
    assert main([*done.command[3:], "--workers=1"]) == ExitCode.DONE
    split = open_split(done.prepared, "train")
    batches = train_batches(
        split,
        augmentation=Augmentation(image_size=SIDE, crop_scale=(0.4, 1.0)),
        target=Target.CLICK_LAST,
        seed=3,
        batch_size=16,
        reading=Reading(num_threads=1),
    )
    seen = 0
    for batch in itertools.islice(batches, 12):
        for image, target, valid, label in zip(batch.images, batch.targets, batch.valid, batch.labels, strict=True):
            if valid[0]:
                colour = COLOURS[1 - int(label)]  # labels are in the order of names: green, red
                assert is_colour(under(np.asarray(image), target[0]), colour)
                seen += 1
    assert seen > 100


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Commands of a shell that mean this checkout and this Python."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    cache = os.environ["LUAB_JAX_TEST_CACHE"]
    return os.environ | {
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": QUICK_TO_COMPILE,
        "JAX_COMPILATION_CACHE_DIR": cache,
        "TRAIN_FLAGS": f"--config.total_steps=2 --config.batch_size=16 --config.compilation_cache={cache}",
    }


def test_the_loop_of_the_documents_ends_in_a_report(tmp_path: Path, environment: dict[str, str]) -> None:
    script = REPOSITORY / "docs" / "collect_loop.sh"
    where = tmp_path / "loop"
    done = subprocess.run(
        ["bash", str(script), str(where)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    clicked = re.search(r"with a usable click +(\d+)", done.stdout)
    assert clicked is not None and int(clicked[1]) > 80, "each of two annotators misses one in ten"
    assert f"target click_last: found in {clicked[1]} of the 96 records checked" in done.stdout + done.stderr
    assert any(suite.n == 24 for suite in read_results(where / "results.json").suites.values())
    assert "LUAB click_last" in done.stdout and (where / "report.html").is_file()
    assert len((where / "ledger.jsonl").read_text().splitlines()) == 32
