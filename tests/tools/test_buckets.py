"""What `python -m tools.buckets` prints and by what it fails; tests/e2e/test_buckets.py walks the road itself."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gcsfs")
pytest.importorskip("moto")

from tools import buckets
from tools.bucket_road import Done, Outcome, Road
from tools.buckets import print_differences, print_road


def outcome(**changes: Any) -> Outcome:
    header = b"{}" + b" " * 6
    weights = len(header).to_bytes(8, "little") + header + np.asarray([0.5, -0.5], np.float32).tobytes()
    made = Outcome({"train.index.npz": b"x"}, {2: {"train/loss": 1.5}}, {"imagenet": {"n": 4, "top1": 0.25}}, weights)
    return dataclasses.replace(made, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"shards": {"train.index.npz": b"y"}},
        {"metrics": {2: {"train/loss": 1.51}}},
        {"metrics": {2: {"train/loss": math.nan}}},
        {"scores": {"imagenet": {"n": 4, "top1": 0.5}}},
        {"weights": outcome().weights[:-4] + np.float32(-0.4).tobytes()},
    ],
)
def test_what_differs_from_a_disk_is_seen(changes: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert not print_differences(outcome(**changes), outcome())
    assert ("DIFFER" in capsys.readouterr().out) == ("shards" in changes)


def test_sums_in_another_order_are_no_difference() -> None:
    assert print_differences(outcome(metrics={2: {"train/loss": 1.5 + 1e-6}}), outcome())


@pytest.mark.parametrize(("is_same", "code"), [(True, 0), (False, 1)])
def test_the_exit_code_says_whether_there_is_a_difference(
    is_same: bool, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(buckets, "on_disk", lambda _: outcome())
    monkeypatch.setattr(buckets, "in_bucket", lambda *_: is_same)
    monkeypatch.setattr(sys, "argv", ["buckets", "--schemes=gs"])
    assert buckets.main() == code
    assert ("DIFFERENT from a disk: gs" in capsys.readouterr().out) == (code == 1)


def test_every_command_in_a_bucket_is_printed_whole_with_its_requests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    road = Road("gs://bucket", tmp_path, num_requests=iter([3, 8]).__next__)
    options = " ".join(f"--option_{i}=value" for i in range(30))
    road.done.append(Done(f"python -m x gs://bucket/data {options}", 0, "", 1.0, requests=1234))
    print_road("title", road)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.endswith(f"1,234 requests  python -m x ROOT/data {options}")
    assert road.attempt("data_prep", "verify", str(tmp_path / "nowhere")).requests == 5
