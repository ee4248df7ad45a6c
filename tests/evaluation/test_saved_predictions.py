"""Predictions on disk: what decides an answer is kept exactly, and nothing half or foreign is read."""

from __future__ import annotations

import errno
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from luab_jax.byproducts.targets import Target
from luab_jax.data.dataset import PreparedSplit, open_split
from luab_jax.data.pipeline import Truth
from luab_jax.data.transforms import Preprocessing
from luab_jax.errors import UserError
from luab_jax.evaluation.answers import ARGMAX, log_confidence
from luab_jax.evaluation.columns import texts
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.saved_predictions import PredictionWriter, SavedModel, compacted, preprocessing_json
from luab_jax.evaluation.suite import View
from tests import tiny

NUM_IMAGES = 20
ABOUT = {
    "name": "m",
    "checkpoint": {"step": 1},
    "class_list_hash": "0123",
    "num_classes": 50,
    "has_byproduct_head": True,
    "label_sets": False,
    "target": "click_last",
    "preprocessing": preprocessing_json(Preprocessing(image_size=16, resize_side=None)),
}


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    return open_split(tiny.prepare_split(tmp_path_factory.mktemp("data"), "val", NUM_IMAGES), "val")


def predicted(scale: float = 10.0) -> Predictions:
    rng = np.random.default_rng(0)
    truths = [
        Truth(
            file_name=f"é/{i}.png",
            label=i % 50 - 1,
            labels=tuple(range(i % 4)),
            group=f"g{i % 3}" if i % 2 else "",
            click=np.array([0.5, i / 20], np.float32) if i % 3 else None,
            box=np.array([0, 0, 1, i / 20], np.float32) if i % 4 else None,
        )
        for i in range(NUM_IMAGES)
    ]
    logits = (scale * rng.normal(size=(NUM_IMAGES, 50))).astype(np.float32)
    return Predictions(logits, rng.random((NUM_IMAGES, 1, 2)).astype(np.float32), truths)


def save(directory: Path, split: PreparedSplit, whole: Predictions) -> None:
    with PredictionWriter(directory, split, View.PLAIN, ABOUT) as writer:
        for i in range(0, len(whole), 7):
            byproduct = None if whole.byproduct is None else whole.byproduct[i : i + 7]
            writer.add(compacted(Predictions(whole.logits[i : i + 7], byproduct, whole.truths[i : i + 7])))


def read(directory: Path, split: PreparedSplit) -> Predictions:
    parts = list(SavedModel(directory).stream(split, [View.PLAIN]))
    return Predictions.concatenate([part[View.PLAIN] for part in parts])


def test_everything_known_of_an_image_comes_back(tmp_path: Path, split: PreparedSplit) -> None:
    save(tmp_path, split, predicted())
    found, expected = read(tmp_path, split), predicted()
    for ours, theirs in zip(found.truths, expected.truths, strict=True):
        assert (ours.file_name, ours.label, ours.labels, ours.group) == (
            theirs.file_name,
            theirs.label,
            theirs.labels,
            theirs.group,
        )
        for name in ("click", "box"):
            a, b = getattr(ours, name), getattr(theirs, name)
            assert (a is None) == (b is None) and (a is None or np.array_equal(a, b))
    np.testing.assert_allclose(found.byproduct, expected.byproduct, atol=1e-3)
    model = SavedModel(tmp_path)
    assert model.preprocessing == Preprocessing(image_size=16, resize_side=None)
    assert (model.name, model.num_classes, model.has_byproduct_head) == ("m", 50, True)
    assert found.target is Target.CLICK_LAST


def test_numpy_alone_reads_the_names_and_the_sets_of_labels(tmp_path: Path, split: PreparedSplit) -> None:
    save(tmp_path, split, predicted())
    (path,) = tmp_path.glob("*.npz")
    saved, expected = np.load(path), predicted()
    assert saved["file_names"].tolist() == [truth.file_name for truth in expected.truths]
    assert saved["group"].tolist() == [truth.group for truth in expected.truths]
    labels = np.split(saved["labels"], np.cumsum(saved["num_labels"])[:-1])
    assert [tuple(of_image) for of_image in labels] == [truth.labels for truth in expected.truths]
    np.testing.assert_allclose(saved["logits"] + saved["largest"][:, None], expected.logits, atol=0.05)


