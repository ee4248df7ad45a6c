"""What a loader gives beside what is needed, and the remedy, in one line."""

from __future__ import annotations

import pytest

from luab_jax.data import input_speed
from luab_jax.data.input_speed import InputSpeed, Meter
from luab_jax.data.reading import Reading

SIXTEEN = Reading(num_threads=16)


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_speed, "num_cores", lambda: 16)


def test_the_rate_is_that_of_all_who_make_images_together() -> None:
    meter = Meter()
    assert meter.images_per_s(4) is None
    meter.count(32, 2.0)
    meter.count(32, 6.0)
    assert meter.images_per_s(4) == pytest.approx(4 * 64 / 8.0)


def test_what_binds_is_said_with_both_numbers() -> None:
    slow = InputSpeed(needed=6566.0, given=588.0, reading=SIXTEEN, root="/data")
    assert slow.binds
    assert slow.line() == (
        "input: the step takes 6,566 images/s a host, 16 thread(s) on 16 core(s) give 588 images/s: the input binds;"
        " decode in processes: --config.data.workers=-1 (at this rate 197 cores a host, with as many workers, are"
        " enough)"
    )
    assert slow.cores_needed() == 197  # 1.1 x 6,566 at 36.75 a core
    fast = InputSpeed(needed=500.0, given=588.0, reading=SIXTEEN, root="/data")
    assert not fast.binds and fast.line().endswith("give 588 images/s: the devices bind")
    unknown = InputSpeed(needed=None, given=588.0, reading=SIXTEEN, root="/data")
    assert unknown.binds is None and unknown.line() == "input: 16 thread(s) on 16 core(s) give 588 images/s"


@pytest.mark.parametrize(
    ("reading", "root", "remedy"),
    [
        (Reading(workers=4), "/data", "--config.data.workers=-1"),
        (Reading(workers=16), "/data", "crop_filter=bilinear_plain"),
        (Reading(num_threads=16, on_gpu=True), "/data", "--config.data.decoder=cpu --config.data.workers=-1"),
        (Reading(workers=16), "gs://bucket/data", "on a disk of the host"),
    ],
)
def test_the_remedy_is_the_first_that_was_not_taken(reading: Reading, root: str, remedy: str) -> None:
    assert remedy in InputSpeed(needed=9e3, given=1.0, reading=reading, root=root).line()


def test_from_a_bucket_more_cores_are_no_remedy() -> None:
    speed = InputSpeed(needed=9e3, given=1.0, reading=SIXTEEN, root="gs://bucket/data")
    assert speed.cores_needed() is None and speed.line().endswith("--config.data.cache=DIR")
