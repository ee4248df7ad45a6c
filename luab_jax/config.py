"""Every field of an experiment, with its default. A file in `configs/` fills one of these.

    python -m luab_jax.main --config=configs/resnet18.py --config.epochs=90 --config.byproduct.target=none

Fields are overridden on the command line by their path; `--print_config` shows all of them with their values. Numbers
that follow from others (steps, warm-up) are functions here and never fields, so an override cannot contradict them.
"""

# No `from __future__ import annotations`: ml_collections reads the types of the fields, not their names.

import dataclasses
import enum
import hashlib
import json
import math
import typing
from dataclasses import dataclass, field
from typing import Any

from luab_jax.augmentation.config import AugmentationConfig
from luab_jax.byproducts.responses import Response, SampleWeight
from luab_jax.byproducts.targets import Target, fits, responses_of
from luab_jax.data.transforms import Preprocessing, ResizeFilter
from luab_jax.errors import ConfigError
from luab_jax.models.config import ModelConfig


class Task(enum.Enum):
    """What an image's labels are; must be what the data has."""

    SINGLE_LABEL = "single_label"
    """One class; softmax cross-entropy, top-1."""
    MULTI_LABEL = "multi_label"
    """A set of classes, perhaps empty; sigmoid binary cross-entropy, mAP."""


class Optimizer(enum.Enum):
    SGD = "sgd"
    ADAMW = "adamw"


class WeightDecayMask(enum.Enum):
    """Which parameters decay."""

    ALL = "all"
    """Biases and normalisation too, as in torch's SGD when nothing is said."""
    MATRICES = "matrices"
    """Kernels of linear and convolution layers only, as in DeiT and big_vision."""


@dataclass(slots=True, kw_only=True)
class DataConfig:
    root: str = ""
    """Prepared directory, local or gs://."""
    train_split: str = "train"
    eval_split: str = "val"
    num_classes: int | None = None
    """Checked against the data; None takes the data's."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Share of the area that a training crop takes."""
    crop_filter: ResizeFilter = ResizeFilter.BICUBIC
    flip: bool = True
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    """Evaluation's; `image_size`, `mean` and `std` are also training's."""
    num_threads: int = 0
    """Decoding threads per host; 0 takes one per core."""
    prefetch_examples: int = 512
    """Decoded examples in waiting per host."""


@dataclass(slots=True, kw_only=True)
class ByproductConfig:
    target: Target = Target.CLICK_LAST
    """`none` gives the baseline, `random` the Rand control."""
    weight: float = 1.0
    """λ of the combined loss. What suits depends on the target: an early smooth-L1 of places is about 0.1, that of
    standardised numbers 0.4, a divergence or cross-entropy 2 and more."""
    smooth_l1_beta: float = 1.0
    """Where smooth-L1 turns from quadratic to linear, in fractions of the crop (of numbers: in standard deviations); 1
    is torch's default."""
    label_follows_point: bool = False
    """For sets of labels: a class whose icon lies outside of the training crop gets label 0, a class without an icon
    keeps its 1. The paper's COCO loader (coco_dataloader.ipynb) does so, since a crop at 8 % of the area often loses
    the object; its ImageNet loader only masks the regression. Off by default: with it labels come from byproducts too,
    in the baseline (target `none`) as well, and a gain of LUAB would mix with that of cleaner labels. A class of which
    another instance is still in the crop loses its label wrongly."""
    heat_map_side: int = 7
    """G of `trace_heat_map`: the crop is cut into G² cells."""
    min_annotator_images: int = 20
    """`annotator`: those who selected fewer images of the training split are no class of their own, nor of another."""
    max_annotators: int = 4096
    """`annotator`: at most so many classes, those with most images."""
    sample_weight: SampleWeight = SampleWeight.NONE
    """By what the classification loss of an image with one label is weighted: quick, uncorrected answers weigh more.
    w = 1 / (1 + t / τ), τ the geometric mean of the training split's times to click, or w = 1 / (1 + corrections);
    scaled to mean one over the images of the global batch that have a byproduct, 1 for those without. Independent of
    the target. That easy examples teach more is an assumption (Bengio et al., Curriculum Learning, ICML 2009), and so
    is that a corrected click marks a doubtful label."""


