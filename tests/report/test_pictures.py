"""Example images on the page: chosen by a rule, each embedded once, marked where it was clicked and predicted."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from luab_jax.evaluation.keep_example_images import encode
from luab_jax.report.page.choice import kinds
from luab_jax.report.page.overlay import dissimilarity, overlay
from luab_jax.report.runs import Run
from luab_jax.results.example_images import ExampleImage, Examples
from luab_jax.results.text import printable
from tests.report import made
from tests.report.test_page import HOSTILE, Read, page_of

LEFT, RIGHT = ((1.0, 0.0), (1.0, 0.0)), ((0.0, 1.0), (0.0, 1.0))


def example(name: str, *, right: bool, side: int = 8, **fields: Any) -> ExampleImage:
    rng = np.random.default_rng(sum(name.encode()))
    answers = (("cat", 0.75), ("dog", 0.125)) if right else (("dog", 0.5), ("cat", 0.25))
    given: dict[str, Any] = {
        "file_name": name,
        "picture": encode(rng.integers(0, 256, (side, side, 3), np.uint8)),
        "labels": ("cat",),
        "shown": "cat",
        "right": right,
        "answers": answers,
        "map": LEFT,
        "click": (0.25, 0.5),
        "box": (0.1, 0.2, 0.6, 0.7),
    }
    return ExampleImage(**(given | fields))


def examples(run: Run, images: list[ExampleImage], fingerprint: str = "f") -> Examples:
    return Examples(
        checkpoint=run.file.checkpoint, dataset="demo", fingerprint=fingerprint, num_images=1000, num_asked=48,
        map="class_activation_map", images=tuple(images),
    )  # fmt: skip


BASELINE, LUAB = made.run("none"), made.run("click_last")
NAMES = [f"{i}.png" for i in range(8)]


def both(**of_luab: Any) -> list[Examples]:
    """Each right where the other is wrong for one image; two wrong in both, four right."""
    first = [example(name, right=name in "0.png 4.png 5.png 6.png 7.png") for name in NAMES]
    fields = {"point": (0.5, 0.5)} | of_luab
    second = [example(name, right=name in "1.png 4.png 5.png 6.png 7.png", **fields) for name in NAMES]
    return [examples(BASELINE, first), examples(LUAB, second)]


def test_images_stand_by_who_is_right() -> None:
    text = Read(page_of([BASELINE, LUAB], examples=both())).text
    for heading in ("Right in every run 4 of 8", "Wrong in every run 2 of 8", "Right in baseline only 1 of 8"):
        assert heading in text
    assert "Right in LUAB click_last λ=20 only 1 of 8" in text
    assert "8 of the 1,000 images of demo val" in text
    assert "class activation maps" in text and "75.0" in text


def test_a_single_run_has_right_and_wrong() -> None:
    text = Read(page_of([BASELINE], examples=both()[:1])).text
    assert "Right 5 of 8" in text and "Wrong 3 of 8" in text


def test_the_page_still_loads_nothing_and_embeds_every_picture_once() -> None:
    text = page_of([BASELINE, LUAB], examples=both())
    read = Read(text)
    links = [value for name, value in read.attributes if name in ("src", "href", "xlink:href")]
    assert links and all(
        re.match(r"#picture\d+$|data:image/(png|jpeg);base64,[A-Za-z0-9+/=]+$", link) for link in links
    )
    assert not read.tags & {"script", "img", "iframe", "link"}
    shown = {link for link in links if link.startswith("#")}
    defined = {f"#{value}" for name, value in read.attributes if name == "id"}
    assert shown == defined
    first = base64.b64encode(example("4.png", right=True).picture).decode()
    assert text.count(first) == 1, "the input is that of both runs"


def test_points_are_drawn_where_they_are_and_of_heads_only() -> None:
    with_head, without = (page_of([BASELINE, LUAB], examples=both(**f)) for f in ({}, {"point": None}))
    added = with_head.count('class="point"') - without.count('class="point"')
    assert added == 8 + 1, "of every image that is shown, and in the legend"
    assert 'class="point" d="M46.0 46.0l8 8m0 -8l-8 8"' in with_head
    assert '<circle class="click" cx="25.0" cy="50.0"' in with_head
    assert 'class="box" x="10.0" y="20.0" width="50.0" height="50.0"' in with_head
    outside = page_of([BASELINE, LUAB], examples=both(point=(-3.0, 7.0)))
    assert 'd="M-2.0 94.0l8 8m0 -8l-8 8"' in outside, "at the rim"


def test_hostile_names_stay_text() -> None:
    hostile = {"file_name": HOSTILE, "labels": (HOSTILE,), "shown": HOSTILE, "answers": ((HOSTILE, 7.0),)}
    of_run = examples(BASELINE, [example("a", right=True, **hostile)])
    read = Read(page_of([BASELINE], examples=[of_run]))
    assert not read.tags & {"script", "img"}
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    assert printable(HOSTILE) in read.text and "100.0" in read.text


def test_examples_of_another_checkpoint_or_other_data_are_not_compared() -> None:
    first, second = both()
    assert "Example images" not in page_of([made.run("none", seed=5)], examples=[first])
    other_data = examples(LUAB, list(second.images), fingerprint="g")
    text = Read(page_of([BASELINE, LUAB], examples=[first, other_data])).text
    assert "No example images on this data: resnet18 LUAB click_last λ=20" in text
    assert "Example images" not in page_of([BASELINE, LUAB])


def test_what_is_not_finite_is_said() -> None:
    broken = example("a", right=False, map=None, answers=())
    text = Read(page_of([BASELINE], examples=[examples(BASELINE, [broken])])).text
    assert "no map" in text and "no finite answer" in text


def test_a_label_that_is_not_among_the_best_stands_below_them() -> None:
    answers = (("dog", 0.5), ("cow", 0.25), ("owl", 0.2), ("cat", 0.03125))
    text = Read(page_of([BASELINE], examples=[examples(BASELINE, [example("a", right=False, answers=answers)])])).text
    assert "owl 20.0 cat 3.1" in text


def test_the_maps_that_differ_most_come_last() -> None:
    rows = [(example(n, right=True), example(n, right=True, map=RIGHT if n == "7.png" else LEFT)) for n in NAMES]
    found = kinds(rows, ["a", "b"])
    assert [row[0].file_name for row in found[0].rows] == NAMES[:3], "in the order of the data"
    assert found[-1].rows[0][0].file_name == "7.png"


def test_dissimilarity_is_of_the_place() -> None:
    assert dissimilarity(LEFT, LEFT) == pytest.approx(0, abs=1e-6)
    assert dissimilarity(LEFT, RIGHT) == pytest.approx(2, abs=1e-6)
    assert dissimilarity(LEFT, ((1.0, 0.5, 0.0), (1.0, 0.5, 0.0), (1.0, 0.5, 0.0))) < 0.1, "whatever the grid"


def test_an_overlay_is_fullest_where_the_map_is_highest() -> None:
    cells = np.zeros((4, 4))
    cells[0, 3] = 1  # above, to the right
    drawn = np.asarray(Image.open(io.BytesIO(overlay(cells.tolist()))))
    assert drawn.shape[2] == 4
    y, x = np.unravel_index(drawn[..., 3].argmax(), drawn.shape[:2])
    assert y < 12 and x > 35
    lightness = drawn[..., :3].astype(int).sum(-1)
    assert lightness[y, x] == lightness.max(), "lighter the higher"


def test_a_page_of_photos_stays_below_two_megabytes() -> None:
    """Noise is what JPEG packs worst; photos take a third of it."""
    runs = [made.run("none"), made.run("click_last"), made.run("random")]
    of_runs = [
        examples(run, [example(n, right=bool((i + j) % 3), side=224, map=LEFT) for i, n in enumerate(NAMES * 3)])
        for j, run in enumerate(runs)
    ]
    assert len(page_of(runs, examples=of_runs)) < 2e6


def test_the_legend_names_only_what_is_drawn() -> None:
    with_head, without = (Read(page_of([BASELINE, LUAB], examples=both(**f))).text for f in ({}, {"point": None}))
    assert "predicted point" in with_head and "predicted point" not in without
    bare = [example("a", right=True, map=None, click=None, box=None)]
    text = Read(page_of([BASELINE], examples=[examples(BASELINE, bare)])).text
    assert "recorded click" not in text and "box of the class" not in text and "low to high" not in text


def test_what_may_be_cut_has_a_title() -> None:
    text = page_of([BASELINE, LUAB], examples=both())
    for name in ("cat", "dog", "LUAB click_last λ=20", "4.png"):
        assert f'title="{name}"' in text
