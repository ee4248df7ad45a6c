"""Driven = logged = exported = read, on both pages; `equality` runs more of it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from data_prep.__main__ import main
from data_prep.collect.export import export
from data_prep.collect.simulate.browser import StoredTruth
from luab_jax.data.dataset import open_split
from luab_jax.data.features import Example
from tests.data_prep.collect.browser.bench import accept, assignment_of, make_project, serving, wait_for
from tests.data_prep.collect.browser.equality import MAX_MS, MAX_PX, run
from tests.data_prep.collect.browser.test_imagenet_page import click


@pytest.mark.parametrize(("task", "showings", "scale"), [("imagenet", 24, 1.25), ("coco", 5, 2.0)])
def test_everything_that_chromium_was_driven_to_do_is_read_back(tmp_path, browser, task, showings, scale):
    outcome = run(tmp_path, task, showings=showings, scale=scale, seed=3)
    assert outcome.problems == []
    assert outcome.px <= MAX_PX
    assert outcome.ms <= MAX_MS + 0.5
    assert outcome.counts["showings"] == showings
    assert outcome.counts["clicks, read" if task == "imagenet" else "points, read"] > showings / 2


def test_a_press_on_an_object_of_a_turned_photo_is_on_it_in_the_training_data(tmp_path, page):
    """The photo is stored on its side. The press is where the disc is seen; in the decoded pixels it is on the disc."""
    project = make_project(tmp_path, "imagenet", pictures=2, page_size=2, sizes=((500, 375),), classes=("cat",))
    path = tmp_path / "images" / "cat" / "cat_1.jpg"
    with Image.open(path) as stored:
        assert stored.getexif()[0x0112] == 6
        shown = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"), np.int32)
    ground = shown[:8, :8].reshape(-1, 3).mean(0)
    rows, columns = np.nonzero(np.abs(shown - ground).sum(2) > 40)
    x, y = columns.mean() / shown.shape[1], rows.mean() / shown.shape[0]
    with serving(project) as server:
        accept(page, server.link())
        with project.open_store() as store:
            task = StoredTruth(store).task(assignment_of(page))
            for place, picture in enumerate(task.pictures):
                if picture.source.path.endswith("cat_1.jpg"):
                    click(page, place, x, y)
            page.click("#submit")
            wait_for(lambda: server.state(server.assignments()[0]) == "submitted")
            done = export(project, store, tmp_path / "export")
    assert main([*done.command[3:], "--workers=1"]) == 0
    records = open_split(tmp_path / "export-prepared", "train").records
    examples = [Example(records[i]) for i in range(len(records))]
    (found,) = [example for example in examples if example.file_name.endswith("cat_1.jpg")]
    (point,) = found.record().showings[0].clicks
    with Image.open(io.BytesIO(found.record().image)) as stored:
        pixel = np.asarray(stored.convert("RGB"), np.int32)[int(point.y * stored.height), int(point.x * stored.width)]
    disc = shown[int(y * shown.shape[0]), int(x * shown.shape[1])]
    assert np.abs(pixel - disc).sum() < 30
    assert np.abs(pixel - ground).sum() > 40
