"""`config.data.decoder=nvjpeg`: refused before the training where it cannot be, and what batches it makes.

No GPU: an imitation of nvImageCodec stands for it, and for jax's list of devices.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from data_prep.writing.shards import Outcome
from luab_jax.byproducts.records import Size
from luab_jax.config import Config
from luab_jax.data.dataset import PreparedSplit, open_split
from luab_jax.data.features import Example
from luab_jax.data.gpu_jpeg import JpegDecoder
from luab_jax.data.transforms import ResizeFilter
from luab_jax.errors import ConfigError, DataError
from luab_jax.training import gpu_decoding
from luab_jax.training.batches import training_batches
from luab_jax.training.gpu_decoding import check_decoder
from luab_jax.training.setup import set_up
from tests import nvimgcodec, tiny
from tests.data.test_decoding import drawn, jpeg
from tests.nvimgcodec import Gpus

NUM_IMAGES, A_PNG, CUT_OFF = 16, 5, 7


def draw(item: tiny.Drawn) -> Outcome:
    """JPEGs, and one PNG."""
    outcome = tiny.draw(item)
    if item.index == A_PNG:
        return outcome
    assert outcome.record is not None
    photo = jpeg(drawn(Size(30, 24), seed=item.index))
    return outcome._replace(record=dataclasses.replace(outcome.record, image=photo))


def draw_with_one_cut_off(item: tiny.Drawn) -> Outcome:
    outcome = draw(item)
    assert outcome.record is not None
    whole = outcome.record.image
    image = whole[: len(whole) // 2] if item.index == CUT_OFF else whole
    return outcome._replace(record=dataclasses.replace(outcome.record, image=image))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jpegs")
    tiny.prepare_split(folder, "train", NUM_IMAGES, read=draw)
    return tiny.prepare_split(folder, "val", 8)


@pytest.fixture
def split(root: Path) -> PreparedSplit:
    return open_split(root, "train")


def have_devices(monkeypatch: pytest.MonkeyPatch, *platforms: str) -> None:
    found = [types.SimpleNamespace(platform=name, local_hardware_id=i) for i, name in enumerate(platforms)]
    jax = types.SimpleNamespace(local_devices=lambda: found, process_index=lambda: 0)
    monkeypatch.setattr(gpu_decoding, "jax", jax)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Gpus:
    have_devices(monkeypatch, "gpu", "gpu")
    return nvimgcodec.install(monkeypatch)


def experiment(root: Path, decoder: JpegDecoder = JpegDecoder.NVJPEG, **of_data: object) -> Config:
    config = tiny.experiment(root, batch_size=NUM_IMAGES)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, decoder=decoder, **of_data))  # pyright: ignore[reportArgumentType]


def images(config: Config, split: PreparedSplit) -> np.ndarray:
    """Of two epochs."""
    batches = training_batches(config, split, num_classes=3)
    found = np.concatenate([np.array(batch.images) for batch in itertools.islice(batches, 2)])
    batches.close()
    return found


@pytest.mark.parametrize("filter", ResizeFilter)
def test_the_gpu_decodes_all_jpegs_and_the_rest_follows_as_on_the_cpu(
    root: Path, split: PreparedSplit, gpus: Gpus, filter: ResizeFilter
) -> None:
    """With the same pixels from either, batches are the same; the imitation knows no chroma that is not smoothed."""
    gpus.added = 0
    found = images(experiment(root, crop_filter=filter), split)
    assert sum(gpus.batches) >= 2 * (NUM_IMAGES - 1)  # some batches ahead are made as well
    assert max(gpus.batches) > 1
    assert {options["device_id"] for options in gpus.decoders} <= {0, 1}
    np.testing.assert_array_equal(found, images(experiment(root, JpegDecoder.CPU, crop_filter=filter), split))


def test_the_gpus_pixels_are_those_that_are_trained_on(root: Path, split: PreparedSplit, gpus: Gpus) -> None:
    gpus.added = 3
    difference = images(experiment(root), split).astype(int) - images(experiment(root, JpegDecoder.CPU), split)
    assert 2 < difference.mean() < 3.2  # but for the PNG, and where a colour is cut at 255
    assert sum(not image.any() for image in difference) == 2  # the PNG, in each epoch


def test_by_default_no_gpu_is_asked(root: Path, split: PreparedSplit, gpus: Gpus) -> None:
    config = tiny.experiment(root, batch_size=NUM_IMAGES)
    assert config.data.decoder is JpegDecoder.CPU
    images(config, split)
    check_decoder(config, split)
    assert not gpus.decoders


def test_the_cpu_decodes_what_the_gpu_does_not(root: Path, split: PreparedSplit, gpus: Gpus) -> None:
    gpus.broken.update(Example(record).image for record in (split.records[i] for i in range(0, NUM_IMAGES, 2)))
    gpus.added = 0
    found = images(experiment(root), split)
    np.testing.assert_array_equal(found, images(experiment(root, JpegDecoder.CPU), split))


def test_an_image_that_nobody_decodes_is_named_as_ever(tmp_path: Path, gpus: Gpus) -> None:
    tiny.prepare_split(tmp_path, "train", NUM_IMAGES, read=draw_with_one_cut_off)
    split = open_split(tmp_path, "train")
    name = draw_with_one_cut_off(tiny.Drawn(CUT_OFF)).record.file_name  # pyright: ignore[reportOptionalMemberAccess]
    with pytest.raises(DataError, match=f"{name}: the image cannot be decoded"):
        images(experiment(tmp_path), split)


# --- before the training


def refusal(config: Config) -> str:
    with pytest.raises(ConfigError, match=r"^config\.data\.decoder=nvjpeg: ") as refused:
        set_up(config, "workdir")
    text = str(refused.value)
    assert "\n" not in text and "config.data.decoder=cpu" in text
    return text


def test_a_host_without_a_gpu_refuses(root: Path, gpus: Gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    have_devices(monkeypatch, "cpu")
    assert "jax sees no GPU" in refusal(experiment(root))


def test_a_host_without_the_library_refuses(root: Path, gpus: Gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, nvimgcodec.MODULE, None)
    assert "pip install nvidia-nvimgcodec-cu12 nvidia-nvjpeg-cu12" in refusal(experiment(root))


def test_a_library_without_nvjpeg_refuses(root: Path, gpus: Gpus) -> None:
    gpus.fails = True
    assert "none of the first 8 JPEGs" in refusal(experiment(root))


def test_pixels_too_far_from_the_cpus_are_refused_with_the_image(root: Path, split: PreparedSplit, gpus: Gpus) -> None:
    gpus.added = 5
    text = refusal(experiment(root))
    assert "tolerated: 1 and 0.1%" in text and "by more than 4 in" in text
    names = [Example(split.records[i]).file_name for i in range(2)]  # one of them may be the PNG
    assert any(name in text for name in names)


def test_pixels_within_the_tolerance_are_told_of(
    root: Path, split: PreparedSplit, gpus: Gpus, capsys: pytest.CaptureFixture[str]
) -> None:
    check_decoder(experiment(root), split)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("nvJPEG: 8 JPEGs differ from the CPU's pixels by 0.") and "0.00% of an image" in line


def test_a_split_without_jpegs_is_the_cpus(root: Path, gpus: Gpus, capsys: pytest.CaptureFixture[str]) -> None:
    check_decoder(experiment(root), open_split(root, "val"))
    assert "the CPU decodes all" in capsys.readouterr().err
    assert not gpus.decoders
