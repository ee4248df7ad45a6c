"""ImageNet-P from its videos to flip rates, against a loop that compares whole rankings as the authors' does."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.stats import rankdata

from data_prep.__main__ import main
from data_prep.datasets.imagenet_p import check_frames, frames_of
from luab_jax.api import run_suites
from luab_jax.data.class_lists import imagenet
from luab_jax.data.dataset import open_split, read_manifest
from luab_jax.data.decoding import decode
from luab_jax.data.features import Example
from luab_jax.data.label_tables import PERTURBATIONS
from luab_jax.data.transforms import Preprocessing
from luab_jax.errors import DataError, ExitCode, UserError
from luab_jax.evaluation.procedures.perturbations import flip_rate, top5_distance
from tests.evaluation.test_more_suites import SIDE, model, picture

IDS = imagenet().ids
Capture = pytest.CaptureFixture[str]
KINDS = ("gaussian_noise", "translate", "shear")


def video(path: Path, num_frames: int, seed: int, side: int = SIDE) -> None:
    """Flat quarters whose colours drift."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 1, (side, side))
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, (4, 3)).astype(np.float64)
    for _ in range(num_frames):
        colours = np.clip(colours + rng.normal(0, 12, colours.shape), 0, 255)
        frame = np.repeat(np.repeat(colours.reshape(2, 2, 3), side // 2, axis=0), side // 2, axis=1)
        writer.write(frame.astype(np.uint8))
    writer.release()


def prepare(source: Path, out: Path, *flags: str) -> int:
    return main(["suite", "imagenet_p", f"--source={source}", f"--out={out}", "--workers=1", *flags])


def evaluated(data: Path):  # type: ignore[no-untyped-def]
    stored = Preprocessing(image_size=SIDE, resize_side=None)
    return run_suites(model, data, "imagenet_p", preprocessing=stored, name="drawn", batch_size=16)["imagenet_p"]


def by_rankings(logits: np.ndarray, *, noise: bool) -> tuple[float, float]:
    """Flips and top-5 distance of a video from the ranks of all classes: the cumulative sums are of 0, 1 x 5, 0 ..."""
    ranks = [rankdata(-frame, method="ordinal").astype(int) for frame in logits]
    best = np.concatenate([[0], np.ones(5, int), np.zeros(994, int)]).cumsum()
    flips, distances, before = [], [], 0
    for i in range(1, len(ranks)):
        order = np.argsort(ranks[before])  # the classes of the frame before, best first
        flips.append(order[0] != np.argsort(ranks[i])[0])
        distances.append(np.abs(best[:5] - best[ranks[i][order] - 1][:5]).sum())
        before = 0 if noise else i
    return float(np.mean(flips)), float(np.mean(distances))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("imagenet_p")
    for k, kind in enumerate(KINDS):
        for i in range(5):
            name = f"{kind}/{IDS[3 * i]}/ILSVRC2012_val_{i + 1:08d}.mp4"
            video(root / name, PERTURBATIONS[kind], 10 * k + i)
    return root


def test_flip_rates_are_those_of_a_loop_over_the_videos(videos: Path, tmp_path: Path) -> None:
    assert prepare(videos, tmp_path) == ExitCode.DONE
    result, expected = evaluated(tmp_path), {}
    for kind in KINDS:
        of_kind = []
        for path in sorted((videos / kind).glob("*/*.mp4")):
            frames = np.stack(frames_of(path.read_bytes(), PERTURBATIONS[kind]))
            assert frames.shape == (PERTURBATIONS[kind], SIDE, SIDE, 3)
            of_kind.append(by_rankings(model(frames), noise="noise" in kind))
        expected[kind] = np.mean(of_kind, axis=0)
        assert result[f"flip_rate_{kind}"] == pytest.approx(expected[kind][0])
    of_test = np.mean([expected["gaussian_noise"], expected["translate"]], axis=0)  # shear is of the validation set
    assert 0 < result["flip_rate"] < 1 and result["flip_rate"] == pytest.approx(of_test[0])
    assert result["top5_distance"] == pytest.approx(of_test[1])
    low, high = result.scores["flip_rate"].interval
    assert low < result["flip_rate"] < high
    assert (result["n"], result["n_videos"]) == (5, 15) and result.data.partial
    assert "brightness" in result.details["perturbations_missing"]


def test_a_record_is_the_strip_of_the_frames_that_opencv_reads(videos: Path, tmp_path: Path) -> None:
    assert prepare(videos, tmp_path, "--split=translate") == ExitCode.DONE
    opened = open_split(tmp_path / "imagenet_p", "translate")
    assert len(opened.records) == 5 and opened.manifest.counts["frames"] == 5 * 41
    example = Example(opened.records[0])
    strip = np.asarray(decode(example.image, example.file_name))
    frames = frames_of((videos / "translate" / example.file_name).read_bytes(), 41)
    assert np.array_equal(strip.reshape(41, SIDE, SIDE, 3), frames)
    assert not (tmp_path / "imagenet_p" / "shear.manifest.json").exists()


def test_rankings_that_move_by_known_places() -> None:
    still, swapped, gone = [0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [9, 8, 7, 6, 5]
    assert top5_distance(np.asarray([still, still]), noise=False) == 0
    assert top5_distance(np.asarray([still, swapped]), noise=False) == 2
    assert top5_distance(np.asarray([still, gone]), noise=False) == 5 + 4 + 3 + 2 + 1
    assert top5_distance(np.asarray([still, swapped, swapped]), noise=True) == 2
    assert flip_rate(np.asarray([0, 1, 1, 0]), noise=False) == pytest.approx(2 / 3)
    assert flip_rate(np.asarray([0, 1, 1, 0]), noise=True) == pytest.approx(2 / 3)
    assert flip_rate(np.asarray([0, 1, 1, 1]), noise=False) == pytest.approx(1 / 3)


def test_videos_that_are_no_videos_of_it_are_left_out(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "imagenet-p" / "tilt" / IDS[0]
    video(folder / "a.mp4", 31, 0)
    video(folder / "short.mp4", 30, 1)
    video(folder / "small.mp4", 31, 2, side=64)
    video(folder / "long.mp4", 40, 3)
    (folder / "broken.mp4").write_bytes(b"no video")
    assert prepare(tmp_path / "imagenet-p", tmp_path / "data") == ExitCode.DONE
    manifest = read_manifest(tmp_path / "data" / "imagenet_p", "tilt")
    assert manifest.num_records == 1
    told = {skipped.file.rpartition("/")[2]: skipped.detail for skipped in manifest.skipped}
    assert told == {
        "short.mp4": "30 frames can be read, a video of tilt has 31",
        "long.mp4": "more than 31 frames can be read, a video of tilt has 31",
        "small.mp4": "frames of 64x64 pixels, those of imagenet_p have 224",
        "broken.mp4": "0 frames can be read, a video of tilt has 31",
    }
    capsys.readouterr()
    assert prepare(folder, tmp_path / "other") == ExitCode.FAILED
    assert "holds no video of imagenet_p as <perturbation>/<wnid>/<image>.mp4" in capsys.readouterr().err
    assert prepare(tmp_path / "imagenet-p", tmp_path / "other", "--split=fog") == ExitCode.FAILED
    assert "--split=fog: imagenet_p has the splits gaussian_noise" in capsys.readouterr().err


def test_no_more_frames_are_decoded_than_tell_that_a_video_is_another(tmp_path: Path) -> None:
    """Neither of one that is too long nor of one whose frames have another size, even if later ones only."""
    video(tmp_path / "long.mp4", 40, 0)
    assert len(frames_of((tmp_path / "long.mp4").read_bytes(), 31)) == 32
    video(tmp_path / "small.mp4", 40, 1, side=64)
    assert len(frames_of((tmp_path / "small.mp4").read_bytes(), 31)) == 1
    frames = [np.zeros((SIDE, SIDE, 3), np.uint8)] * 30 + [np.zeros((64, 32, 3), np.uint8)]
    with pytest.raises(DataError, match="frames of 32x64 pixels, those of imagenet_p have 224"):
        check_frames(frames, "tilt")


def test_without_any_video_the_suite_says_so(tmp_path: Path) -> None:
    picture(tmp_path / "ImageNet-Sketch", f"{IDS[0]}/sketch_1.JPEG", 0)
    source, out = f"--source={tmp_path / 'ImageNet-Sketch'}", f"--out={tmp_path / 'data'}"
    assert main(["suite", "imagenet_sketch", source, out, "--workers=1"]) == ExitCode.DONE
    with pytest.raises(UserError, match=r"no data for any of its perturbations; get it with: .* suite imagenet_p"):
        evaluated(tmp_path / "data")