@dataclass(slots=True, kw_only=True)
class OptimConfig:
    name: Optimizer = Optimizer.SGD
    learning_rate: float = 0.1
    """Peak, for the global batch as it is: no scaling rule is applied."""
    final_learning_rate: float = 0.0
    warmup_epochs: float = 5.0
    weight_decay: float = 1e-4
    weight_decay_mask: WeightDecayMask = WeightDecayMask.ALL
    momentum: float = 0.9
    """SGD's."""
    nesterov: bool = True
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    """AdamW's, as are the betas."""
    clip_norm: float | None = None
    """Gradients are scaled down to this global norm."""
    ema_decay: float = 0.0
    """Keeps a moving average of parameters and batch statistics beside them, decayed by this at every step; 0 keeps
    none. DeiT has 0.99996, for 375,000 steps: the average spans 1 / (1 - decay) steps, so shorter runs want less."""


@dataclass(slots=True, kw_only=True)
class MeshConfig:
    data: int = -1
    """Devices along which the batch is split; -1 takes those that are left."""
    fsdp: int = 1
    """Devices along which parameters and optimiser state are split too."""


@dataclass(slots=True, kw_only=True)
class CheckpointConfig:
    every_epochs: float = 1.0
    keep_last: int = 2
    keep_best: int = 1
    """By `eval/top1`, or by `eval/map` for sets of labels; by the moving average's (`eval/ema_top1`, `eval/ema_map`)
    where the run keeps one."""


@dataclass(slots=True, kw_only=True)
class EvalConfig:
    every_epochs: float = 1.0
    batch_size: int | None = None
    """Global; None takes the training batch."""


@dataclass(slots=True, kw_only=True)
class LogConfig:
    every_steps: int = 50
    tensorboard: bool = True
    """Where tensorboardX is installed (extra `tensorboard`)."""


@dataclass(slots=True, kw_only=True)
class DistributedConfig:
    """Hosts of one run."""

    enabled: bool = False
    """True on a Cloud TPU pod, Slurm or Open MPI: the hosts find each other. Elsewhere name the coordinator."""
    coordinator_address: str = ""
    """`host:port` of process 0, where the platform does not tell."""
    num_processes: int | None = None
    process_id: int | None = None
    timeout_s: int = 300
    """To wait for all hosts at the start."""
    heartbeat_timeout_s: int = 100
    """A host without a sign of life for so long is lost, and the others stop."""


