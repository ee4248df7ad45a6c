"""Every field of an experiment, with its default. A file in `configs/` fills one of these.

    python -m luab_jax.main --config=configs/resnet18.py --config.epochs=90 --config.byproduct.target=none

Fields are overridden on the command line by their path; `--print_config` shows all of them with their values. Numbers
that follow from others (steps, warm-up) are functions here and never fields, so an override cannot contradict them.
"""

import enum
import math
from dataclasses import dataclass, field
from typing import Any

from luab_jax.augmentation.config import AugmentationConfig
from luab_jax.byproducts.responses import Response, SampleWeight
from luab_jax.byproducts.targets import responses_of
from luab_jax.config.byproduct import Byproduct, ByproductConfig, check_byproducts, several
from luab_jax.config.types import check_types
from luab_jax.data.gpu_jpeg import JpegDecoder
from luab_jax.data.transforms import Preprocessing, ResizeFilter
from luab_jax.errors import ConfigError
from luab_jax.io.host_cache import parse as parse_cache
from luab_jax.models.config import BatchNorm, ModelConfig


class Task(enum.Enum):
    """What an image's labels are; must be what the data has."""

    SINGLE_LABEL = "single_label"
    """One class; softmax cross-entropy, top-1."""
    MULTI_LABEL = "multi_label"
    """A set of classes, perhaps empty; sigmoid binary cross-entropy, mAP."""


class Optimizer(enum.Enum):
    SGD = "sgd"
    ADAMW = "adamw"


class Schedule(enum.Enum):
    """How the learning rate warms up and falls; all are half cosines behind a linear warm-up."""

    PER_STEP = "per_step"
    """A new rate at every step; the cosine begins where the warm-up ends (ReLabel's utils/optimizers.py)."""
    TIMM = "timm"
    """One rate per epoch, by the epoch's number; the cosine runs over the whole run and the warm-up replaces its first
    epochs, so at its end the rate drops to the cosine's (timm's CosineLRScheduler, as timm's train.py calls it)."""
    DEIT = "deit"
    """The same by the number of the epoch before: DeiT's main.py steps the scheduler with the epoch that has ended, so
    the first two epochs have the warm-up's first rate."""


class WeightDecayMask(enum.Enum):
    """Which parameters decay."""

    ALL = "all"
    """Biases and normalisation too, as in torch's SGD when nothing is said."""
    MATRICES = "matrices"
    """Kernels of linear and convolution layers only, as in DeiT and big_vision."""


@dataclass(slots=True, kw_only=True)
class DataConfig:
    root: str = ""
    """Prepared directory, local or in a bucket."""
    cache: str = ""
    """A local folder that keeps whole shards, fetched once per host: `DIR`, or `DIR:SIZE` as in /mnt/ssd:200GB, which
    is kept by evicting shards that nobody reads. Changes no batch; empty reads every image from `root`."""
    shuffle_shards: int = 0
    """How many shards are shuffled together; 0 shuffles the whole split, in one order of all its records. A set larger
    than the disk of `cache` passes through it block by block: two blocks must fit."""
    train_split: str = "train"
    """Name of the split that is trained on."""
    eval_split: str = "val"
    """Name of the split that is evaluated on."""
    num_classes: int | None = None
    """Checked against the data; None takes the data's."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Share of the area that a training crop takes."""
    crop_filter: ResizeFilter = ResizeFilter.BICUBIC
    """How training crops are resized."""
    decoder: JpegDecoder = JpegDecoder.CPU
    """What decodes JPEGs for training: `nvjpeg` decodes on the host's GPUs, whose pixels are slightly others.
    Evaluation always decodes on the CPU."""
    flip: bool = True
    """Whether half of the training crops are mirrored, points with them."""
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    """Evaluation's; `image_size`, `mean` and `std` are also training's."""
    num_threads: int = 0
    """Decoding threads per host; 0 takes one per core."""
    workers: int = 0
    """Decoding processes per host in place of the threads: for more than two or three cores, of which threads make
    little use. -1 takes one per core, 0 none. Each takes about 100 MB."""
    prefetch_examples: int = 512
    """Decoded examples in waiting per host."""


