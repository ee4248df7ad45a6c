"""`python -m benchmarks.augmentation`, of one part and one recipe: rows, units, and costs that add up."""

from __future__ import annotations

import sys

import pytest

from benchmarks import augmentation
from luab_jax.augmentation.config import AugmentationConfig


def test_parts_have_times_and_flops_and_a_recipe_its_share(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {"normalisation alone": AugmentationConfig(), "lighting": AugmentationConfig(lighting=0.1)}
    assert augmentation.PARTS.items() >= parts.items()
    monkeypatch.setattr(augmentation, "PARTS", parts)
    monkeypatch.setattr(augmentation, "RECIPES", ("resnet18",))
    monkeypatch.setattr(sys, "argv", ["augmentation", "--batch_size=2", "--repeats=1"])
    augmentation.main()

    device, header, *rows, blank, shares, recipe = capsys.readouterr().out.splitlines()
    assert device.startswith("jax ") and device.endswith("cpu")
    assert header.split() == ["ms/image", "MFLOP/image"] and not blank
    costs = {row[:22].strip(): [float(cell) for cell in row[22:].split()] for row in rows}
    assert costs.keys() == parts.keys()
    assert all(milliseconds > 0 for milliseconds, _ in costs.values())
    values = 3 * 224**2 / 1e6  # millions
    normalisation, lighting = (costs[name][1] for name in parts)
    assert 2 * values - 0.05 < normalisation < lighting, "normalising takes at least two operations per value"
    assert shares.split() == ["GFLOP/image", "share", "of", "the", "augmentation"]
    name, gigaflops, share = recipe.split()
    # Forward 2 x 1.82 GFLOPs (He et al. 2016, table 1: 1.8 billion multiply-adds), backward twice that.
    assert name == "resnet18" and float(gigaflops) == pytest.approx(3 * 2 * 1.82, rel=0.1)
    assert 0 < float(share.rstrip("%")) < 5


def test_rand_augment_is_counted_for_every_image() -> None:
    """A loop over the chosen images would be counted once, for whatever batch."""
    config = AugmentationConfig(rand_augment_magnitude=9.0)
    two, four = (augmentation.count_flops(augmentation.traced_augmentation(config, size)) / size for size in (2, 4))
    assert four == pytest.approx(two, rel=0.01)
