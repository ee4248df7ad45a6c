"""The whole road with every path in a bucket: what comes out is what comes out on a disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.emulators import emulated
from tools.bucket_road import TOTAL_STEPS, Outcome, Road

pytest.importorskip("gcsfs")
pytest.importorskip("s3fs")


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Trained without a stop."""
    scratch = tmp_path_factory.mktemp("disk")
    root = scratch / "root"

    def put(name: str, content: bytes) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)

    road = Road(str(root), scratch)
    road.prepare(put)
    road.train()
    road.use()
    return road.outcome(lambda name: (root / name).read_bytes())


@pytest.mark.parametrize(("scheme", "killed_on"), [("gs", 2), ("s3", 0)])
def test_the_road_in_a_bucket_leads_where_that_on_a_disk_does(
    scheme: str, killed_on: int, on_disk: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Cloud Storage killed on two hosts while a checkpoint is saved, then resumed on one; `python -m tools.buckets`
    does so on S3 too."""
    monkeypatch.chdir(tmp_path)
    with emulated(scheme) as (server, bucket):
        road = Road(f"{scheme}://{bucket}", tmp_path)
        road.prepare(lambda name, content: server.put(bucket, name, content))
        if killed_on:
            road.train_killed_and_resumed(num_hosts=killed_on)
        else:
            road.train()
        road.use()
        content = server.content(bucket)
    found = road.outcome(content.__getitem__)
    assert found.shards == on_disk.shards
    assert found.metrics.keys() == on_disk.metrics.keys() == set(range(2, TOTAL_STEPS + 1, 2))
    for step, expected in on_disk.metrics.items():
        assert found.metrics[step] == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert _close(found.scores, on_disk.scores)
    weights = (np.frombuffer(of.weights[-1024:], np.float32) for of in (found, on_disk))
    np.testing.assert_allclose(*weights, rtol=1e-3, atol=1e-5)
    left = [name for name in content if name.endswith((".tmp", ".lease", "lease"))]
    assert not left
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(scheme)], "nothing fell on the disk"


def _close(found: object, expected: object) -> bool:
    """Of numbers in nested dictionaries and lists."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_close(found[name], expected[name]) for name in found)
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(_close, found, expected))
    if isinstance(found, int | float) and isinstance(expected, int | float):
        return found == pytest.approx(expected, rel=1e-3, abs=1e-5)
    return found == expected
