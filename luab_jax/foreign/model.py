"""Any function from images to outputs as a model, so that every suite that it gives enough for can score it."""

from __future__ import annotations

import enum
import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from luab_jax.byproducts.targets import Target
from luab_jax.data.class_lists import ClassList, imagenet
from luab_jax.data.transforms import Preprocessing, Stored
from luab_jax.errors import CheckpointError, UserError, option
from luab_jax.foreign.inputs import InputFormat
from luab_jax.results.foreign import Foreign

Function = Callable[[np.ndarray], Any]
"""Images, as `InputFormat` says, to outputs `[B, C]`."""
MapFunction = Callable[[np.ndarray, np.ndarray], Any]
"""The same images and labels `[B]` to maps `[B, i, j]`, larger where the class is seen."""

_TINY = 1e-30
"""Least probability whose logarithm is taken; the score of a class that is never said."""


class Outputs(enum.Enum):
    """What a function returns."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"
    """Their logarithm is scored (of sets of labels the logit), so that a softmax (a sigmoid) gives them back."""


@dataclass(frozen=True, slots=True)
class FunctionModel:
    """A function, and what its images and outputs are."""

    function: Function
    preprocessing: Preprocessing
    """Size, resizing and crop of the images that the function is given. By `mean` and `std` they are normalised, if
    `input` is not uint8; an occlusion by the mean has the colour `mean`."""
    name: str = ""
    """In results and tables; the function's own by default."""
    classes: ClassList = field(default_factory=imagenet)
    """In the order of the logits: of the outputs, or of those that `columns` takes."""
    input: InputFormat = field(default_factory=InputFormat)
    outputs: Outputs = Outputs.LOGITS
    columns: np.ndarray | None = None
    """Outputs that are scored, of more; None takes all."""
    batch_size: int | None = None
    """How many images the function takes at once; None takes any number."""
    maps: MapFunction | None = None
    """Where a class is seen, for `localisation`; None where the function does not tell."""
    map_kind: str = ""
    """What `maps` are, beside every result made from them."""
    label_sets: bool = False
    """Whether outputs are scores of a set of labels, by a sigmoid each."""
    stated_identity: Mapping[str, Any] | None = None
    """What tells it from any other model; of a function its name alone."""
    sides: frozenset[int] = frozenset()
    """Input sides at which it may be fed squares as they are stored."""
    target: Target | None = None

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", getattr(self.function, "__name__", type(self.function).__name__))
        if self.columns is not None:
            object.__setattr__(self, "columns", _checked_columns(self.columns, len(self.classes)))

    @property
    def identity(self) -> dict[str, Any]:
        """Of a function by the name and by what is stated of it: whether its code changed cannot be seen, so results of
        a changed one need a name of their own, or `overwrite`."""
        if self.stated_identity is not None:
            return dict(self.stated_identity)
        module = getattr(inspect.getmodule(self.function), "__name__", "")
        return {
            "workdir": f"python:{module}:{self.name}",
            "step": 0,
            "chosen": Foreign.FUNCTION.value,
            "dataset": "imagenet" if self.class_list_hash == imagenet().hash else "",
            "class_list_hash": self.class_list_hash,
            "model": self.name,
            "target": Foreign.FUNCTION.value,
            "weight": 0.0,
            "seed": 0,
            "experiment": {"function": f"{module}:{self.name}"},
            **self._stated(),
        }

    def _stated(self) -> dict[str, Any]:
        """What of its inputs and outputs is not as usual, by the names that `finish` gives it too."""
        return {
            **({"input": self.input.facts()} if self.input != InputFormat() else {}),
            **({"outputs": self.outputs.value} if self.outputs is not Outputs.LOGITS else {}),
            **({"columns": hash_of(self.columns)} if self.columns is not None else {}),
            **({"label_sets": True} if self.label_sets else {}),
        }

    @property
    def class_list_hash(self) -> str:
        return self.classes.hash

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def has_byproduct_head(self) -> bool:
        return False

    def side_for(self, stored: Stored) -> int:
        """Side of the input for files of a suite; the stated one unless the model is known to take others."""
        if stored.side is not None and stored.side in self.sides:
            return stored.side
        return self.preprocessing.image_size

    def feed(
        self,
        images: UInt8[np.ndarray, "b h w 3"],
        hidden: Bool[np.ndarray, "h w"] | None = None,
        *,
        black: bool = False,
    ) -> np.ndarray:
        """What the function is given for `images`, with some pixels hidden."""
        hidden = np.zeros(images.shape[1:3], bool) if hidden is None else hidden
        return self.input.feed(images, self.preprocessing, hidden, black=black)

    def outputs_of(self, fed: np.ndarray) -> np.ndarray:
        """What the function returns, all columns; raises `UserError` for what are no rows of numbers."""
        if self.columns is None:
            return rows_of(self.name, self.function, fed, self.batch_size, self.num_classes)
        outputs = rows_of(self.name, self.function, fed, self.batch_size)
        check_columns(self.name, self.columns, outputs.shape[1])
        return outputs

    def logits(self, outputs: Float[np.ndarray, "b o"]) -> Float[np.ndarray, "b c"]:
        """Of the classes, from what the function returns."""
        if self.outputs is Outputs.PROBABILITIES:
            clipped = np.clip(outputs.astype(np.float64), _TINY, 1)
            logarithms = np.log(clipped)
            if self.label_sets:
                logarithms -= np.log(np.maximum(1 - clipped, _TINY))
            outputs = np.where(np.isnan(outputs), np.float32(np.nan), logarithms.astype(np.float32))
        return outputs if self.columns is None else outputs[:, self.columns]


