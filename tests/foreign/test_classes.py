"""Outputs of other numbers and orders than ImageNet's 1,000: a list says what they are, or they are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from luab_jax.data.class_lists import imagenet
from luab_jax.errors import CheckpointError
from luab_jax.foreign.classes import read_outputs

WNIDS = imagenet().ids


def write(path: Path, ids: list[str]) -> Path:
    path.write_text("\n".join(ids))
    return path


def test_a_thousand_outputs_are_imagenets_in_the_order_of_their_wnids() -> None:
    assert read_outputs("m", 1000, None).classes.hash == imagenet().hash


@pytest.mark.parametrize(
    ("num_outputs", "told"),
    [
        (1001, "first is usually a background"),
        (21843, "ImageNet-21k's"),
        (21841, "ImageNet-21k's"),
        (7, "has 7 outputs"),
    ],
)
def test_any_other_number_is_refused_without_a_list(num_outputs: int, told: str) -> None:
    with pytest.raises(CheckpointError, match=told):
        read_outputs("m", num_outputs, None)


def test_of_a_list_with_a_background_or_of_21843_classes_imagenets_are_scored(tmp_path: Path) -> None:
    found = read_outputs("m", 1001, write(tmp_path / "1001.txt", ["background", *WNIDS]))
    assert found.classes.hash == imagenet().hash
    np.testing.assert_array_equal(found.columns, np.arange(1, 1001))
    many = [f"n99{i:06d}" for i in range(20843)]
    shuffled = np.random.default_rng(0).permutation([*WNIDS, *many]).tolist()
    found = read_outputs("m", 21843, write(tmp_path / "21843.txt", shuffled))
    assert found.classes.hash == imagenet().hash and found.columns is not None
    assert [shuffled[i] for i in found.columns] == list(WNIDS)


def test_another_order_of_the_thousand_is_kept_as_it_is(tmp_path: Path) -> None:
    """The suites then take every output for its class."""
    found = read_outputs("m", 1000, write(tmp_path / "order.txt", list(reversed(WNIDS))))
    assert found.columns is None and found.classes.ids == tuple(reversed(WNIDS))


def test_a_list_of_another_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has 1,000 outputs, classes='.*two.txt' has 2 classes"):
        read_outputs("m", 1000, write(tmp_path / "two.txt", ["a", "b"]))
