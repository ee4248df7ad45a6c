"""Example images: what is kept is what the model was shown, said and looked at, and what is damaged is not drawn."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import special

from luab_jax.byproducts.targets import Target
from luab_jax.checkpoints.load import LoadedModel
from luab_jax.config import MeshConfig
from luab_jax.data.class_lists import ClassList
from luab_jax.data.dataset import open_split
from luab_jax.data.features import Example
from luab_jax.data.pipeline import Reading
from luab_jax.data.transforms import Preprocessing
from luab_jax.distributed import sharding
from luab_jax.errors import UserError
from luab_jax.evaluation import runner
from luab_jax.evaluation.keep_example_images import choose, encode, keep_examples
from luab_jax.evaluation.predictor import Predictor
from luab_jax.models.config import Dtype, ModelConfig, Stem
from luab_jax.models.functional import create_model
from luab_jax.models.maps import localise
from luab_jax.results.example_images import Examples, examples_path, read_examples
from tests import tiny
from tools.miniatures import random_params

SUITES = runner.choose_suites("imagenet,byproduct")
COUNT = 10
SQUASH = Preprocessing(image_size=tiny.SIDE, resize_side=tiny.SIDE)


def predictor(head: bool, **changes: Any) -> Predictor:
    """Random weights; `head` is one that predicts clicks."""
    config = ModelConfig(name="resnet18", width=4, stage_sizes=(1, 1), stem=Stem.PATCH, compute_dtype=Dtype.FLOAT32)
    model = create_model(config, num_classes=3, image_size=tiny.SIDE, byproduct_shape=(1, 2) if head else None)
    mesh = sharding.make_mesh(MeshConfig())
    params, batch_stats = jax.device_put(random_params(model), sharding.replicated(mesh))
    target = Target.CLICK_LAST if head else Target.NONE
    identity = {"workdir": "none", "step": 0, "target": target.value, "seed": 0}
    loaded = LoadedModel("tiny", identity, model, params, batch_stats, SQUASH, tiny.CLASSES.hash, target=target)
    return Predictor(dataclasses.replace(loaded, **changes), mesh, 8, Reading(num_threads=2))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    items = [tiny.Drawn(i, labels=((i % 3), (i + 1) % 3) if i % 4 else ()) for i in range(13)]
    return tiny.prepare_split(tmp_path_factory.mktemp("data"), "val", 13, items=items)


@pytest.fixture(scope="module")
def with_head() -> Predictor:
    return predictor(head=True)


@pytest.fixture(scope="module")
def kept(data: Path, with_head: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("kept") / "results.json"
    assert keep_examples(with_head, data, SUITES, results, COUNT) is None
    return Path(examples_path(results))


def pixels(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))


def test_an_example_is_what_the_model_says_of_the_picture(kept: Path, with_head: Predictor) -> None:
    examples, loaded = read_examples(kept), with_head.loaded
    assert len(examples.images) == COUNT and examples.num_images == 13
    assert examples.map == "class_activation_map"
    mean, std = np.asarray(SQUASH.mean), np.asarray(SQUASH.std)
    images = np.stack([(pixels(image.picture) / 255 - mean) / std for image in examples.images]).astype(np.float32)
    labels = np.asarray([tiny.CLASSES.names.index(image.shown) for image in examples.images], np.int32)
    outputs, maps = jax.jit(
        lambda params, stats: (
            loaded.model.apply(params, stats, jnp.asarray(images), train=False)[0],
            localise(loaded.model, params, stats, jnp.asarray(images), jnp.asarray(labels)),
        )
    )(loaded.params, loaded.batch_stats)
    for image, logits, byproduct, cells, label in zip(
        examples.images,
        np.asarray(outputs.logits),
        np.asarray(outputs.byproduct),
        np.asarray(maps),
        labels,
        strict=True,
    ):
        shares = special.softmax(logits)
        assert dict(image.answers) == pytest.approx(dict(zip(tiny.CLASSES.names, shares, strict=True)), abs=1e-4)
        assert image.answers[0][0] == tiny.CLASSES.names[logits.argmax()]
        assert image.right == (logits.argmax() == label)
        assert image.point == pytest.approx(byproduct[0], abs=1e-3)
        assert image.map is not None
        assert np.asarray(image.map) == pytest.approx((cells - cells.min()) / np.ptp(cells), abs=2e-3)


def test_clicks_and_boxes_are_those_of_the_records(kept: Path, data: Path) -> None:
    split = open_split(data, "val")
    records = {r.file_name: r for i in range(13) if (r := Example(split.records[i]).record())}
    for image in read_examples(kept).images:
        record = records[image.file_name]
        assert image.shown == tiny.CLASSES.names[record.label]
        click = record.showings[0].clicks[-1]
        seen = ((click.x * 20 - 2) / 16, click.y)  # of 30 x 24 pixels, 20 x 16 and the middle of that
        if image.click is None:
            assert not 0 <= seen[0] <= 1
        else:
            assert image.click == pytest.approx(seen, abs=1e-3)
        assert image.box is None or image.box[1::2] == pytest.approx(
            (max(0, record.boxes[0].y_min), min(1, record.boxes[0].y_max)), abs=1e-3
        )


def test_every_model_keeps_the_same_images(kept: Path, data: Path, tmp_path: Path) -> None:
    baseline = predictor(head=False)
    assert keep_examples(baseline, data, SUITES, tmp_path / "none.json", COUNT) is None
    ours, theirs = read_examples(kept), read_examples(tmp_path / "none.examples.jsonl")
    assert [image.file_name for image in ours.images] == [image.file_name for image in theirs.images]
    assert [image.picture for image in ours.images] == [image.picture for image in theirs.images]
    assert {image.point for image in theirs.images} == {None}
    assert ours.fingerprint == theirs.fingerprint


def test_of_sets_of_labels_the_first_is_shown(data: Path, tmp_path: Path) -> None:
    of_sets = predictor(head=False, label_sets=True)
    assert keep_examples(of_sets, data, SUITES, tmp_path / "a.json", 13) is None
    assert not (tmp_path / "a.examples.jsonl").exists(), "they go with the suite coco"
    assert keep_examples(of_sets, data, runner.choose_suites("coco"), tmp_path / "a.json", 13) is None
    images = read_examples(tmp_path / "a.examples.jsonl").images
    assert len(images) == 9, "images without labels are left out"
    for image in images:
        assert image.shown == image.labels[0] and len(image.labels) == 2
        assert image.right == (image.answers[0][0] in image.labels)
        assert sum(share for _, share in image.answers) != pytest.approx(1.0), "a sigmoid for each class"


@pytest.mark.parametrize(
    ("results", "examples"), [("r50.json", "r50.examples.jsonl"), ("r50.luab", "r50.luab.examples.jsonl")]
)
def test_every_results_file_has_examples_of_its_own(results: str, examples: str) -> None:
    assert str(examples_path(f"runs/{results}")) == f"runs/{examples}"


def test_what_is_there_is_not_made_again(kept: Path, data: Path, with_head: Predictor) -> None:
    results, before = kept.with_name("results.json"), kept.stat().st_mtime_ns
    assert keep_examples(with_head, data, SUITES, results, COUNT) is None
    assert kept.stat().st_mtime_ns == before
    written = kept.read_text()
    kept.write_text(written[:1000])
    assert keep_examples(with_head, data, SUITES, results, COUNT) is None
    assert kept.read_text() == written, "what is damaged is made again, to the same bytes"


def test_why_there_are_none_is_said(data: Path, with_head: Predictor, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    assert keep_examples(with_head, data, SUITES, out, 0) is None
    assert keep_examples(with_head, data, runner.choose_suites("cocc"), out, COUNT) is None
    assert keep_examples(with_head, tmp_path, SUITES, out, COUNT) == "no data for val"
    assert "only predictions" in str(keep_examples(object(), data, SUITES, out, COUNT))
    others = dataclasses.replace(with_head.loaded, class_list_hash=ClassList(("a",), ("a",)).hash)
    other = Predictor(others, with_head.mesh, 8, Reading(num_threads=2))
    assert "class list" in str(keep_examples(other, data, SUITES, out, COUNT))
    (tmp_path / "file").write_text("")
    assert "cannot be written" in str(keep_examples(with_head, data, SUITES, tmp_path / "file" / "r.json", COUNT))
    assert not list(tmp_path.glob("*.jsonl"))


def test_the_images_depend_on_the_number_of_records_alone() -> None:
    assert choose(1000, 48)[:10] == choose(1000, 10)
    assert sorted(choose(7, 48)) == list(range(7))


@pytest.mark.parametrize("side", [32, 224])
def test_a_picture_is_the_input(side: int) -> None:
    ramp = np.linspace(0, 255, side, dtype=np.uint8)
    image = np.stack([np.broadcast_to(ramp, (side, side)), np.broadcast_to(ramp[:, None], (side, side))] * 2, -1)[
        ..., :3
    ]
    assert np.abs(pixels(encode(np.ascontiguousarray(image))).astype(int) - image).max() <= (0 if side < 100 else 24)


DAMAGES = {
    "cut": lambda lines: lines[:-1],
    "no JSON": lambda lines: [lines[0], "{", *lines[2:]],
    "picture": lambda lines: [lines[0], changed(lines[1], picture='"><script>'), *lines[2:]],
    "no picture": lambda lines: [lines[0], changed(lines[1], picture="R0lGODdh"), *lines[2:]],
    "place": lambda lines: [lines[0], changed(lines[1], click=[float("nan"), 0.5]), *lines[2:]],
    "box": lambda lines: [lines[0], changed(lines[1], box=[0.1, 0.2]), *lines[2:]],
    "map": lambda lines: [lines[0], changed(lines[1], map=[[0.0, 2.0]]), *lines[2:]],
    "no grid": lambda lines: [lines[0], changed(lines[1], map=[[0.0], [0.1, 0.2]]), *lines[2:]],
    "head": lambda lines: [changed(lines[0], num_images="many"), *lines[1:]],
    "version": lambda lines: [changed(lines[0], examples_version=99), *lines[1:]],
    "empty": lambda lines: [],
}


def changed(line: str, **fields: object) -> str:
    return json.dumps(json.loads(line) | fields)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_one_error_that_names_the_file(kept: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "bad.examples.jsonl"
    path.write_text("\n".join(DAMAGES[damage](kept.read_text().splitlines())))
    with pytest.raises(UserError, match=r"bad\.examples\.jsonl: .*remove it"):
        read_examples(path)


def test_what_is_written_is_what_is_read(kept: Path) -> None:
    examples = read_examples(kept)
    assert isinstance(examples, Examples)
    assert json.loads(kept.read_text().splitlines()[0])["images"] == len(examples.images)
