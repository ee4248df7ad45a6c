"""The same global batches on any number of hosts, after any resumption, and however examples are grouped in threads."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image

from data_prep.commands import Job, prepare_folders
from data_prep.datasets.listing import Inputs
from data_prep.sources.tree import Folder
from luab_jax.byproducts.targets import Target
from luab_jax.data.batch import Batch
from luab_jax.data.class_lists import ClassList
from luab_jax.data.dataset import PreparedSplit, open_split
from luab_jax.data.pipeline import Augmentation, Reading, train_batches

STEPS, BATCH = 3, 66  # of which the largest divisors up to 32 are 22 for one host and 11 for two


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / "raw" / name).mkdir(parents=True)
        for k in range(20):
            pixels = rng.integers(0, 256, (40 + k, 60 - k, 3), np.uint8)
            Image.fromarray(pixels).save(root / "raw" / name / f"{name}_{k}.JPEG")
    classes = ClassList(("cat", "dog"), ("cat", "dog"))
    job = Job(out=Path(root, "out"), split="train", dataset="photos", classes=classes, workers=1)
    prepare_folders(Inputs(images=Folder(Path(root, "raw"))), job)
    return open_split(epath.Path(root) / "out", "train")


def batches(split: PreparedSplit, steps: int = STEPS, threads: int = 2, **where: int) -> list[Batch]:
    endless = train_batches(
        split,
        augmentation=Augmentation(image_size=16),
        target=Target.RANDOM,
        seed=5,
        batch_size=BATCH,
        reading=Reading(num_threads=threads, prefetch_examples=8),
        **where,
    )
    return [next(endless) for _ in range(steps)]


def assert_equal(one: Batch, other: Batch) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_hosts_share_the_global_batch_row_by_row(split: PreparedSplit) -> None:
    whole = batches(split)
    hosts = [batches(split, process_index=i, process_count=2) for i in range(2)]
    for step in range(STEPS):
        for i in range(2):
            assert_equal(hosts[i][step], jax.tree.map(lambda rows, host=i: rows[host::2], whole[step]))


def test_a_resumed_run_continues_where_it_stopped(split: PreparedSplit) -> None:
    assert_equal(batches(split, 1, start_step=2)[0], batches(split)[2])


def test_the_number_of_threads_changes_nothing(split: PreparedSplit) -> None:
    for one, many in zip(batches(split, threads=1), batches(split, threads=7), strict=True):
        assert_equal(one, many)


def test_an_epoch_holds_every_record_once(split: PreparedSplit) -> None:
    index = np.concatenate([batch.index for batch in batches(split)])
    for epoch in range(len(index) // 40):
        assert sorted(index[40 * epoch : 40 * (epoch + 1)]) == list(range(40))
