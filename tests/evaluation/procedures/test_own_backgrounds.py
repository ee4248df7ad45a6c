"""BGC-acc of a challenge made of a prepared split, and how sets of labels are scored, against loops."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from data_prep.__main__ import main
from luab_jax.checkpoints.load import LoadedModel
from luab_jax.config import MeshConfig
from luab_jax.data.dataset import open_split
from luab_jax.data.pipeline import Reading
from luab_jax.data.transforms import Preprocessing, mask_input
from luab_jax.distributed import sharding
from luab_jax.errors import DataError
from luab_jax.evaluation.predictor import Predictor
from luab_jax.evaluation.procedures import own_bgc_accuracy
from luab_jax.evaluation.scores.label_sets import grid_of_objects, object_backgrounds, object_map, sets_under_shift
from luab_jax.models.config import Dtype, ModelConfig, Stem
from luab_jax.models.functional import create_model
from tests.data_prep.own_suites.drawn import CLASSES, Drawn, examples, nine, pixels_of, prepare_drawn
from tests.evaluation.drawn import predictions, truth
from tools.miniatures import random_params

SIDE = 16
PREPROCESSING = Preprocessing(image_size=SIDE, resize_side=24)
"""The challenge has squares of 24: the centre is cut out, and nothing is resized."""


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    config = ModelConfig(name="resnet18", width=4, stage_sizes=(1, 1), stem=Stem.PATCH, compute_dtype=Dtype.FLOAT32)
    model = create_model(config, num_classes=3, image_size=SIDE, byproduct_shape=None)
    params, batch_stats = jax.device_put(random_params(model), sharding.replicated(sharding.make_mesh(MeshConfig())))
    return LoadedModel("tiny", {}, model, params, batch_stats, PREPROCESSING, CLASSES.hash, config=config)


def test_every_object_on_every_background_at_the_input_of_the_model(loaded: LoadedModel, tmp_path: Path) -> None:
    source = prepare_drawn(tmp_path, [*nine(), Drawn(9, 0, box=(3, 3, 20, 9)), Drawn(10, 1, box=(10, 2, 22, 21))])
    assert main(["backgrounds", f"--from={source}", f"--out={source}", "--workers=1"]) == 0
    made = source / "own_backgrounds"
    parts = {name: open_split(made, name) for name in ("original", "only_bg_t")}
    predictor = Predictor(loaded, sharding.make_mesh(MeshConfig()), 16, Reading(num_threads=1))
    found = own_bgc_accuracy(predictor, parts)

    images, names = [], []
    backgrounds = [pixels_of(example) for example in examples(made, "only_bg_t").values()]
    for name in examples(made, "original"):
        item = next(i for i in [*nine(), Drawn(9, 0, box=(3, 3, 20, 9)), Drawn(10, 1, box=(10, 2, 22, 21))]
                    if i.file_name == name)  # fmt: skip
        for background in backgrounds:
            images.append(np.where(item.mask[..., None], item.pixels, background)[4:20, 4:20])
            names.append(name)
    seen = (np.asarray(images, np.float32) / 255 - np.array(PREPROCESSING.mean)) / np.array(PREPROCESSING.std)
    placed = jax.numpy.asarray(seen, np.float32)
    logits = loaded.model.apply(loaded.params, loaded.batch_stats, placed, train=False)[0].logits
    answers: dict[str, set[int]] = {}
    for name, answer in zip(names, np.asarray(logits).argmax(axis=-1).tolist(), strict=True):
        answers.setdefault(name, set()).add(answer)
    right = [found == {CLASSES.ids.index(name.split("/")[0])} for name, found in answers.items()]
    assert 0 < sum(right) < len(right) == 11
    assert found["bgc_accuracy"] == pytest.approx(sum(right) / 11)
    assert found["forward_passes_of_brute_force"] == 121 >= found["forward_passes"]


def test_a_mask_is_resized_as_its_image_is() -> None:
    mask = np.zeros((24, 24), bool)
    mask[:, 11:] = True
    half = mask_input(mask, Preprocessing(image_size=12, resize_side=12))
    assert half[:, 6:].all() and not half[:, :5].any()  # column 5 is made of 10 and 11


def test_the_object_is_found_among_images_that_do_not_show_its_class_beside_another() -> None:
    rng = np.random.default_rng(0)
    truths = [truth(int(rng.integers(3)), labels=tuple({int(rng.integers(4)), int(rng.integers(4))}),
                    file_name=f"{i}.jpg") for i in range(60)]  # fmt: skip
    logits = rng.normal(size=(60, 4)).astype(np.float32)
    expected = []
    for label in range(3):
        kept = [i for i, t in enumerate(truths) if t.label == label or label not in t.labels]
        expected.append(average_precision_score([truths[i].label == label for i in kept], logits[kept, label]))
    found = object_map(predictions(logits, truths))
    assert found == pytest.approx(np.mean(expected))
    better = logits + 3 * np.eye(4, dtype=np.float32)[[t.label for t in truths]]
    scores = object_backgrounds({"mixed_same": predictions(better, truths), "mixed_rand": predictions(logits, truths)})
    assert scores["gap"] == pytest.approx(scores["mixed_same"] - found) and scores["gap"] > 0 and scores["n"] == 60


def drawn_sets(seed: int, groups: tuple[str, ...]) -> tuple[np.ndarray, list]:
    """Thirty images with sets of labels in every group, one of which a group lacks."""
    rng = np.random.default_rng(seed)
    sets = [tuple(sorted({int(rng.integers(4)), int(rng.integers(4))})) for _ in range(30)]
    truths = [truth(of[0], labels=of, file_name=f"{group}/images/{i}.jpg", group=group)
              for group in groups for i, of in enumerate(sets) if (group, i) != ("b", 7)]  # fmt: skip
    shown = np.asarray([[k in t.labels for k in range(4)] for t in truths])
    return (rng.normal(size=shown.shape) + shown).astype(np.float32), truths


def test_changed_images_with_sets_of_labels_are_scored_by_the_mean_over_groups_of_the_map() -> None:
    logits, truths = drawn_sets(0, ("a", "b", "c"))
    clean = drawn_sets(0, ("",))
    found = sets_under_shift({"test": predictions(logits, truths), "clean": predictions(*clean)})

    def by_sklearn(logits: np.ndarray, truths: list) -> float:
        shown = np.asarray([[k in t.labels for k in range(4)] for t in truths])
        return float(np.mean([average_precision_score(shown[:, k], logits[:, k]) for k in range(4)]))

    def mean(left_out: str = "") -> float:
        kept = [[i for i, t in enumerate(truths) if t.group == group and not t.file_name.endswith(f"/{left_out}.jpg")]
                for group in "abc"]  # fmt: skip
        return float(np.mean([by_sklearn(logits[rows], [truths[i] for i in rows]) for rows in kept]))

    assert found["map"] == pytest.approx(mean()) and found["n"] == 89
    assert found["map_clean"] == pytest.approx(by_sklearn(*clean))
    assert found["loss"] == pytest.approx(float(found["map_clean"]) - mean())
    without = np.asarray([mean(str(i)) for i in range(30)])
    order = sorted(range(30), key=lambda i: f"images/{i}.jpg")
    assert found["map"].sample.values - float(found["map"]) == pytest.approx((29 * (without.mean() - without))[order])
    assert found["loss"].interval and found["groups"].keys() == {"a", "b", "c"}


def test_a_grid_of_objects_is_scored_by_the_mean_over_groups_of_their_map() -> None:
    logits, truths = drawn_sets(1, ("x=0", "x=1"))
    found = grid_of_objects({"size": predictions(logits, truths)})
    expected = [object_map(predictions(logits[rows], [truths[i] for i in rows])) for rows in (range(30), range(30, 60))]
    assert list(found["groups"].values()) == pytest.approx(expected)
    assert found["map"] == pytest.approx(np.mean(expected)) and found["map"].interval


def test_images_without_a_label_say_nothing() -> None:
    with pytest.raises(DataError, match="no image has a label"):
        object_map(predictions(np.zeros((2, 3)), [truth(-1), truth(-1)]))
