"""Answers image by image come back as they were, and damage is one error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from luab_jax.errors import UserError
from luab_jax.results.answers import Answered, Answers, Kind, Sample, answers_path, read_answers, write_answers

IMAGES = [f"n0/é {i}\u202e.JPEG" for i in range(11)]


def answers() -> Answers:
    rng = np.random.default_rng(0)
    right = Sample(Kind.RIGHT, rng.random(11) < 0.5, IMAGES)
    means = Sample(Kind.MEANS, rng.normal(size=11).astype(np.float32), IMAGES)
    resamples = Sample(Kind.RESAMPLES, rng.normal(size=5).astype(np.float32))
    data = {"val": "f"}
    scores = {"top1": Answered(right, data), "map": Answered(means, data), "fpr95": Answered(resamples, {})}
    return Answers({"workdir": "w", "seed": 0}, {"imagenet": scores})


def test_they_come_back(tmp_path: Path) -> None:
    path = tmp_path / "r.answers.npz"
    write_answers(path, answers())
    again, first = read_answers(path), answers()
    assert again.checkpoint == first.checkpoint
    for name, expected in first.suites["imagenet"].items():
        found = again.suites["imagenet"][name]
        assert found.data == expected.data and list(found.sample.images) == list(expected.sample.images)
        assert found.sample.kind is expected.sample.kind
        np.testing.assert_array_equal(found.sample.values, expected.sample.values)


def test_the_file_is_read_by_numpy_alone(tmp_path: Path) -> None:
    write_answers(tmp_path / "a.npz", answers())
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        (names,) = (arrays[name] for name in arrays.files if name.startswith("images/"))
        right = np.unpackbits(arrays["imagenet/top1"], count=11)
    assert [name.decode() for name in names] == IMAGES
    assert right.tolist() == answers().suites["imagenet"]["top1"].sample.values.tolist()


def test_half_a_character_in_a_name_is_kept_as_its_escape(tmp_path: Path) -> None:
    sample = Sample(Kind.RIGHT, np.array([True]), ["a\ud800.png"])
    write_answers(tmp_path / "a.npz", Answers({}, {"s": {"top1": Answered(sample, {})}}))
    assert list(read_answers(tmp_path / "a.npz").suites["s"]["top1"].sample.images) == ["a\\ud800.png"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_torn_file_is_one_error(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.npz"
    write_answers(path, answers())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"not the answers of luab_jax\.evaluate"):
        read_answers(path)


def test_any_flipped_byte_is_read_or_one_error(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_answers(path, answers())
    whole = bytearray(path.read_bytes())
    for place in range(0, len(whole), 7):
        path.write_bytes(bytes([*whole[:place], whole[place] ^ 0x55, *whole[place + 1 :]]))
        try:
            read_answers(path)
        except UserError as e:
            assert "\n" not in str(e)


def test_pickled_arrays_are_not_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", about=np.asarray([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(UserError, match="not the answers"):
        read_answers(tmp_path / "a.npz")


def test_the_place_is_beside_the_results() -> None:
    assert str(answers_path("runs/results.json")) == "runs/results.answers.npz"
    assert str(answers_path("gs://b/r.json")) == "gs://b/r.answers.npz"
