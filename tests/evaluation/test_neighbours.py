"""Detection by nearest neighbours against scikit-learn on features that the model gives image by image."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors

from data_prep.__main__ import main
from luab_jax.checkpoints.load import LoadedModel
from luab_jax.config import MeshConfig
from luab_jax.data.label_tables import IMAGENET_O
from luab_jax.data.pipeline import Reading
from luab_jax.distributed import sharding
from luab_jax.errors import ExitCode, UserError
from luab_jax.evaluation import runner
from luab_jax.evaluation.predictor import Predictor
from luab_jax.evaluation.procedures import neighbours
from luab_jax.evaluation.results import Results
from tests.evaluation.test_more_suites import evaluated
from tools.miniatures import IDS, draw, resized_and_cropped, tiny_model, write


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return tiny_model()


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[np.ndarray]]]:
    """Prepared data, and the pixels of its training, validation and other images."""
    root, rng = tmp_path_factory.mktemp("knn"), np.random.default_rng(0)
    found: dict[str, list[np.ndarray]] = {"bank": [], "in": [], "out": []}
    for i in range(70):
        kind = ("bank", "in", "out")[min(i // 25, 2)]
        label = IMAGENET_O[i] if kind != "in" or i % 5 else 0  # class 0 is none of the 200
        raw = write(root / kind, f"{IDS[label]}/ILSVRC2012_val_{i + 1:08d}.JPEG", draw(rng, 64, 60))
        if label or kind != "in":
            found[kind].append(raw.pixels)
    data = root / "data"
    for command in (
        ["suite", "imagenet", f"--source={root / 'in'}", f"--out={data}"],
        ["suite", "imagenet_o", f"--source={root / 'out'}", f"--out={data}"],
        ["imagenet_ab", f"--images={root / 'bank'}", "--split=train", f"--out={data / 'imagenet_ab'}"],
    ):
        assert main([*command, "--workers=1"]) == ExitCode.DONE
    return data, found


def test_detection_by_the_kth_neighbour(
    loaded: LoadedModel,
    pixels: tuple[Path, dict[str, list[np.ndarray]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, images = pixels
    monkeypatch.setattr(neighbours, "NUM_TRAINING", 8333)  # so that k is 3 of the 25
    predictor = Predictor(loaded, sharding.make_mesh(MeshConfig()), 16, Reading(num_threads=2))
    results = Results(tmp_path / "results.json", loaded)
    missing = runner.evaluate(loaded, predictor, data, runner.choose_suites("imagenet_o_knn"), results)
    assert not missing, missing
    result = results.suites["imagenet_o_knn"]
    assert (result["k"], result["n_bank"], result["n_in"], result["n_out"]) == (3, 25, 20, 20)

    apply = jax.jit(lambda x: loaded.model.apply(loaded.params, loaded.batch_stats, x, train=False)[0].features)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

    def features(kind: str) -> np.ndarray:
        seen = [((resized_and_cropped(of) / 255 - mean) / std).astype(np.float32) for of in images[kind]]
        found = np.concatenate([np.asarray(apply(one[None]), np.float64) for one in seen])
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    fitted = NearestNeighbors(n_neighbors=3).fit(features("bank"))
    doubt = {kind: fitted.kneighbors(features(kind))[0][:, -1] for kind in ("out", "in")}
    labels = [1] * 20 + [0] * 20
    scores = np.concatenate([doubt["out"], doubt["in"]])
    assert result["auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)
    assert result["aupr"] == pytest.approx(average_precision_score(labels, scores), abs=1e-6)
    assert result.scores["auroc"].interval


def test_a_function_has_no_features_and_is_told_so(pixels: tuple[Path, dict[str, list[np.ndarray]]]) -> None:
    with pytest.raises(UserError, match="it needs what the classifier reads, which this model does not give"):
        evaluated(pixels[0], "imagenet_o_knn")


def test_a_bank_is_thinned_evenly_and_k_goes_with_it() -> None:
    rng = np.random.default_rng(0)
    bank = neighbours.of_length_1(rng.normal(size=(50, 8)))
    rows = neighbours.of_length_1(rng.normal(size=(9, 8)))
    expected = np.sort(((rows[:, None] - bank[None]) ** 2).sum(axis=-1), axis=1)
    for k in (1, 10, 50):
        assert neighbours.distances(rows, bank, k) == pytest.approx(expected[:, k - 1], abs=1e-6)
    assert neighbours.of_length_1(np.zeros((1, 3))).tolist() == [[0, 0, 0]]
    whole = neighbours.thinned(neighbours.NUM_TRAINING)
    assert (whole.step, len(whole)) == (100, 12_812) and len(neighbours.thinned(100)) == 100
    assert round(neighbours.K_OF_ALL * len(whole) / neighbours.NUM_TRAINING) == 10