@dataclass(slots=True, kw_only=True)
class Config:
    seed: int = 0
    epochs: float = 90.0
    total_steps: int | None = None
    """Overrides `epochs`."""
    batch_size: int = 1024
    """Global: images per step over all devices."""
    accumulation_steps: int = 1
    """The batch is taken in so many microbatches, one after the other, for models whose activations do not fit."""
    task: Task = Task.SINGLE_LABEL
    label_smoothing: float = 0.0
    init_from: str = ""
    """Weights to begin with: `timm:NAME:FILE.safetensors`, or `WORKDIR[:STEP][:raw|ema]` of another run (a step,
    `latest` or `best`; without one `latest`, and the moving average where that run keeps one). Read before step 1 only;
    empty draws them all."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    byproduct: ByproductConfig = field(default_factory=ByproductConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    log: LogConfig = field(default_factory=LogConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    compilation_cache: str = "~/.cache/luab_jax"
    """Folder of compiled programs, kept between runs; empty turns it off."""

    def validate(self) -> None:
        """Raises `ConfigError` naming the field, its value and the remedy. Call after overrides."""
        try:
            self.model.validate()
        except ValueError as e:
            raise ConfigError(str(e)) from e
        self._validate_augmentation()
        self._check_numbers()
        if not 0 <= self.optim.ema_decay < 1:
            raise ConfigError(f"config.optim.ema_decay={self.optim.ema_decay} must lie in [0, 1); 0 keeps no average")
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"config.label_smoothing={self.label_smoothing} must lie in [0, 1)")
        self._validate_task()
        scale = self.data.crop_scale
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise ConfigError(f"config.data.crop_scale={scale} must be two numbers, 0 < low <= high <= 1")
        for name in ("mean", "std"):
            channels = getattr(self.data.preprocessing, name)
            if len(channels) != 3 or (name == "std" and not min(channels) > 0):
                sign = "positive " if name == "std" else ""
                raise ConfigError(f"config.data.preprocessing.{name}={channels} must be three {sign}numbers: R, G, B")
        resize = self.data.preprocessing.resize_side
        if resize is not None and resize < self.data.preprocessing.image_size:
            raise ConfigError(
                f"config.data.preprocessing.resize_side={resize} is smaller than the crop of"
                f" image_size={self.data.preprocessing.image_size}; set it to the same or more"
            )

    def _validate_augmentation(self) -> None:
        try:
            self.augmentation.validate()
        except ValueError as e:
            raise ConfigError(f"config.{e}") from e
        if self.augmentation.mixes and self.batch_size % 2:
            raise ConfigError(
                f"config.batch_size={self.batch_size} must be even for config.augmentation.mixup or cutmix, which mix"
                f" pairs of images; take {self.batch_size + 1}, or set both to 0"
            )

    def _check_numbers(self) -> None:
        positive = {
            "batch_size": self.batch_size,
            "epochs": self.epochs if self.total_steps is None else None,
            "total_steps": self.total_steps,
            "accumulation_steps": self.accumulation_steps,
            "log.every_steps": self.log.every_steps,
            "byproduct.smooth_l1_beta": self.byproduct.smooth_l1_beta,
            "byproduct.min_annotator_images": self.byproduct.min_annotator_images,
            "optim.learning_rate": self.optim.learning_rate,
            "optim.clip_norm": self.optim.clip_norm,
            "data.preprocessing.image_size": self.data.preprocessing.image_size,
            "checkpoint.every_epochs": self.checkpoint.every_epochs,
            "checkpoint.keep_last": self.checkpoint.keep_last,
            "eval.every_epochs": self.eval.every_epochs,
            "eval.batch_size": self.eval.batch_size,
            "distributed.heartbeat_timeout_s": self.distributed.heartbeat_timeout_s,
        }
        not_negative = {
            "byproduct.weight": self.byproduct.weight,
            "optim.final_learning_rate": self.optim.final_learning_rate,
            "optim.warmup_epochs": self.optim.warmup_epochs,
            "optim.weight_decay": self.optim.weight_decay,
            "data.num_threads": self.data.num_threads,
            "data.prefetch_examples": self.data.prefetch_examples,
            "checkpoint.keep_best": self.checkpoint.keep_best,
        }
        for name, value in positive.items():
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"config.{name}={value} must be a positive number")
        for name, value in not_negative.items():
            if not 0 <= value < math.inf:
                raise ConfigError(f"config.{name}={value} must be a number of 0 or more")

    def _validate_task(self) -> None:
        multi_label = self.task is Task.MULTI_LABEL
        if multi_label and self.label_smoothing:
            raise ConfigError(
                f"config.label_smoothing={self.label_smoothing} is for one label per image; set it to 0 for"
                " config.task=multi_label"
            )
        if self.byproduct.label_follows_point and not multi_label:
            raise ConfigError("config.byproduct.label_follows_point=True needs config.task=multi_label")
        if multi_label and self.byproduct.sample_weight is not SampleWeight.NONE:
            raise ConfigError(
                f"config.byproduct.sample_weight={self.byproduct.sample_weight.value} is for one label per image; set"
                " it to none for config.task=multi_label"
            )
        for name in ("heat_map_side", "max_annotators"):
            if getattr(self.byproduct, name) < 2:
                raise ConfigError(f"config.byproduct.{name}={getattr(self.byproduct, name)} must be 2 or more")
        if not fits(self.byproduct.target, 1 if multi_label else None):
            kinds = ", ".join(t.value for t in Target if fits(t, 1 if multi_label else None))
            raise ConfigError(
                f"config.byproduct.target={self.byproduct.target.value} does not exist for config.task="
                f"{self.task.value}; choose one of {kinds}"
            )


def label_set_size(config: Config, num_classes: int) -> int | None:
    """The number of classes where an image has a set of them, None where it has one label."""
    return num_classes if config.task is Task.MULTI_LABEL else None


def needed_responses(config: Config) -> tuple[Response, ...]:
    """Those whose scale over the training split target or sample weight needs."""
    weighting = config.byproduct.sample_weight.response
    wanted = {*responses_of(config.byproduct.target), *([weighting] if weighting else [])}
    return tuple(response for response in Response if response in wanted)


def steps_per_epoch(config: Config, num_examples: int) -> float:
    return num_examples / config.batch_size


def total_steps(config: Config, num_examples: int) -> int:
    """Length of the run."""
    if config.total_steps is not None:
        return config.total_steps
    return max(1, round(config.epochs * steps_per_epoch(config, num_examples)))


def warmup_steps(config: Config, num_examples: int) -> int:
    """Never more than half of the run, so that short trials still reach the peak."""
    wanted = round(config.optim.warmup_epochs * steps_per_epoch(config, num_examples))
    return min(wanted, total_steps(config, num_examples) // 2)


def every_steps(every_epochs: float, config: Config, num_examples: int) -> int:
    return max(1, round(every_epochs * steps_per_epoch(config, num_examples)))


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain values; enums by value, and a whole number in a float field as a float, so that 5 and 5.0 agree."""
    values: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            value = to_dict(value)
        elif isinstance(value, enum.Enum):
            value = value.value
        elif isinstance(value, tuple):
            value = list(value)
        elif hint in (float, float | None) and value is not None:
            value = float(value)
        values[name] = value
    return values