@dataclass(slots=True, kw_only=True)
class OptimConfig:
    name: Optimizer = Optimizer.SGD
    """The optimiser."""
    learning_rate: float = 0.1
    """Peak, for the global batch as it is: no scaling rule is applied."""
    final_learning_rate: float = 0.0
    """Where the cosine ends."""
    schedule: Schedule = Schedule.PER_STEP
    """How the cosine follows steps and epochs."""
    warmup_epochs: float = 5.0
    """Length of the linear warm-up."""
    warmup_learning_rate: float = 1e-6
    """Where the warm-up starts (timm's default), but no more than the peak. At 0 the first step would change no
    parameter."""
    weight_decay: float = 1e-4
    """Decoupled for AdamW; for SGD added to the gradient, as in torch."""
    weight_decay_mask: WeightDecayMask = WeightDecayMask.ALL
    """Which parameters decay."""
    momentum: float = 0.9
    """SGD's."""
    nesterov: bool = True
    """SGD's: Nesterov momentum."""
    beta1: float = 0.9
    """AdamW's decay of the mean gradient."""
    beta2: float = 0.999
    """AdamW's decay of the mean squared gradient."""
    epsilon: float = 1e-8
    """AdamW's, added to the root of the mean squared gradient."""
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
    split_optimizer: bool = False
    """Whether optimiser state and moving average are split over all devices, each of which updates its own part;
    parameters are not affected. Stage 1 of ZeRO (Rajbhandari et al. 2020, arXiv:1910.02054). Arrays of which no axis
    divides by the number of devices stay whole: a third of ViT-S on 256."""


@dataclass(slots=True, kw_only=True)
class CheckpointConfig:
    every_epochs: float = 1.0
    """How often a checkpoint is saved."""
    every_minutes: float | None = None
    """Also when so many minutes have passed since the last save, so that a preemption costs no more. On several hosts
    the first one's clock decides, at steps that are logged (`log.every_steps`)."""
    keep_last: int = 2
    """How many of the latest checkpoints are kept."""
    keep_best: int = 1
    """By `eval/top1`, or by `eval/map` for sets of labels: the raw weights' scores, also where the run keeps a moving
    average (docs/recipes.md says why)."""


@dataclass(slots=True, kw_only=True)
class EvalConfig:
    every_epochs: float = 1.0
    """How often the evaluation split is evaluated; at the end always."""
    batch_size: int | None = None
    """Global; None takes the training batch."""


@dataclass(slots=True, kw_only=True)
class LogConfig:
    every_steps: int = 50
    """How often metrics are logged."""
    tensorboard: bool = True
    """Where tensorboardX is installed (extra `tensorboard`)."""
    input_check: bool = True
    """Says once, after some steps, how many images a second a step takes and the loader gives, and what to do."""


@dataclass(slots=True, kw_only=True)
class DistributedConfig:
    """Hosts of one run."""

    enabled: bool = False
    """True on a Cloud TPU pod, Slurm or Open MPI: the hosts find each other. Elsewhere name the coordinator."""
    coordinator_address: str = ""
    """`host:port` of process 0, where the platform does not tell."""
    num_processes: int | None = None
    """How many hosts there are, where the platform does not tell."""
    process_id: int | None = None
    """Which of them this host is, from 0, where the platform does not tell."""
    timeout_s: int = 300
    """To wait for all hosts at the start."""
    heartbeat_timeout_s: int = 100
    """A host without a sign of life for so long is lost, and the others stop."""


