"""Results as an evaluation leaves them, made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from luab_jax.report.runs import Comparison, Run, compare
from luab_jax.results.answers import Answered, Answers, Kind, Sample
from luab_jax.results.format import VERSION, Data, Entry, File, Suite
from luab_jax.results.score import COUNT, FRACTION, SIDE, Direction, Role

HEADLINE: dict[str, Any] = {"unit": FRACTION, "direction": Direction.HIGHER, "role": Role.HEADLINE}


def checkpoint(target: str, seed: int = 0, **changes: Any) -> dict[str, Any]:
    made = {
        "workdir": f"nowhere/{target}-{seed}",
        "step": 3,
        "chosen": "latest",
        "dataset": "demo",
        "class_list_hash": "abc",
        "model": "resnet18",
        "target": target,
        "weight": 0.0 if target == "none" else 20.0,
        "seed": seed,
        "experiment": {"byproduct.target": target},
    }
    return made | changes


def share(value: float, half: float | None = None, **changes: Any) -> Entry:
    bounds = None if half is None else (max(0.0, value - half), min(1.0, value + half))
    method = "" if half is None else "Wilson score, 95 %"
    return Entry(**({"value": value, **HEADLINE, "interval": bounds, "method": method} | changes))


def grouped(groups: Mapping[str, float], value: float = 0.5) -> Suite:
    return Suite(n=8, scores={"top1": share(value)}, groups=dict(groups), group="Demo")


def file(target: str, seed: int = 0, top1: float = 0.625, **changes: Any) -> File:
    suites = {
        "imagenet": Suite(
            n=64,
            scores={
                "top1": share(top1, 0.1),
                "top5": share(0.9375, role=Role.SCORE),
                "nll": Entry(value=1.25, unit="nats", direction=Direction.LOWER),
                "n_left_out": Entry(value=2, unit=COUNT, role=Role.COUNT),
            },
            title="demo",
            data=Data(dataset="demo", identity={"val": "f"}),
            dtype="float32",
            seconds=1.0,
        ),
        "demo_size": grouped({"size=0.20": 0.25, "size=0.80": 0.75}),
        "demo_corruptions": grouped({"fog,severity=1": 0.6, "fog,severity=3": 0.4}),
        "demo_position": grouped({"x=0.25,y=0.50": 0.6, "x=0.75,y=0.50": 0.4}),
        "byproduct": Suite(
            n=64,
            scores={
                "median_distance": Entry(
                    value=0.125,
                    unit=SIDE,
                    direction=Direction.LOWER,
                    role=Role.HEADLINE,
                    interval=(0.1, 0.15),
                    method="m",
                )
            },
            title="demo byproduct",
            group="Location",
        ),
    }
    made = checkpoint(target, seed, **changes)
    return File(results_version=VERSION, checkpoint=made, suites=suites, name="run", dtype="float32")


def run(target: str, seed: int = 0, top1: float = 0.625, **changes: Any) -> Run:
    return Run(file(target, seed, top1, **changes), f"runs/{target}-{seed}/results.json")


def comparison(*runs: Run, baseline: str | None = None) -> Comparison:
    return compare(runs, baseline)


def answered(made: Run, right: np.ndarray, images: list[str] | None = None) -> Run:
    """The run with the answers of its first suite beside it, and the scores that follow from them."""
    names = [f"{i}.png" for i in range(len(right))] if images is None else images
    made.file.suites["imagenet"].scores["top1"] = share(float(right.mean()), 0.5)
    sample = Answered(Sample(Kind.RIGHT, right, names), {"val": "f"})
    return Run(made.file, made.path, Answers(made.file.checkpoint, {"imagenet": {"top1": sample}}))