def _checked_columns(columns: np.ndarray, num_classes: int) -> np.ndarray:
    """Raises `UserError` unless they are an output for every class."""
    of_class = np.asarray(columns)
    if of_class.shape != (num_classes,) or of_class.dtype.kind not in "iu":
        raise UserError(
            f"FunctionModel: columns are {of_class.dtype} {of_class.shape}; expected {num_classes:,} whole numbers, the"
            " output of every class"
        )
    if of_class.min() < 0 or len(np.unique(of_class)) < num_classes:
        raise UserError("FunctionModel: columns has a number below 0, or one twice; expected an output for every class")
    return of_class.astype(np.int64)


def check_columns(name: str, columns: np.ndarray, num_outputs: int) -> None:
    """Raises `UserError` for columns beyond the outputs."""
    if columns.max() >= num_outputs:
        raise UserError(f"{name}: columns name output {columns.max():,}, and there are {num_outputs:,}, counted from 0")


def hash_of(columns: np.ndarray) -> str:
    """Which outputs are scored, and in which order."""
    return hashlib.sha256(columns.tobytes()).hexdigest()[:12]


def rows_of(
    name: str, function: Function, fed: np.ndarray, batch_size: int | None = None, width: int | None = None
) -> Float[np.ndarray, "b o"]:
    """What a function returns for its inputs, at most `batch_size` at a time; raises `UserError` for anything but rows
    of numbers, and for rows that are not `width` long."""
    count = batch_size or len(fed)
    parts = [_call(name, function, fed[start : start + count], count, width) for start in range(0, len(fed), count)]
    return np.concatenate(parts)


def _call(name: str, function: Function, fed: np.ndarray, count: int, width: int | None) -> np.ndarray:
    given = fed
    if len(fed) < count:
        given = np.concatenate([fed, np.zeros((count - len(fed), *fed.shape[1:]), fed.dtype)])
    returned = function(given)
    try:
        outputs = np.asarray(returned)
        is_number = np.issubdtype(outputs.dtype, np.number) or outputs.dtype.name == "bfloat16"
    except (TypeError, ValueError, RuntimeError) as e:  # RuntimeError: of a torch tensor on a GPU, or with gradients
        raise UserError(f"{name}: its outputs are no array ({e}); return numpy or jax arrays") from e
    shape_is_right = outputs.ndim == 2 and len(outputs) == len(given) and width in (None, outputs.shape[-1])
    if not shape_is_right or not is_number:
        raise UserError(
            f"{name}: returned {outputs.dtype} {outputs.shape} for {given.dtype} {given.shape}; logits"
            f" ({len(given)}, {width or 'C'}) are expected, a row for every image and a column for every class"
        )
    return outputs[: len(fed)].astype(np.float32)


def check_outputs(name: str, outputs: np.ndarray, stated: Outputs, *, label_sets: bool = False) -> None:
    """Of drawn images; raises `CheckpointError` for NaN, and for probabilities that are taken for logits or reverse."""
    if not np.isfinite(outputs).all():
        raise CheckpointError(
            f"{name}: its outputs for drawn images are NaN or infinite; it diverged, overflows in its type, or wants"
            f" other inputs ({', '.join(map(option, ('mean', 'std', 'channels', 'layout')))})"
        )
    on_unit = bool(np.all((outputs >= 0) & (outputs <= 1)))
    are_probabilities = on_unit and (label_sets or bool(np.allclose(outputs.sum(axis=1), 1, atol=1e-3)))
    if are_probabilities and stated is Outputs.LOGITS:
        raise CheckpointError(
            f"{name}: its outputs are probabilities (on [0, 1]{'' if label_sets else ', each row adds up to 1'}), and"
            f" logits are expected; say {option('outputs', 'probabilities')}"
        )
    if not are_probabilities and stated is Outputs.PROBABILITIES:
        asked = option("outputs", "probabilities")
        raise CheckpointError(f"{name}: {asked}, but rows of its outputs do not add up to 1 on [0, 1]")


def drawn_images(side: int) -> UInt8[np.ndarray, "4 h w 3"]:
    """Noise, and noise in blocks: the same for every model."""
    rng = np.random.default_rng(0)
    fine = rng.integers(0, 256, (2, side, side, 3), np.uint8)
    cells = -(-side // 8)
    coarse = rng.integers(0, 256, (2, cells, cells, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    return np.concatenate([fine, coarse[:, :side, :side]])
