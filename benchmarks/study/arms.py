"""What is trained: two small models, and the arms that the questions compare.

Every arm differs from its control in what its name says and in nothing else; all arms of a model share one schedule.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from benchmarks.study.photos import TRAIN, VAL, Clicks
from luab_jax import recipes
from luab_jax.byproducts.targets import Target
from luab_jax.config import (
    CheckpointConfig,
    Config,
    DataConfig,
    EvalConfig,
    LogConfig,
    OptimConfig,
    Optimizer,
    WeightDecayMask,
)
from luab_jax.data.transforms import Preprocessing, ResizeFilter
from luab_jax.models.choices import Head
from luab_jax.models.config import Dtype, ModelConfig, Stem

SIDE = 48
LAMBDAS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
DEFAULT_LAMBDA = 10.0
"""Until `choose` has chosen another; and of arms that ask why, since at a small λ the head learns little of a place."""

MODELS: dict[str, ModelConfig] = {
    "resnet": ModelConfig(
        name="resnet18",
        width=32,
        stage_sizes=(1, 1, 1),
        stem=Stem.PATCH,
        zero_init_residual=False,
        compute_dtype=Dtype.FLOAT32,
    ),
    "vit": ModelConfig(name="vit_ti", patch_size=8, embed_dim=96, num_heads=3, depth=4, compute_dtype=Dtype.FLOAT32),
}
_LEARNING_RATES = {"resnet": 3e-3, "vit": 1e-3}


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train."""

    name: str
    about: str
    target: Target = Target.CLICK_LAST
    weight: float | None = None
    """λ; None takes the chosen one."""
    clicks: Clicks = field(default_factory=Clicks)
    length: float = 1.0
    """Times the study's epochs."""
    head: Head = Head.LINEAR


NONE = Arm("none", "no byproduct: the baseline", Target.NONE)
CLICK = Arm("click", "LUAB: the last click")
RANDOM = Arm("random", "matched Rand: a random point wherever the click counts", Target.RANDOM)
BOX = Arm("box-10", "the real box, λ = 10: costs more, an upper bound", Target.BOX, DEFAULT_LAMBDA)
CENTRE = Arm(
    "centre-10", "the centre of the real box, λ = 10: a click without noise", Target.BOX_CENTRE, DEFAULT_LAMBDA
)
JITTER = Arm(
    "jitter-10",
    "the click moved by a normal of 20 % of the side, λ = 10",
    weight=DEFAULT_LAMBDA,
    clicks=Clicks(jitter=0.2),
)
DENSE = Arm("dense", "a heat map of the last click, drawn on the last feature map", weight=1.0, head=Head.DENSE)
FEWER = tuple(
    Arm(
        f"share-{round(100 * share)}",
        f"clicks of {100 * share:.0f} % of the photos, λ = 10",
        weight=DEFAULT_LAMBDA,
        clicks=Clicks(share),
    )
    for share in (0.3, 0.1)
)

LIGHTER = Arm(
    "share-10-light",
    "clicks of 10 % of the photos, λ = 1: each weighs as much as with all clicks and λ = 10",
    weight=0.1 * DEFAULT_LAMBDA,
    clicks=Clicks(0.1),
)
"""The loss is a mean over the photos of a batch that have a click, so the fewer these are, the more each weighs."""


def click_at(weight: float) -> Arm:
    """A point of the curve of λ."""
    return Arm(f"lambda-{weight:g}", f"the last click, λ = {weight:g}", weight=weight)


def random_at(weight: float) -> Arm:
    """The control of a point of that curve."""
    return Arm(f"random-{weight:g}", f"{RANDOM.about}, λ = {weight:g}", Target.RANDOM, weight)


WEIGHTS = tuple(click_at(weight) for weight in LAMBDAS)
NO_PLACE = random_at(DEFAULT_LAMBDA)
AT_TEN = next(arm for arm in WEIGHTS if arm.weight == DEFAULT_LAMBDA)
LONGER = tuple(
    replace(arm, name=f"{arm.name}-x3", about=f"{arm.about}; three times as long", length=3.0) for arm in (NONE, AT_TEN)
)
ARMS = {
    arm.name: arm
    for arm in (
        *(NONE, CLICK, RANDOM, *map(random_at, LAMBDAS), DENSE, BOX, CENTRE, JITTER),
        *(*FEWER, LIGHTER, *WEIGHTS, *LONGER),
    )
}


def config(model: str, arm: Arm, seed: int, *, weight: float, epochs: float, data: str) -> Config:
    """Everything of one run.

    Args:
        model: A name of `MODELS`.
        arm: What is trained.
        seed: Of the run.
        weight: λ of arms that state none.
        epochs: Of arms of length 1.
        data: The folder of the prepared data.
    """
    epochs *= arm.length
    experiment = Config(
        seed=seed,
        epochs=epochs,
        batch_size=64,
        model=MODELS[model],
        data=DataConfig(
            root=f"{data}/{arm.clicks.name}",
            train_split=TRAIN,
            eval_split=TRAIN if arm.clicks != Clicks() else VAL,
            crop_scale=(0.5, 1.0),
            crop_filter=ResizeFilter.BILINEAR,
            preprocessing=Preprocessing(image_size=SIDE, resize_side=SIDE, filter=ResizeFilter.BILINEAR),
        ),
        optim=OptimConfig(
            name=Optimizer.ADAMW,
            learning_rate=_LEARNING_RATES[model],
            warmup_epochs=min(1.0, epochs / 10),
            weight_decay=0.05,
            weight_decay_mask=WeightDecayMask.MATRICES,
        ),
        eval=EvalConfig(every_epochs=epochs),
        checkpoint=CheckpointConfig(every_epochs=epochs, keep_best=0),
        log=LogConfig(every_steps=100),
        byproduct=replace(
            recipes.demo().byproduct,
            target=arm.target,
            weight=weight if arm.weight is None else arm.weight,
            head=arm.head,
        ),
    )
    experiment.validate()
    return experiment
