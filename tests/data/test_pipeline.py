"""Which images a step sees: a function of seed and step alone, on any number of hosts and threads."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import google_crc32c
import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image

from luab_jax.byproducts.records import Box, ImageRecord, Showing, TimedPoint
from luab_jax.byproducts.targets import Target
from luab_jax.data.batch import Batch
from luab_jax.data.class_lists import ClassList
from luab_jax.data.dataset import (
    Manifest,
    PreparedSplit,
    Shard,
    index_path,
    manifest_path,
    open_split,
    shard_name,
    write_index,
)
from luab_jax.data.features import encode
from luab_jax.data.pipeline import Augmentation, Reading, Truth, derived_seed, eval_batches, train_batches
from luab_jax.data.tfrecord import frame
from luab_jax.data.transforms import Preprocessing
from luab_jax.errors import DataError

SIDE = 8
NUM_RECORDS = 13
ONE_THREAD = Reading(num_threads=1, prefetch_examples=4)
AUGMENTATION = Augmentation(image_size=SIDE, crop_scale=(0.3, 1.0))


def record(index: int, *, image: bytes | None = None) -> ImageRecord:
    """An image whose grey tells its number, clicked except for every fourth, with a box except for every third."""
    if image is None:
        buffer = io.BytesIO()
        Image.new("RGB", (20 + index % 3, 16), (10 * index,) * 3).save(buffer, "PNG")
        image = buffer.getvalue()
    click = TimedPoint((index + 0.5) / 16, 0.5, None)
    return ImageRecord(
        file_name=f"{index:02d}.png",
        image=image,
        height=16,
        width=20 + index % 3,
        label=index % 5,
        labels=(index % 5, 4),
        group=f"group {index % 2}",
        boxes=(Box(x_min=0.25, y_min=0.25, x_max=0.75, y_max=0.5, label=index % 5),) if index % 3 else (),
        showings=(Showing(selected=True, clicks=(click,)),) if index % 4 else (),
    )


def write_split(directory: Path, records: list[ImageRecord]) -> PreparedSplit:
    """A prepared split of two shards in the given order, by the contract and without data_prep."""
    shards, offsets, lengths = [], [], []
    middle = len(records) // 2
    for number, part in enumerate((records[:middle], records[middle:])):
        data = [encode(one) for one in part]
        content = b"".join(map(frame, data))
        name = shard_name("tiny", "train", number, 2)
        (directory / name).write_bytes(content)
        shards.append(
            Shard(
                file_name=name,
                num_records=len(part),
                num_bytes=len(content),
                crc32c=google_crc32c.value(content),
            )
        )
        offsets.append(np.cumsum([0, *(len(frame(d)) for d in data)])[:-1])
        lengths.append(np.array([len(d) for d in data]))
    write_index(index_path(directory, "train"), offsets, lengths)
    classes = ClassList(tuple("abcde"), tuple("abcde"))
    manifest = Manifest(dataset="tiny", split="train", classes=classes, shards=tuple(shards))
    epath.Path(manifest_path(directory, "train")).write_text(manifest.to_json())
    return open_split(directory, "train")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    return write_split(tmp_path_factory.mktemp("split"), [record(i) for i in range(NUM_RECORDS)])


def train(split: PreparedSplit, num_batches: int, **changes: object) -> list[Batch]:
    arguments = {
        "augmentation": AUGMENTATION,
        "target": Target.CLICK_LAST,
        "seed": 0,
        "batch_size": 4,
        "reading": ONE_THREAD,
    }
    return list(itertools.islice(train_batches(split, **arguments | changes), num_batches))


def evaluate(split: PreparedSplit, batch_size: int, **changes: object) -> list[tuple[Batch, list[Truth]]]:
    arguments = {
        "preprocessing": Preprocessing(image_size=SIDE, resize_side=SIDE + 2),
        "batch_size": batch_size,
        "reading": ONE_THREAD,
    }
    return list(eval_batches(split, **arguments | changes))


def assert_same_batches(ones: list[Batch], others: list[Batch]) -> None:
    assert len(ones) == len(others)
    for one, other in zip(ones, others, strict=True):
        assert jax.tree.structure(one) == jax.tree.structure(other)
        for (path, a), b in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))
            assert a.dtype == b.dtype, path


def interleaved(of_processes: list[list[Batch]]) -> list[Batch]:
    """The global batches whose row i belongs to process i mod h."""
    return [
        jax.tree.map(lambda *arrays: np.stack(arrays, axis=1).reshape(-1, *arrays[0].shape[1:]), *parts)
        for parts in zip(*of_processes, strict=True)
    ]


def seen(batches: list[Batch]) -> list[int]:
    return np.concatenate([batch.index for batch in batches]).tolist()


# --- training


def test_a_training_batch_has_the_promised_shapes(split: PreparedSplit) -> None:
    (batch,) = train(split, 1)
    assert batch.images.shape == (4, SIDE, SIDE, 3) and batch.images.dtype == np.uint8
    assert batch.labels.shape == batch.index.shape == batch.mask.shape == (4,)
    assert batch.targets.shape == (4, 1, 2) and batch.targets.dtype == np.float32
    assert batch.valid.shape == (4, 1) and batch.valid.dtype == bool
    assert batch.mask.all()


def test_image_label_and_click_of_a_row_belong_together(split: PreparedSplit) -> None:
    for batch in train(split, 5):
        for image, label, valid, index in zip(batch.images, batch.labels, batch.valid, batch.index, strict=True):
            np.testing.assert_array_equal(image, 10 * index)
            assert label == index % 5
            assert not (valid[0] and index % 4 == 0)  # never clicked


def test_the_baseline_has_no_targets(split: PreparedSplit) -> None:
    (batch,) = train(split, 1, target=Target.NONE)
    assert batch.targets.shape[:2] == (4, 0)
    assert batch.valid.shape == (4, 0)
    np.testing.assert_array_equal(batch.images, train(split, 1)[0].images)


def test_every_record_comes_exactly_once_in_every_epoch(split: PreparedSplit) -> None:
    order = seen(train(split, 13))  # four epochs of 13 records; batches of 4 straddle them
    epochs = [order[i : i + NUM_RECORDS] for i in range(0, 4 * NUM_RECORDS, NUM_RECORDS)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(NUM_RECORDS))
    assert len(set(map(tuple, epochs))) == len(epochs)


@pytest.mark.parametrize("process_count", [2, 4])
def test_global_batches_do_not_depend_on_the_number_of_processes(split: PreparedSplit, process_count: int) -> None:
    alone = train(split, 7, target=Target.RANDOM)
    together = [
        train(split, 7, target=Target.RANDOM, process_index=i, process_count=process_count)
        for i in range(process_count)
    ]
    assert_same_batches(interleaved(together), alone)


@pytest.mark.parametrize(("start_step", "process_count"), [(1, 1), (5, 1), (5, 2)])
def test_a_resumed_run_continues_the_uninterrupted_one(
    split: PreparedSplit, start_step: int, process_count: int
) -> None:
    uninterrupted = train(split, start_step + 3)
    resumed = [
        train(split, 3, start_step=start_step, process_index=i, process_count=process_count)
        for i in range(process_count)
    ]
    assert_same_batches(interleaved(resumed), uninterrupted[start_step:])


@pytest.mark.parametrize("num_threads", [0, 2, 7])
def test_batches_do_not_depend_on_the_number_of_threads(split: PreparedSplit, num_threads: int) -> None:
    reading = Reading(num_threads=num_threads, prefetch_examples=16)
    assert_same_batches(train(split, 6, reading=reading), train(split, 6))


def test_a_seed_gives_one_stream_and_its_neighbours_give_others(split: PreparedSplit) -> None:
    """Not even shifted by some epochs: epoch e of seed s must not be epoch 0 of seed s + e."""
    num_batches = 13  # four epochs
    streams = {seed: seen(train(split, num_batches, seed=seed)) for seed in (0, 1, 2)}
    assert streams[0] == seen(train(split, num_batches, seed=0))
    epochs = [tuple(stream[i : i + NUM_RECORDS]) for stream in streams.values() for i in range(0, 52, NUM_RECORDS)]
    assert len(set(epochs)) == len(epochs)


def test_shuffling_and_augmentation_have_seeds_of_their_own() -> None:
    seeds = [derived_seed(seed, purpose) for seed in range(100) for purpose in ("shuffle", "augment")]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_an_image_is_cropped_anew_in_every_epoch_and_by_every_seed(split: PreparedSplit) -> None:
    """Where the click lands tells the crop."""

    def clicks(seed: int) -> list[tuple[int, float, float]]:
        return [
            (index, *target[0].tolist())
            for batch in train(split, 13, seed=seed)
            for index, target, valid in zip(batch.index.tolist(), batch.targets, batch.valid, strict=True)
            if valid[0]
        ]

    first, second = clicks(0), clicks(1)
    assert len(first) > NUM_RECORDS  # some were valid more than once
    assert len(set(first + second)) == len(first + second)


@pytest.mark.parametrize("flip", [True, False])
def test_an_uncropped_image_has_the_recorded_click_or_its_mirror_image(split: PreparedSplit, flip: bool) -> None:
    """Images of 21 x 16 pixels have an allowed ratio: a crop of the whole area leaves out a column at most."""
    whole = Augmentation(image_size=SIDE, crop_scale=(1.0, 1.0), flip=flip)
    mirrored = []
    for batch in train(split, 26, augmentation=whole):
        for index, target, valid in zip(batch.index.tolist(), batch.targets, batch.valid, strict=True):
            if valid[0] and index in (1, 10):
                x = (index + 0.5) / 16
                mirrored.append(abs(target[0, 0] - x) > 0.06)
                np.testing.assert_allclose(target[0], [1 - x if mirrored[-1] else x, 0.5], atol=0.06)
    assert len(mirrored) == 2 * 8
    assert set(mirrored) == ({True, False} if flip else {False})


def test_a_batch_that_does_not_divide_among_the_hosts_is_refused(split: PreparedSplit) -> None:
    with pytest.raises(DataError, match="the batch of 4 does not divide among 3 hosts"):
        train(split, 1, process_count=3)
    with pytest.raises(DataError, match="the batch of 4 does not divide among 3 hosts"):
        evaluate(split, 4, process_count=3)


def test_an_empty_split_is_refused_for_training(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'train' holds no record to train on"):
        train(write_split(tmp_path, []), 1)


# --- evaluation


@pytest.mark.parametrize("batch_size", [1, 4, 8, 13, 26, 32])
def test_every_record_is_evaluated_once_and_padding_is_masked(split: PreparedSplit, batch_size: int) -> None:
    batches = evaluate(split, batch_size)
    assert len(batches) == -(-NUM_RECORDS // batch_size)
    assert all(len(batch.images) == batch_size for batch, _ in batches)
    mask = np.concatenate([batch.mask for batch, _ in batches])
    assert mask.sum() == NUM_RECORDS
    assert mask[:NUM_RECORDS].all()
    index = np.concatenate([batch.index for batch, _ in batches])
    assert index[mask].tolist() == list(range(NUM_RECORDS))
    assert set(index[~mask].tolist()) <= {-1}
    for batch, truths in batches:
        assert len(truths) == batch.mask.sum()
        assert not batch.valid[~batch.mask].any()
        assert (batch.labels[~batch.mask] == -1).all()
        assert not batch.images[~batch.mask].any()


def test_truths_stand_in_the_order_of_their_rows(split: PreparedSplit) -> None:
    batches = evaluate(split, 4)
    truths = [truth for _, of_batch in batches for truth in of_batch]
    assert [truth.file_name for truth in truths] == [f"{i:02d}.png" for i in range(NUM_RECORDS)]
    for i, truth in enumerate(truths):
        assert (truth.label, truth.labels, truth.group) == (i % 5, (i % 5, 4), f"group {i % 2}")
        assert (truth.box is None) == (i % 3 == 0)
    for batch, of_batch in batches:
        rows = np.flatnonzero(batch.mask)
        for row, truth in zip(rows, of_batch, strict=True):
            np.testing.assert_array_equal(batch.images[row], 10 * batch.index[row])
            assert batch.labels[row] == truth.label
            assert batch.valid[row, 0] == (truth.click is not None)
            if truth.click is not None:
                np.testing.assert_array_equal(batch.targets[row, 0], truth.click)


def test_the_true_click_is_moved_with_resize_and_centre_crop(split: PreparedSplit) -> None:
    """Images of 20 to 22 x 16 become 12 to 13 x 10, of which 8 x 8 are cut."""
    truths = [truth for _, of_batch in evaluate(split, 13) for truth in of_batch]
    for i, truth in enumerate(truths):
        resized = int(10 * (20 + i % 3) / 16)
        left = round((resized - SIDE) / 2)
        x = ((i + 0.5) / 16 * resized - left) / SIDE
        if i % 4 == 0 or not 0 <= x <= 1:
            assert truth.click is None
        else:
            np.testing.assert_allclose(truth.click, [x, 0.5], atol=1e-6)


@pytest.mark.parametrize("process_count", [2, 4])
def test_evaluation_on_several_processes_covers_the_same_rows(split: PreparedSplit, process_count: int) -> None:
    alone = evaluate(split, 8)
    parts = [evaluate(split, 8, process_index=i, process_count=process_count) for i in range(process_count)]
    assert len({len(part) for part in parts}) == 1  # a host with fewer batches would leave the others waiting
    assert_same_batches(interleaved([[batch for batch, _ in part] for part in parts]), [batch for batch, _ in alone])
    names = sorted(truth.file_name for part in parts for _, truths in part for truth in truths)
    assert names == [f"{i:02d}.png" for i in range(NUM_RECORDS)]


def test_evaluation_does_not_depend_on_the_number_of_threads(split: PreparedSplit) -> None:
    for num_threads in (0, 5):
        batches = evaluate(split, 4, reading=Reading(num_threads=num_threads, prefetch_examples=16))
        assert_same_batches([batch for batch, _ in batches], [batch for batch, _ in evaluate(split, 4)])


def test_an_empty_split_has_no_batches_to_evaluate(tmp_path: Path) -> None:
    assert evaluate(write_split(tmp_path, []), 4) == []


# --- what is broken is named


@pytest.mark.parametrize("num_threads", [1, 4])
def test_a_corrupt_image_is_named(tmp_path: Path, num_threads: int) -> None:
    records = [record(i) for i in range(6)]
    records[4] = record(4, image=b"no image at all")
    split = write_split(tmp_path, records)
    reading = Reading(num_threads=num_threads, prefetch_examples=4)
    with pytest.raises(DataError, match=r"04\.png: the image cannot be decoded"):
        train(split, 3, reading=reading)
    with pytest.raises(DataError, match=r"04\.png: the image cannot be decoded"):
        evaluate(split, 3, reading=reading)


def test_a_flipped_byte_in_a_shard_is_named_with_its_place(tmp_path: Path) -> None:
    split = write_split(tmp_path, [record(i) for i in range(6)])
    path = tmp_path / shard_name("tiny", "train", 1, 2)
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"train\.tfrecord-00001-of-00002: record 2 at byte \d+: fails its CRC"):
        evaluate(open_split(split.directory, "train"), 3)


def test_an_image_of_other_size_in_a_set_fed_as_stored_is_named(split: PreparedSplit) -> None:
    with pytest.raises(DataError, match=r"00\.png: the image has 20x16 pixels"):
        evaluate(split, 4, preprocessing=Preprocessing(image_size=SIDE, resize_side=None))
