"""Every suite from its archive's layout to its scores, against Pillow, the documented constants and plain loops."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from data_prep.__main__ import main as data_prep
from data_prep.datasets.suites import CORRUPTIONS
from luab_jax.checkpoints.load import LoadedModel
from luab_jax.config import MeshConfig
from luab_jax.data import label_tables
from luab_jax.data.label_tables import IMAGENET_A, IMAGENET_O, IMAGENET_R, IN9, OBJECTNET, SI_SCORE
from luab_jax.data.pipeline import Reading
from luab_jax.distributed import sharding
from luab_jax.evaluation import runner
from luab_jax.evaluation.predictor import Predictor
from luab_jax.evaluation.results import Results
from luab_jax.evaluation.saved_predictions import SavedModel
from luab_jax.evaluation.scores.corruptions import ALEXNET_ERROR
from luab_jax.evaluation.suite import View
from luab_jax.report.page.write import page
from luab_jax.report.runs import Run, compare
from luab_jax.results.text import suite_lines
from tests.evaluation.drawn import softmax
from tests.report import made
from tools.miniatures import IDS, Miniatures, tiny_model, write

ALL = tuple(range(1000))
Scores = dict[str, dict]
WITHOUT_SOFTMAX = ("imagenet_o", "backgrounds_challenge", "bgc_accuracy", "localisation", "effective_robustness")
"""Whose scores say nothing of how sure an answer was."""


class Watched(Predictor):
    """Tells what was decoded."""

    def __init__(self, *arguments: object):
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.decoded: list[tuple[str, str, tuple[View, ...]]] = []

    def stream(self, split, views, stored, start):  # type: ignore[no-untyped-def,override]
        self.decoded.append((split.directory.name, split.manifest.split, tuple(views)))
        return super().stream(split, views, stored, start)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return tiny_model()


@pytest.fixture(scope="module")
def miniatures(loaded: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Miniatures:
    return Miniatures(tmp_path_factory.mktemp("raw"), loaded)


@pytest.fixture(scope="module")
def predictor(loaded: LoadedModel) -> Watched:
    return Watched(loaded, sharding.make_mesh(MeshConfig()), 16, Reading(num_threads=2))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predictions")


@pytest.fixture(scope="module")
def evaluated(
    loaded: LoadedModel, miniatures: Miniatures, predictor: Watched, kept: Path
) -> tuple[Scores, list[runner.Missing]]:
    results = Results(kept / "results.json", loaded)
    missing = runner.evaluate(loaded, predictor, miniatures.data, runner.choose_suites("all"), results, kept)
    return results.suites, missing


@pytest.fixture(scope="module")
def scores(evaluated: tuple[Scores, list[runner.Missing]]) -> Scores:
    return evaluated[0]


def wnid_label(path: str) -> int:
    return IDS.index(path.split("/")[-2])


def best(logits: np.ndarray, among: tuple[int, ...] = ALL) -> int:
    return max(among, key=lambda i: logits[i])


def share(right: list[bool]) -> object:
    """Neither all nor none of them, else a test says little."""
    assert 0 < sum(right) < len(right)
    return pytest.approx(sum(right) / len(right))


def test_all_suites_of_the_paper_that_classify_have_run(evaluated: tuple[Scores, list[runner.Missing]]) -> None:
    found, missing = evaluated
    assert found.keys() == {
        *("imagenet", "imagenet_real", "cocc", "imagenet_v2", "imagenet_a", "imagenet_r", "imagenet_c", "imagenet_o"),
        *("imagenet_sketch", "objectnet", "si_size", "si_location", "si_rotation", "backgrounds_challenge"),
        *("bgc_accuracy", "localisation", "effective_robustness"),
    }
    reasons = {entry.suite.name: entry.reason for entry in missing}
    assert "trained on one label per image" in reasons["coco"] and "no byproduct head" in reasons["byproduct"]
    assert all("data_prep demo" in reason for name, reason in reasons.items() if name.startswith("demo_"))


def test_every_result_says_that_these_are_not_the_whole_sets_how_sure_it_is_and_how_long_it_took(
    scores: Scores,
) -> None:
    for name, result in scores.items():
        assert result.data.partial and result.seconds and result.n > 0, name
        headline = result.scores[result.headline or ""]
        assert headline.interval and headline.method.endswith("95 %"), name
        assert result.dtype and result.preprocessing and result.weights == "raw" and result.data.dataset, name
        for score, entry in result.scores.items():
            assert entry.unit and entry.role, (name, score)
            assert entry.interval is None or entry.interval[0] <= entry.value <= entry.interval[1], (name, score)
        assert ("ece" in result) == (name not in WITHOUT_SOFTMAX), name


def test_images_are_decoded_once_whatever_the_number_of_suites_and_by_one_program(
    scores: Scores, predictor: Watched
) -> None:
    sources = [(directory, split) for directory, split, _ in predictor.decoded]
    assert len(set(sources)) == len(sources)
    of_val = [views for _, split, views in predictor.decoded if split == "val"]
    assert of_val == [(View.CENTRE_BLACK, View.CENTRE_MEAN, View.PLAIN)]
    assert predictor.num_programs == 1


def test_imagenet(scores: Scores, miniatures: Miniatures) -> None:
    images = miniatures.images["val"]
    ranks = [int((logits > logits[miniatures.val_label(raw)]).sum()) for raw, logits in images]
    assert scores["imagenet"]["top1"] == share([rank == 0 for rank in ranks])
    assert scores["imagenet"]["top5"] == pytest.approx(sum(rank < 5 for rank in ranks) / 30)


def test_imagenet_real(scores: Scores, miniatures: Miniatures) -> None:
    labels = [(miniatures.real[miniatures.number(raw)], logits) for raw, logits in miniatures.images["val"]]
    right = [best(logits) in correct for correct, logits in labels if correct]
    assert scores["imagenet_real"]["top1"] == share(right)
    assert (scores["imagenet_real"]["n"], scores["imagenet_real"]["n_left_out"]) == (20, 10)


def test_imagenet_v2(scores: Scores, miniatures: Miniatures) -> None:
    result = scores["imagenet_v2"]
    for name, split in (("top1", "matched_frequency"), ("top1_top_images", "top_images")):
        images = miniatures.images[f"imagenet_v2/{split}"]
        assert result[name] == share([best(logits) == int(raw.path.split("/")[1]) for raw, logits in images])
    assert result["n"] == 9 and result.data.absent == ["threshold_0_7"]


def test_imagenet_a(scores: Scores, miniatures: Miniatures) -> None:
    images = miniatures.images["imagenet_a"]
    right = [best(logits, IMAGENET_A) == wnid_label(raw.path) for raw, logits in images]
    assert scores["imagenet_a"]["top1"] == share(right)


def test_imagenet_r_and_its_other_readings(scores: Scores, miniatures: Miniatures) -> None:
    images, result = miniatures.images["imagenet_r"], scores["imagenet_r"]
    assert result["top1"] == share([best(logits, IMAGENET_R) == wnid_label(raw.path) for raw, logits in images])
    of_1000 = [best(logits) == wnid_label(raw.path) for raw, logits in images]
    assert result["top1_of_1000"] == pytest.approx(sum(of_1000) / 12) and result["top1_of_1000"] < result["top1"]
    labelled = [(miniatures.val_label(raw), logits) for raw, logits in miniatures.images["val"]]
    clean = [best(logits, IMAGENET_R) == label for label, logits in labelled if label in IMAGENET_R]
    assert clean and result["top1_clean"] == pytest.approx(sum(clean) / len(clean))


def test_imagenet_c_is_fed_as_stored(scores: Scores, miniatures: Miniatures) -> None:
    right: dict[str, list[bool]] = {}
    for split in ("test", "extra"):
        for raw, logits in miniatures.images[f"imagenet_c/{split}"]:
            right.setdefault(raw.path.split("/")[0], []).append(best(logits) == wnid_label(raw.path))
    accuracy = {kind: sum(values) / 5 for kind, values in right.items()}
    result = scores["imagenet_c"]
    assert result["top1"] == pytest.approx(sum(accuracy[kind] for kind in CORRUPTIONS) / 15)
    assert result["top1_with_extra"] == pytest.approx(sum(accuracy.values()) / 19)
    assert result["mce"] == pytest.approx(sum((1 - accuracy[kind]) / ALEXNET_ERROR[kind] for kind in CORRUPTIONS) / 15)
    assert 0 < result["top1"] < 1 and "resized_from" not in result


def test_imagenet_o(scores: Scores, miniatures: Miniatures) -> None:
    def doubt(logits: np.ndarray) -> float:
        return -max(softmax(logits[list(IMAGENET_O)]))

    out = [doubt(logits) for _, logits in miniatures.images["imagenet_o"]]
    known = [doubt(x) for raw, x in miniatures.images["val"] if miniatures.val_label(raw) in IMAGENET_O]
    labels = [1] * len(out) + [0] * len(known)
    result = scores["imagenet_o"]
    assert (result["n_out"], result["n_in"]) == (12, len(known)) and known
    assert result["auroc"] == pytest.approx(roc_auc_score(labels, out + known))
    assert result["aupr"] == pytest.approx(average_precision_score(labels, out + known))


def test_imagenet_sketch(scores: Scores, miniatures: Miniatures) -> None:
    images = miniatures.images["imagenet_sketch"]
    assert scores["imagenet_sketch"]["top1"] == share([best(x) == wnid_label(raw.path) for raw, x in images])


def test_objectnet_by_all_protocols_without_its_border(scores: Scores, miniatures: Miniatures) -> None:
    folder_of = {index: folder for folder, indices in OBJECTNET.items() for index in indices}
    template, testbed, first = [], [], []
    for raw, logits in miniatures.images["objectnet"]:
        folder = raw.path.split("/")[-2]
        template.append(folder_of.get(best(logits)) == folder)
        testbed.append(folder_of[best(logits, tuple(folder_of))] == folder)
        first.append(best(logits) == OBJECTNET[folder][0])
    assert scores["objectnet"]["top1"] == pytest.approx(sum(template) / 15)
    assert scores["objectnet"]["top1_of_125"] == share(testbed)
    assert scores["objectnet"]["top1_first_index"] == pytest.approx(sum(first) / 15)
    (line,) = suite_lines("objectnet", scores["objectnet"])
    file = made.file("none")
    file.suites = {"objectnet": scores["objectnet"]}
    shown = page(compare([Run(file)]))
    for text in (line, shown):
        assert "top1: argmax over 1,000" in text and "top1_of_125: argmax over its 125 indices" in text
    assert "ObjNet: argmax over 1,000 classes" in shown
    assert sum(template) < sum(testbed)


@pytest.mark.parametrize("kind", ["size", "location", "rotation"])
def test_si_score(scores: Scores, miniatures: Miniatures, kind: str) -> None:
    right = [best(x) == SI_SCORE[raw.path.split("/")[0]] for raw, x in miniatures.images[f"si_score/{kind}"]]
    assert scores[f"si_{kind}"]["top1"] == pytest.approx(sum(right) / 6)


def test_backgrounds_challenge_is_fed_as_stored(scores: Scores, miniatures: Miniatures) -> None:
    to_nine = {index: folder for folder, indices in IN9.items() for index in indices}
    accuracy = {}
    for variant in ("original", "mixed_same", "mixed_rand", "only_bg_t", "no_fg", "only_fg", "only_bg_b", "mixed_next"):
        images = miniatures.images[f"backgrounds/{variant}"]
        right = [to_nine.get(best(logits)) == raw.path.split("/")[-2] for raw, logits in images]
        accuracy[variant] = sum(right) / 12
        assert scores["backgrounds_challenge"][variant] == pytest.approx(accuracy[variant])
    gap = accuracy["mixed_same"] - accuracy["mixed_rand"]
    assert scores["backgrounds_challenge"]["gap"] == pytest.approx(gap)
    assert len(set(accuracy.values())) > 2


def test_scores_come_again_from_what_was_kept_without_a_model(
    scores: Scores, miniatures: Miniatures, kept: Path, tmp_path: Path
) -> None:
    saved = SavedModel(kept)
    results = Results(tmp_path / "results.json", saved)
    runner.evaluate(saved, saved, miniatures.data, runner.choose_suites("all"), results)
    assert results.suites.keys() == scores.keys() - {"bgc_accuracy", "localisation"}, "these need the model"
    for name, again in results.suites.items():
        result = scores[name]
        for score, entry in result.scores.items():
            assert again[score] == pytest.approx(entry.value, abs=2e-3), (name, score)
        assert again.n == result.n


def run(
    loaded: LoadedModel, predictor: Predictor, data: Path, suites: str, tmp_path: Path
) -> tuple[Scores, dict[str, str]]:
    results = Results(tmp_path / "results.json", loaded)
    missing = runner.evaluate(loaded, predictor, data, runner.choose_suites(suites), results)
    return results.suites, {entry.suite.name: entry.reason for entry in missing}


def test_the_directory_of_another_suite_is_refused_by_its_name(
    loaded: LoadedModel, predictor: Watched, miniatures: Miniatures, tmp_path: Path
) -> None:
    shutil.copytree(miniatures.data / "imagenet_sketch", tmp_path / "data" / "imagenet_a")
    found, reasons = run(loaded, predictor, tmp_path / "data", "imagenet_a", tmp_path)
    assert not found and "holds imagenet_sketch, not imagenet_a; get that with: python -m" in reasons["imagenet_a"]


def test_a_model_of_other_classes_is_not_scored(
    loaded: LoadedModel, predictor: Watched, miniatures: Miniatures, tmp_path: Path
) -> None:
    other = dataclasses.replace(loaded, class_list_hash="0123")
    found, reasons = run(other, predictor, miniatures.data, "imagenet_a,backgrounds_challenge,imagenet", tmp_path)
    assert not found
    assert "ImageNet's 1,000 classes, the checkpoint was trained on another list" in reasons["imagenet_a"]
    assert "nine classes of ImageNet-9" in reasons["backgrounds_challenge"]
    assert "read as wrong classes" in reasons["imagenet"]


def test_images_that_are_not_as_the_archive_stores_them_are_refused(
    loaded: LoadedModel, predictor: Watched, miniatures: Miniatures, tmp_path: Path
) -> None:
    """A copy of ImageNet-C that someone resized."""
    write(tmp_path, f"raw/fog/1/{IDS[0]}/a.JPEG", np.zeros((256, 256, 3), np.uint8))
    arguments = ["suite", "imagenet_c", f"--source={tmp_path / 'raw'}", f"--out={tmp_path / 'data'}", "--workers=1"]
    assert data_prep(arguments) == 0
    found, reasons = run(loaded, predictor, tmp_path / "data", "imagenet_c", tmp_path)
    assert not found
    assert "256x256 pixels, but this set is stored as squares of 224" in reasons["imagenet_c"]


def test_the_tables_of_the_nine_classes_stand_in_the_order_of_their_labels() -> None:
    assert [name[:2] for name in label_tables.IN9] == [f"{i:02d}" for i in range(9)]