@dataclass(slots=True, kw_only=True)
class Config:
    seed: int = 0
    """Decides data order, crops, augmentation, random targets, initial weights and dropout."""
    epochs: float = 90.0
    """Passes over the training split."""
    total_steps: int | None = None
    """Overrides `epochs`."""
    batch_size: int = 1024
    """Global: images per step over all devices."""
    accumulation_steps: int = 1
    """The batch is taken in so many microbatches, one after the other, for models whose activations do not fit."""
    task: Task = Task.SINGLE_LABEL
    """What an image's labels are."""
    label_smoothing: float = 0.0
    """Share of the label that is spread evenly over all classes."""
    loss: str = ""
    """A loss of one's own: `python:MODULE:FUNCTION`, where MODULE is one that can be imported or a file `.py`.
    `FUNCTION(config)` returns a function of a step's outputs and of the combined loss, which takes its place."""
    loss_argument: str = ""
    """For the function that `loss` names, which finds it in the config: the place of a teacher, say."""
    init_from: str = ""
    """Weights to begin with: `timm:NAME:FILE.safetensors`, or `WORKDIR[:STEP][:raw|ema]` of another run (a step,
    `latest` or `best`; without one `latest`; `ema` for the moving average of a run that keeps one). Read before step 1
    only; empty draws them all."""
    extended_at: tuple[int, ...] = ()
    """Steps at which a run was given more epochs (`--extend`), and so another schedule; not to be set by hand."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    byproduct: ByproductConfig = field(default_factory=ByproductConfig)
    """One byproduct, or a list of them: `luab_jax.config.several`."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    log: LogConfig = field(default_factory=LogConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    compilation_cache: str = "~/.cache/luab_jax"
    """Folder of compiled programs, kept between runs; empty turns it off."""

    def __setattr__(self, name: str, value: Any) -> None:
        """`config.byproduct` takes a list of byproducts too."""
        if name == "byproduct" and isinstance(value, list | tuple) and all(isinstance(v, Byproduct) for v in value):
            value = several(*value)
        object.__setattr__(self, name, value)

    def validate(self) -> None:
        """Raises `ConfigError` naming the field, its value and the remedy. Call after overrides."""
        check_types(self)
        try:
            self.model.validate()
            self.data.preprocessing.validate()
        except ValueError as e:
            raise ConfigError(f"config.{e}") from e
        self._validate_augmentation()
        if self.data.cache:
            parse_cache(self.data.cache)
        self._check_numbers()
        if self.loss_argument and not self.loss:
            raise ConfigError(
                f"config.loss_argument={self.loss_argument!r} is for a loss of one's own: name it by"
                " config.loss=python:MODULE:FUNCTION, or empty the argument"
            )
        if not 0 <= self.optim.ema_decay < 1:
            raise ConfigError(f"config.optim.ema_decay={self.optim.ema_decay} must lie in [0, 1); 0 keeps no average")
        for name in ("momentum", "beta1", "beta2"):
            if not 0 <= getattr(self.optim, name) < 1:
                raise ConfigError(f"config.optim.{name}={getattr(self.optim, name)} must lie in [0, 1)")
        if self.mesh.data < 1 and self.mesh.data != -1:
            raise ConfigError(f"config.mesh.data={self.mesh.data} must be 1 or more, or -1 for those left")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"config.seed={self.seed} must lie in [0, 2**32)")
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"config.label_smoothing={self.label_smoothing} must lie in [0, 1)")
        self._validate_task()
        scale = self.data.crop_scale
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise ConfigError(f"config.data.crop_scale={scale} must be two numbers, 0 < low <= high <= 1")
        self._validate_batch_norm()

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

    def _validate_batch_norm(self) -> None:
        images = self.batch_size // self.accumulation_steps
        if self.model.batch_norm is not BatchNorm.GROUPS or images <= self.model.batch_norm_images:
            return
        if images % self.model.batch_norm_images:
            raise ConfigError(
                f"config.model.batch_norm_images={self.model.batch_norm_images} does not divide the {images} images"
                " that a step takes at once (config.batch_size over config.accumulation_steps); choose a divisor of it,"
                " or config.model.batch_norm=global"
            )

    def _check_numbers(self) -> None:
        positive = {
            "batch_size": self.batch_size,
            "epochs": self.epochs if self.total_steps is None else None,
            "total_steps": self.total_steps,
            "accumulation_steps": self.accumulation_steps,
            "log.every_steps": self.log.every_steps,
            "byproduct.min_annotator_images": self.byproduct.min_annotator_images,
            "optim.learning_rate": self.optim.learning_rate,
            "optim.clip_norm": self.optim.clip_norm,
            "data.preprocessing.image_size": self.data.preprocessing.image_size,
            "checkpoint.every_epochs": self.checkpoint.every_epochs,
            "checkpoint.every_minutes": self.checkpoint.every_minutes,
            "checkpoint.keep_last": self.checkpoint.keep_last,
            "eval.every_epochs": self.eval.every_epochs,
            "eval.batch_size": self.eval.batch_size,
            "optim.epsilon": self.optim.epsilon,
            "mesh.fsdp": self.mesh.fsdp,
            "distributed.timeout_s": self.distributed.timeout_s,
            "distributed.heartbeat_timeout_s": self.distributed.heartbeat_timeout_s,
            "distributed.num_processes": self.distributed.num_processes,
        }
        not_negative = {
            "optim.final_learning_rate": self.optim.final_learning_rate,
            "optim.warmup_epochs": self.optim.warmup_epochs,
            "optim.warmup_learning_rate": self.optim.warmup_learning_rate,
            "optim.weight_decay": self.optim.weight_decay,
            "data.num_threads": self.data.num_threads,
            "data.shuffle_shards": self.data.shuffle_shards,
            "data.prefetch_examples": self.data.prefetch_examples,
            "checkpoint.keep_best": self.checkpoint.keep_best,
        }
        if self.data.workers < -1:
            raise ConfigError(f"config.data.workers={self.data.workers} must be 0 or more, or -1 for one per core")
        if self.data.workers and self.data.decoder is JpegDecoder.NVJPEG:
            raise ConfigError(
                f"config.data.workers={self.data.workers} cannot decode on a GPU, of which each process would take"
                " memory of its own: set it to 0 for config.data.decoder=nvjpeg, or the decoder to cpu"
            )
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
        check_byproducts(self.byproduct, self.model, multi_label=multi_label)


