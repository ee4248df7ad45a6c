"""Which runs, in the order of their worth: whenever the time is over, what was run answers the first questions best.

λ is chosen first, on `choose`. Then comes the headline, seed by seed (baseline, click, its matched control, for both
models), so that every further seed narrows its intervals; then the other questions, three seeds each. After three seeds
of the headline the ViT, which takes three times as long on a CPU, waits until the ResNet has answered every question.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.study import arms
from benchmarks.study.arms import Arm

HEADLINE_SEEDS = range(5)
OTHER_SEEDS = range(3)


@dataclass(frozen=True, slots=True)
class Question:
    """Arms, and what they are compared with."""

    name: str
    title: str
    arms: tuple[Arm, ...]
    control: Arm
    seeds: Sequence[int]
    models: tuple[str, ...] = ("resnet", "vit")


@dataclass(frozen=True, slots=True)
class Run:
    """One training and its evaluation."""

    model: str
    arm: Arm
    seed: int

    @property
    def name(self) -> str:
        return f"{self.model}/{self.arm.name}-seed{self.seed}"

    def at(self, weight: float) -> Run:
        """The run that this is once λ is chosen: named by it, and trained once whoever asks for it."""
        if self.arm == arms.CLICK:
            return Run(self.model, arms.click_at(weight), self.seed)
        if self.arm == arms.RANDOM:
            return Run(self.model, arms.random_at(weight), self.seed)
        return self


QUESTIONS = (
    Question("headline", "Does LUAB change anything?", (arms.CLICK, arms.RANDOM), arms.NONE, HEADLINE_SEEDS),
    Question("place", "Is it the place? The click against random points", (arms.CLICK,), arms.RANDOM, HEADLINE_SEEDS),
    Question("head", "A dense head on the last feature map", (arms.DENSE,), arms.NONE, OTHER_SEEDS),
    Question(
        "noise",
        "The click's noise, at λ = 10",
        (arms.CENTRE, arms.BOX, arms.JITTER, arms.NO_PLACE),
        arms.AT_TEN,
        OTHER_SEEDS,
        ("resnet",),
    ),
    Question("length", "Three times as long, at λ = 10", arms.LONGER[1:], arms.LONGER[0], OTHER_SEEDS, ("resnet",)),
    Question(
        "clicks", "The number of clicks, at λ = 10", (*arms.FEWER, arms.AT_TEN), arms.NONE, OTHER_SEEDS, ("resnet",)
    ),
    Question("weight", "A tenth of the clicks, with λ a tenth", (arms.LIGHTER,), arms.NONE, OTHER_SEEDS, ("resnet",)),
    Question("lambda", "λ", arms.WEIGHTS, arms.NONE, OTHER_SEEDS, ("resnet",)),
)


def choosing() -> list[Run]:
    """The runs by which λ is chosen: one seed of one model."""
    return [Run("resnet", arm, 0) for arm in arms.WEIGHTS]


def ordered(weight: float | None = None) -> list[Run]:
    """All others, each once, in the order of worth; at λ once it is chosen."""
    runs = list(itertools.chain.from_iterable(_of(question) for question in QUESTIONS))
    at_first = list(_of(replace(QUESTIONS[0], seeds=OTHER_SEEDS)))
    later = [run for run in runs if run.model == "vit" and run not in at_first]
    runs = [*(run for run in runs if run not in later), *later]
    known = dict.fromkeys(runs if weight is None else (run.at(weight) for run in runs))
    return [run for run in known if run not in choosing()]


def _of(question: Question) -> Iterator[Run]:
    for seed in question.seeds:
        for model in question.models:
            for arm in (question.control, *question.arms):
                yield Run(model, arm, seed)