def from_dict(cls: type, values: dict[str, Any]) -> Any:
    """The inverse of `to_dict`; unknown fields raise `ConfigError`."""
    hints = typing.get_type_hints(cls)
    unknown = set(values) - set(hints)
    if unknown:
        raise ConfigError(
            f"{cls.__name__} has no field {', '.join(sorted(unknown))}: written by another version of luab_jax"
        )
    return cls(**{name: _from_plain(hints[name], value) for name, value in values.items()})


def _from_plain(hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_dict(hint, value)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        try:
            return hint(value)
        except ValueError as e:
            raise ConfigError(f"{e}: written by another version of luab_jax") from e
    return tuple(value) if isinstance(value, list) else value


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """`{"optim.learning_rate": 0.1, ...}`."""
    flat: dict[str, Any] = {}
    for name, value in (config if isinstance(config, dict) else to_dict(config)).items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


_OPERATIONAL = (
    "data.root",
    "data.num_threads",
    "data.prefetch_examples",
    "mesh.",
    "checkpoint.",
    "eval.",
    "log.",
    "distributed.",
    "compilation_cache",
    "model.remat",
    "model.attention",
)
"""Fields that may change when a run resumes: where and how it runs, not what it computes."""


_ADDED: dict[str, Any] = {
    "accumulation_steps": 1,
    "optim.ema_decay": 0.0,
    "model.batch_norm": "global",
    "byproduct.heat_map_side": 7,
    "byproduct.min_annotator_images": 20,
    "byproduct.max_annotators": 4096,
    "byproduct.sample_weight": "none",
    "model.byproduct_head": "linear",
    "model.byproduct_hidden": None,
    "model.byproduct_pool": "classifier",
    "init_from": "",
    **flatten(AugmentationConfig(), "augmentation."),
}
"""Fields that came after the first release, with the value that runs from before it have; that value is left out, so
that such runs resume, and keep the hash of their config."""


def scientific_fields(config: Any) -> dict[str, Any]:
    """The fields that decide what a run computes."""
    fields = {k: v for k, v in flatten(config).items() if not k.startswith(_OPERATIONAL)}
    return {k: v for k, v in fields.items() if k not in _ADDED or v != _ADDED[k]}


def differences(old: Any, new: Any) -> dict[str, tuple[Any, Any]]:
    """Scientific fields in which two configs differ: name to (old, new)."""
    a, b = _ADDED | scientific_fields(old), _ADDED | scientific_fields(new)
    return {k: (a.get(k), b.get(k)) for k in sorted(a | b) if a.get(k) != b.get(k)}


def config_hash(config: Config) -> str:
    text = json.dumps(scientific_fields(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