def label_set_size(config: Config, num_classes: int) -> int | None:
    """The number of classes where an image has a set of them, None where it has one label."""
    return num_classes if config.task is Task.MULTI_LABEL else None


def needed_responses(config: Config) -> tuple[Response, ...]:
    """Those whose scale over the training split target or sample weight needs."""
    entries = config.byproduct.entries
    weightings = (config.byproduct.sample_weight, *(entry.target_sample_weight for entry in entries))
    wanted = {response for entry in entries for response in responses_of(entry.target)}
    wanted |= {weighting.response for weighting in weightings if weighting.response}
    return tuple(response for response in Response if response in wanted)


def steps_per_epoch(config: Config, num_examples: int) -> float:
    return num_examples / config.batch_size


def total_steps(config: Config, num_examples: int) -> int:
    """Length of the run."""
    steps = config.total_steps
    if steps is None:
        steps = max(1, round(config.epochs * steps_per_epoch(config, num_examples)))
    if steps >= 2**31:
        raise ConfigError(f"config.epochs={config.epochs}: {steps:.3g} steps are more than can be counted; lower it")
    return steps


def warmup_steps(config: Config, num_examples: int) -> int:
    """Never more than half of the run, so that short trials still reach the peak."""
    wanted = round(config.optim.warmup_epochs * steps_per_epoch(config, num_examples))
    return min(wanted, total_steps(config, num_examples) // 2)


def every_steps(every_epochs: float, config: Config, num_examples: int) -> int:
    return max(1, round(every_epochs * steps_per_epoch(config, num_examples)))