def test_files_of_version_1_are_still_read(tmp_path: Path, split: PreparedSplit) -> None:
    """Their texts are UTF-8 bytes, each ended by a zero."""
    save(tmp_path, split, predicted())
    (path,) = tmp_path.glob("*.npz")
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    for name in ("file_names", "group"):
        buffer = io.BytesIO()
        np.save(buffer, texts(np.load(path)[name].tolist()))
        contents[f"{name}.npy"] = buffer.getvalue()
    contents["about.json"] = json.dumps(json.loads(contents["about.json"]) | {"saved_version": 1}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    assert [truth.file_name for truth in read(tmp_path, split).truths] == [t.file_name for t in predicted().truths]


def test_a_bucket_keeps_predictions_as_a_disk_does(
    bucket_in_memory: MemoryFileSystem, split: PreparedSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing of them goes to a folder `gs:` of the disk."""
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "kept", split, predicted())
    with PredictionWriter("gs://bucket/kept", split, View.PLAIN, ABOUT) as writer:
        writer.add(compacted(predicted()))
    (local,), (remote,) = (tmp_path / "kept").glob("*.npz"), bucket_in_memory.glob("bucket/kept/*.npz")
    assert local.read_bytes() == bucket_in_memory.cat_file(remote)
    parts = list(SavedModel("gs://bucket/kept").stream(split, [View.PLAIN], start=7))
    np.testing.assert_array_equal(parts[0][View.PLAIN].logits, read(tmp_path / "kept", split).logits[7:])
    assert not (tmp_path / "gs:").exists()


@pytest.mark.parametrize("scale", [1.0, 10.0, 1000.0])
def test_the_answer_is_exact_and_its_confidence_nearly(tmp_path: Path, split: PreparedSplit, scale: float) -> None:
    """Even of two logits that are neighbours among float32."""
    expected = predicted(scale)
    expected.logits[:, 3] = np.nextafter(expected.logits.max(axis=-1), np.float32(np.inf))
    save(tmp_path, split, expected)
    found = read(tmp_path, split)
    np.testing.assert_array_equal(found.logits.argmax(axis=-1), expected.logits.argmax(axis=-1))
    np.testing.assert_allclose(log_confidence(found.logits), log_confidence(expected.logits), atol=2e-3)
    labelled = [t for t in expected.truths if t.label >= 0]
    rows = [i for i, t in enumerate(expected.truths) if t.label >= 0]
    right = [ARGMAX(Predictions(p.logits[rows], None, labelled)).right.tolist() for p in (found, expected)]
    assert right[0] == right[1]


def test_two_bytes_a_logit(tmp_path: Path, split: PreparedSplit) -> None:
    save(tmp_path, split, predicted())
    (path,) = tmp_path.glob("*.npz")
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("logits.npy").file_size < 2 * NUM_IMAGES * 50 + 200
    assert np.load(path)["logits"].shape == (NUM_IMAGES, 50)  # and numpy reads it


def test_nothing_half_is_left(tmp_path: Path, split: PreparedSplit) -> None:
    whole = predicted()
    with pytest.raises(KeyboardInterrupt), PredictionWriter(tmp_path, split, View.PLAIN, ABOUT) as writer:
        writer.add(compacted(whole))
        raise KeyboardInterrupt
    with PredictionWriter(tmp_path, split, View.PLAIN, ABOUT) as writer:
        writer.add(compacted(Predictions(whole.logits[:3], None, whole.truths[:3])))
    assert not list(tmp_path.iterdir())


def test_what_was_not_predicted_is_asked_for(tmp_path: Path, split: PreparedSplit) -> None:
    with pytest.raises(UserError, match="holds no saved predictions"):
        SavedModel(tmp_path)
    save(tmp_path, split, predicted())
    with pytest.raises(UserError, match=r"no saved predictions of .* seen as centre_mean"):
        list(SavedModel(tmp_path).stream(split, [View.CENTRE_MEAN]))


def test_predictions_of_two_models_are_not_mixed(tmp_path: Path, split: PreparedSplit) -> None:
    save(tmp_path, split, predicted())
    other = ABOUT | {"checkpoint": {"step": 2}}
    with PredictionWriter(tmp_path, split, View.CENTRE_MEAN, other) as writer:
        writer.add(compacted(predicted()))
    with pytest.raises(UserError, match="are of different checkpoints"):
        SavedModel(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no zip", None], ids=["empty", "text", "another npz"])
def test_another_file_is_told_from_predictions(tmp_path: Path, content: bytes | None) -> None:
    if content is None:
        np.savez(tmp_path / "x.npz", a=np.zeros(3))
    else:
        (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.npz: not saved predictions"):
        SavedModel(tmp_path)


def test_a_byte_that_changed_is_told_before_anything_counts(tmp_path: Path, split: PreparedSplit) -> None:
    save(tmp_path, split, predicted())
    (path,) = tmp_path.glob("*.npz")
    whole, expected = path.read_bytes(), read(tmp_path, split)
    told = 0
    for place in np.random.default_rng(0).integers(0, len(whole), 60).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            found = list(SavedModel(tmp_path).stream(split, [View.PLAIN], start=7))
        except UserError as e:
            assert str(path) in str(e)
            told += 1
        else:  # a date, or the like
            np.testing.assert_array_equal(found[0][View.PLAIN].logits, expected.logits[7:])
    assert told > 40


def test_another_version_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("about.json", json.dumps(ABOUT | {"saved_version": 99}))
    with pytest.raises(UserError, match="version 99"):
        SavedModel(tmp_path)


def test_a_full_disk_and_a_folder_that_is_none_are_told(
    tmp_path: Path, split: PreparedSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        save(tmp_path / "file", split, predicted())
    monkeypatch.setattr(zipfile._ZipWriteFile, "write", full)  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        save(tmp_path / "kept", split, predicted())
    assert not list((tmp_path / "kept").iterdir())
