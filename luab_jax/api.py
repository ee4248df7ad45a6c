"""What a notebook or a script calls; the commands call the same. Everything here raises `UserError` for what a user can
mend.

`import luab_jax` gives these names without loading any of this, nor jax, before one of them is used.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from luab_jax.byproducts.kinds import TargetKind
from luab_jax.byproducts.records import Size
from luab_jax.byproducts.targets import kind_of
from luab_jax.checkpoints.export import ExportedWeights, export_weights
from luab_jax.checkpoints.load import LoadedModel
from luab_jax.checkpoints.load import load as load_checkpoint
from luab_jax.checkpoints.timm_file import TIMM
from luab_jax.config import Config, DataConfig, MeshConfig
from luab_jax.data.class_lists import ClassList, imagenet
from luab_jax.data.inputs import model_inputs
from luab_jax.data.pipeline import Reading
from luab_jax.data.transforms import Preprocessing, ResizeFilter
from luab_jax.data.watermark import Font, read_font
from luab_jax.distributed import sharding
from luab_jax.distributed.memory import device_memory
from luab_jax.errors import ExitCode, UserError, option, without_frames
from luab_jax.evaluation.accumulator import Evaluated, Predicts
from luab_jax.evaluation.function_predictor import FunctionPredictor
from luab_jax.evaluation.predictor import Predictor
from luab_jax.evaluation.programs import Programs
from luab_jax.evaluation.rise import Rise
from luab_jax.evaluation.run import Entry, SuiteResults, evaluate_suites
from luab_jax.evaluation.runner import choose_suites
from luab_jax.evaluation.saved_predictions import SAVED, SavedModel
from luab_jax.evaluation.suite import Suite, View
from luab_jax.foreign.inputs import Channels, Layout
from luab_jax.foreign.load import PREFIXES, is_foreign, load_foreign
from luab_jax.foreign.misspelt import refuse_misspelt
from luab_jax.foreign.model import Function, FunctionModel, Outputs
from luab_jax.foreign.options import Options
from luab_jax.io.console import say
from luab_jax.models.config import Dtype
from luab_jax.models.timm_models import TimmSize

_OF_RUNS = "latest", None, "float32", None
Path = str | os.PathLike[str]
_MAX_BATCH = 256
"""Images that a `Model` predicts at once."""


class Model:
    """A trained network: images in, logits out. `load` makes it."""

    def __init__(self, loaded: LoadedModel, mesh: Mesh):
        self.loaded = loaded
        """Parameters and what describes them."""
        self.mesh = mesh
        self._predictor = Predictor(loaded, mesh, 1, Reading())

    def __repr__(self) -> str:
        known = f", step {self.identity['step']:,}" if self.identity["step"] else ""
        return f"Model({self.name!r}, {self.config.model.name}{known}, {self.loaded.num_classes:,} classes)"

    @property
    def name(self) -> str:
        return self.loaded.name

    @property
    def config(self) -> Config:
        """The experiment. Of timm's weights only the model and preprocessing are known."""
        known = self.loaded.experiment
        return known or Config(model=self.loaded.config, data=DataConfig(preprocessing=self.preprocessing))

    @property
    def classes(self) -> ClassList | None:
        """Ids and names in the order of the logits; None for an old checkpoint that states the list's hash alone."""
        return self.loaded.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to every image; `load(..., image_size=...)` and the like change it."""
        return self.loaded.preprocessing

    @property
    def identity(self) -> dict[str, Any]:
        """What tells this checkpoint from any other: workdir, step, hashes, type of its arithmetic."""
        return dict(self.loaded.identity)

    def __call__(self, images: Any) -> Float[np.ndarray, "b c"]:
        """Logits of images, float32.

        images: uint8 RGB `[B, H, W, 3]`, or paths (local or in a bucket), or PIL images, of any size, prepared as the
            checkpoint states. One image alone is a batch of one. Raises `DataError` naming one that is none.
        """
        logits, _, _ = self._predict(images)
        return logits

    def byproduct(self, images: Any, target: str | None = None) -> Float[np.ndarray, "b k d"]:
        """What the byproduct head predicts: K rows (1, or one per class) of D numbers.

        target: Of several heads, which; the first without it.

        Points `(x, y)` and boxes `(x_min, y_min, x_max, y_max)` are fractions of the image as it was given, y down,
        although the network sees the centre crop. Heat maps are shares of the cells of a grid on that crop before their
        softmax, numbers are standardised as in training, annotators logits. A dense head of a point or box gives the
        point that its heat map stands for. Raises `UserError` without such a head.
        """
        if not self.loaded.has_byproduct_head:
            raise UserError(
                f"{self.name}: has no byproduct head; it was trained with byproduct.target=none, or is timm's"
            )
        names = [spec.name for spec in self.loaded.model.heads]
        if target is not None and target not in names:
            raise UserError(f"{self.name}: has no byproduct head for {target!r}; it has {', '.join(names)}")
        which = 0 if target is None else names.index(target)
        _, heads, views = self._predict(images)
        predicted = heads[which]
        targets = self.loaded.targets
        kind = kind_of(targets[which]) if targets else None
        if kind not in (TargetKind.POINT, TargetKind.BOX):
            return predicted
        if predicted.shape[-1] == 2:
            kind = TargetKind.POINT
        on_image = (view.inverse() for view in views)
        moved = [
            map_.points(rows) if kind is TargetKind.POINT else map_.boxes(rows)
            for map_, rows in zip(on_image, predicted, strict=True)
        ]
        return np.stack(moved) if moved else predicted

    def _predict(self, images: Any) -> tuple[np.ndarray, tuple[np.ndarray, ...], list[Any]]:
        pixels, views = model_inputs(images, self.preprocessing)
        logits: list[np.ndarray] = []
        byproducts: list[list[np.ndarray]] = [[] for _ in self.loaded.model.heads]
        for start in range(0, len(pixels), _MAX_BATCH):
            some = pixels[start : start + _MAX_BATCH]
            # Powers of two, so that batches of any number of images need a few programs only.
            size = -(-(1 << (len(some) - 1).bit_length()) // self.mesh.size) * self.mesh.size
            padded = np.zeros((size, *some.shape[1:]), np.uint8)
            padded[: len(some)] = some
            of_batch, byproduct = self._predictor.outputs_of(sharding.put(padded, self._predictor.rows), View.PLAIN)
            logits.append(np.asarray(of_batch)[: len(some)])
            heads = byproduct if isinstance(byproduct, tuple) else [] if byproduct is None else [byproduct]
            for of_head, values in zip(byproducts, heads, strict=True):
                of_head.append(np.asarray(values)[: len(some)])
        if not logits:
            none = tuple(np.zeros((0, *spec.shape), np.float32) for spec in self.loaded.model.heads)
            return np.zeros((0, self.loaded.num_classes), np.float32), none, views
        return np.concatenate(logits), tuple(map(np.concatenate, byproducts)), views


class ForeignModel:
    """A model of others: images in, logits out. `load` makes it of all that is neither a run nor timm's weights."""

    def __init__(self, loaded: FunctionModel):
        self.loaded = loaded
        """The function, its preprocessing and its classes."""

    def __repr__(self) -> str:
        return f"ForeignModel({self.name!r}, {self.identity['chosen']}, {self.loaded.num_classes:,} classes)"

    @property
    def name(self) -> str:
        return self.loaded.name

    @property
    def classes(self) -> ClassList:
        """Ids and names in the order of the logits."""
        return self.loaded.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to every image; `load(..., image_size=...)` and the like change it."""
        return self.loaded.preprocessing

    @property
    def identity(self) -> dict[str, Any]:
        """What tells this model from any other: its file, hashes, how it is fed."""
        return self.loaded.identity

    def __call__(self, images: Any) -> Float[np.ndarray, "b c"]:
        """Logits of images, float32; `images` as `Model` takes them."""
        pixels, _ = model_inputs(images, self.preprocessing)
        if not len(pixels):
            return np.zeros((0, self.loaded.num_classes), np.float32)
        some = (pixels[start : start + _MAX_BATCH] for start in range(0, len(pixels), _MAX_BATCH))
        return np.concatenate([self.loaded.logits(self.loaded.outputs_of(self.loaded.feed(part))) for part in some])


def load(
    checkpoint: Path,
    *,
    step: int | str = "latest",
    weights: str | None = None,
    dtype: str = "float32",
    timm_size: str | None = None,
    classes: ClassList | Path | None = None,
    outputs: str | None = None,
    channels: str | None = None,
    layout: str | None = None,
    classifier: Path | None = None,
    trust: bool = False,
    **preprocessing: Any,
) -> Model | ForeignModel:
    """A trained network from the workdir of a run or from a file of timm's, or a model of others.

    Args:
        checkpoint: `RUNS/r50`, or `timm:resnet50.tv_in1k:FILE.safetensors`; local or in a bucket. Models of others are
            `onnx:FILE`, `torch:timm/NAME[:FILE]`, `torch:MODULE:FUNCTION`, `hf:FOLDER` and `python:MODULE:FUNCTION`.
        step: Of a run: `latest`, `best`, or a number.
        weights: `raw` (the default), or `ema`: the moving average of a run that keeps one.
        dtype: `float32` or `bfloat16`, of activations and products, whatever the run was trained in.
        timm_size: `test` or `train`, of timm's weights that state two input sizes; by default `test`, as timm
            evaluates them.
        preprocessing: Fields of `Preprocessing` (`image_size`, `resize_side`, `filter`, `mean`, `std`) instead of what
            the checkpoint states.
        classes: Of models of others, as all that follow: the class of each output, a list or the file of one;
            ImageNet's 1,000 in the order of their wnids by default.
        outputs: `logits` or `probabilities`.
        channels: `rgb` or `bgr`.
        layout: `nhwc` or `nchw`, where the model does not say it.
        classifier: A `.npy` of text embeddings `[C, D]`, for a model of image embeddings `[B, D]`.
        trust: Whether files may be unpickled, which can run any code that they hold.

    Raises:
        CheckpointError: It cannot be read, or is damaged.
        UserError: An argument makes no sense.
    """
    options = Options(
        classes=classes,
        outputs=None if outputs is None else Outputs(choice("outputs", outputs, ("logits", "probabilities"))),
        channels=None if channels is None else Channels(choice("channels", channels, ("rgb", "bgr"))),
        layout=None if layout is None else Layout(choice("layout", layout, ("nhwc", "nchw"))),
        classifier=classifier,
        trust=trust,
        preprocessing=preprocessing_changes(preprocessing),
    )
    if is_foreign(os.fspath(checkpoint)):
        if (str(step), weights, dtype, timm_size) != _OF_RUNS:
            raise UserError(f"{checkpoint}: step, weights, dtype and timm_size are those of a run or of timm's weights")
        return ForeignModel(load_foreign(os.fspath(checkpoint), options))
    refuse_misspelt(os.fspath(checkpoint), TIMM, SAVED)
    if stated := options.stated():
        raise UserError(
            f"{checkpoint}: {', '.join(stated)}: for models of others alone ({', '.join(PREFIXES)}); a run and timm's"
            " weights state their own"
        )
    mesh = sharding.make_mesh(MeshConfig())
    loaded = load_checkpoint(
        checkpoint,
        str(step),
        mesh,
        preprocessing_changes(preprocessing),
        choice("weights", weights, ("raw", "ema")),
        timm_size=None if timm_size is None else TimmSize(choice("timm_size", timm_size, ("test", "train"))),
        dtype=Dtype(choice("dtype", dtype, ("float32", "bfloat16"))),
    )
    return Model(loaded, mesh)


def choice(name: str, value: str | None, choices: Sequence[str]) -> str | None:
    """The value, if it is one of them or None; raises `UserError`."""
    if value is not None and value not in choices:
        raise UserError(f"{name}={value!r}: expected {' or '.join(choices)}")
    return value


def preprocessing_changes(fields: Mapping[str, Any]) -> dict[str, Any]:
    """As `load` of a checkpoint takes them: names and types checked, None left out. Raises `UserError`."""
    changes = {name: value for name, value in fields.items() if value is not None}
    known = ("image_size", "resize_side", "filter", "mean", "std")
    if unknown := [name for name in changes if name not in known]:
        raise UserError(f"{unknown[0]}: no field of the preprocessing; they are {', '.join(known)}")
    if "filter" in changes:
        filters = [filter.value for filter in ResizeFilter]
        value = changes["filter"]
        changes["filter"] = value if isinstance(value, ResizeFilter) else ResizeFilter(choice("filter", value, filters))
    for name in {"mean", "std"} & changes.keys():
        try:
            red, green, blue = (float(value) for value in changes[name])
        except (TypeError, ValueError) as e:
            raise UserError(f"{name}={changes[name]!r}: expected three numbers, as in (0.5, 0.5, 0.5)") from e
        changes[name] = (red, green, blue)
    return changes


def run_suites(
    model: Model | ForeignModel | Path | Function,
    data: Path,
    suites: str | Sequence[str | Suite] = "all",
    out: Path | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    classes: ClassList | None = None,
    name: str = "",
    maps: str | None = None,
    font: Path | None = None,
    overwrite: bool = False,
    predictions: Path | None = None,
    examples: int = 48,
    batch_size: int | None = None,
    num_threads: int = 0,
    workers: int = 0,
    cache: str | None = None,
) -> SuiteResults:
    """Scores a model by suites; those whose data is not below `data` are in `missing` of what is returned.

    Args:
        model: What `load` gave, or takes; `predictions:DIR`, which scores what `predictions=DIR` kept, without a model;
            or any function from uint8 images `[B, H, W, 3]` to logits `[B, 1000]`.
        data: The folder of the prepared data, local or in a bucket.
        suites: `all`, names separated by commas, or a list of names and of suites of your own (`luab_jax.Suite`).
        out: results.json to write, or to continue; suites in it that were run on the same data are not run again.
            Without it results are only returned.
        preprocessing: Of a function: how its images are resized and cut. Suites apply occlusions to the pixels that it
            is given, by the `mean` of this or by black.
        classes: Of a function: ids and names in the order of its logits; ImageNet's 1,000 by default.
        name: Of a function, in results and tables; its own by default.
        maps: `rise` or `rise:MASKS`: for a model that tells nothing of where it sees a class, `localisation` finds out
            by occlusion, at the cost of 1,000 predictions (or MASKS) for each image.
        font: SourceHanSerifSC-ExtraLight.otf, with which `imagenet_w_generated` draws its watermark.
        overwrite: Replaces the results of another checkpoint.
        predictions: A folder that keeps all predictions, two bytes a logit.
        examples: Example images to keep beside `out`, for the report's pictures.
        batch_size: Images predicted at once, over all devices; by default 256, but no fewer than 32 a device.
        num_threads: Threads that decode; 0 takes one per core.
        workers: Processes that decode sets of some thousand images in place of the threads; -1 takes one per core.
        cache: A local folder that keeps whole shards of `data`, fetched once per host: `DIR`, or `DIR:SIZE` as in
            /mnt/ssd:200GB. Changes no result.

    Raises:
        UserError: No suite could run, or an argument makes no sense; `DataError` where `data` holds nothing prepared.
    """
    _check_numbers(batch_size, num_threads, workers, examples)
    batch_size = batch_size or _default_batch_size()
    reading = Reading(num_threads=num_threads, workers=workers)
    rise = None if maps is None else Rise.parse(maps)
    drawn = None if font is None else read_font(font)
    loaded, predictor = _evaluated(model, preprocessing, classes, name, batch_size, reading, rise, font=drawn)
    entry = Entry(loaded, predictor, out, predictions)
    [results] = evaluate_suites(
        [entry], data, choose_suites(suites), overwrite=overwrite, examples=examples, cache=cache
    )
    if isinstance(results, UserError):
        raise results
    if not results.suites:
        raise UserError(none_could_run(results, data))
    return results


def _check_numbers(batch_size: int | None, num_threads: int, workers: int, examples: int) -> None:
    """Raises `UserError` for what the command's flags do not take either."""
    lowest = {"batch_size": (batch_size, 1), "num_threads": (num_threads, 0), "workers": (workers, -1)}
    for name, (value, bound) in (lowest | {"examples": (examples, 0)}).items():
        if value is not None and value < bound:
            raise UserError(f"{option(name, value)}: expected {bound} or more")


def _default_batch_size() -> int:
    return max(256, 32 * jax.device_count())


def none_could_run(results: SuiteResults, data: Path) -> str:
    """Why no suite has a result."""
    reasons = "\n".join(results.reasons)
    guess = f"\nis {os.fspath(data)} the folder of the prepared data?" if results.no_data else ""
    return f"no suite could run\n{reasons}{guess}"


def run_suites_together(
    models: Mapping[str, Model | ForeignModel | Path | Callable[[], Model | ForeignModel]],
    data: Path,
    suites: str | Sequence[str | Suite] = "all",
    outs: Mapping[str, Path] | None = None,
    *,
    maps: str | None = None,
    font: Path | None = None,
    overwrite: bool = False,
    predictions: Path | None = None,
    examples: int = 48,
    batch_size: int | None = None,
    num_threads: int = 0,
    workers: int = 0,
    cache: str | None = None,
) -> dict[str, SuiteResults | UserError]:
    """Scores several models in one pass: each image is decoded once for all that see the same pixels.

    Networks of one architecture share their compiled programs. A model that cannot be loaded or scored has its error
    and costs the others nothing. Parameters of as many models as fit into half of the memory are held at a time; if
    there are more, there are more passes.

    Args:
        models: By a name of the caller's: what `load` gave, or takes, or a function of no arguments that loads it.
        data: As of `run_suites`, and so are the others.
        suites: Names, or suites of your own.
        outs: results.json of each, by the same names; those without are only returned.
        maps: For models of others, `rise` or `rise:MASKS`.
        font: Of the watermark of `imagenet_w_generated`.
        overwrite: Replaces the results of other checkpoints.
        predictions: A folder that keeps all predictions, in a folder for each name.
        examples: Example images to keep beside each `out`.
        batch_size: Images predicted at once, over all devices; by default 256, but no fewer than 32 a device.
        num_threads: Threads that decode; 0 takes one per core.
        workers: Processes that decode sets of some thousand images in place of the threads; -1 takes one per core.
        cache: A local folder that keeps whole shards of `data`.

    Raises:
        UserError: An argument makes no sense; `DataError` where `data` holds nothing prepared.
    """
    _check_numbers(batch_size, num_threads, workers, examples)
    _check_outs(models, outs or {})
    reading, rise = Reading(num_threads=num_threads, workers=workers), None if maps is None else Rise.parse(maps)
    drawn = None if font is None else read_font(font)
    chosen, programs = choose_suites(suites), Programs()
    whole = -(-(batch_size or _default_batch_size()) // jax.device_count()) * jax.device_count()
    found: dict[str, SuiteResults | UserError] = {}
    for group in _in_groups(models, found):
        entries: dict[str, Entry] = {}
        for name, model in group.items():
            of_model = rise if isinstance(model, ForeignModel) else None
            try:
                loaded, predictor = _evaluated(model, None, None, "", whole, reading, of_model, programs, drawn)
            except UserError as e:
                found[name] = without_frames(e)
                continue
            to = None if predictions is None else os.path.join(predictions, name)
            entries[name] = Entry(loaded, predictor, (outs or {}).get(name), to)
        results = evaluate_suites(
            list(entries.values()), data, chosen, overwrite=overwrite, examples=examples, cache=cache
        )
        for name, outcome in zip(entries, results, strict=True):
            if isinstance(outcome, SuiteResults) and not outcome.suites:
                outcome = UserError(none_could_run(outcome, data))
            found[name] = outcome
        del group, entries
    return {name: found[name] for name in models}


def _check_outs(models: Mapping[str, Any], outs: Mapping[str, Path]) -> None:
    """Raises `UserError` for a file of a model that is not there: its results would be kept nowhere."""
    for name in outs:
        if name not in models:
            near = difflib.get_close_matches(name, models, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"they are {', '.join(models)}"
            raise UserError(f"outs: no model is named {name!r}; {hint}")


def _in_groups(
    models: Mapping[str, Any], failed: dict[str, SuiteResults | UserError]
) -> Iterator[dict[str, Model | ForeignModel]]:
    """As many at a time as have parameters that fit into half of the memory; those that cannot be loaded are in
    `failed`. Parameters of foreign models are unknown, and count nothing."""
    limit, held = device_memory() // 2, 0
    group: dict[str, Model | ForeignModel] = {}
    for name, model in models.items():
        try:
            is_named = isinstance(model, str | os.PathLike)
            loaded = model if isinstance(model, Model | ForeignModel) else load(model) if is_named else model()
        except UserError as e:
            say(f"{name}: {e}", active=jax.process_index() == 0)
            failed[name] = without_frames(e)
            continue
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(loaded.loaded.params)) if isinstance(loaded, Model) else 0
        if group and held + size > limit:
            yield group
            group, held = {}, 0
        group[name] = loaded
        held += size
    if group:
        yield group


def _evaluated(
    model: Any,
    preprocessing: Preprocessing | None,
    classes: ClassList | None,
    name: str,
    batch_size: int,
    reading: Reading,
    maps: Rise | None,
    programs: Programs | None = None,
    font: Font | None = None,
) -> tuple[Evaluated, Predicts]:
    """A model, and what predicts with it."""
    if isinstance(model, str | os.PathLike):
        if os.fspath(model).startswith(SAVED):
            model = SavedModel(os.fspath(model).removeprefix(SAVED))
        else:
            model = load(model)
    if isinstance(model, Model | ForeignModel | SavedModel):
        if preprocessing or classes or name:
            raise UserError("preprocessing, classes and name are those of a function; a checkpoint states its own")
        if isinstance(model, ForeignModel):
            return model.loaded, FunctionPredictor(model.loaded, batch_size, reading, maps, font)
        if maps is not None:
            raise UserError(
                "maps: those by occlusion are for models of others; a run and timm's weights give their own"
            )
        if isinstance(model, SavedModel):
            if font is not None:
                raise UserError("font: saved predictions were made under the watermark that was given with them")
            return model, model
        return model.loaded, Predictor(model.loaded, model.mesh, batch_size, reading, programs, font)
    if not callable(model):
        raise UserError(f"model: a {type(model).__name__}; expected what luab_jax.load gives, or a function")
    if preprocessing is None:
        raise UserError("a function needs preprocessing=luab_jax.Preprocessing(image_size=...), the images it is given")
    of_function = FunctionModel(model, preprocessing, name, classes or imagenet())
    return of_function, FunctionPredictor(of_function, batch_size, reading, maps, font)


def train(config: Config, workdir: Path, **options: Any) -> ExitCode:
    """Trains to the end, resuming what is in `workdir`: `ExitCode.DONE`.

    SIGTERM and Ctrl-C save and return `ExitCode.STOPPED_RESUMABLE`; the same call then continues.
    """
    from luab_jax.training.loop import train as train_loop

    return train_loop(config, workdir, **options)


def export_timm(
    checkpoint: Path, out: Path, *, step: int | str = "latest", weights: str | None = None
) -> ExportedWeights:
    """Writes a run's weights as a safetensors file by timm's names, without the byproduct head.

    Args:
        checkpoint: The workdir of the run.
        out: A name that ends in `.safetensors`; a file that is there is replaced.
        step: `latest`, `best`, or a number.
        weights: `raw` (the default), or `ema`: the moving average of a run that keeps one.

    Raises:
        UserError: An argument makes no sense, the checkpoint cannot be read, or the file cannot be written.
    """
    mesh = sharding.make_mesh(MeshConfig())
    return export_weights(checkpoint, out, mesh, str(step), choice("weights", weights, ("raw", "ema")))


def draw_preview(config: Config, out: Path, *, images: int = 5, crops: int = 6, cell: int = 168) -> Size:
    """Plots the batches that training would see, and returns the width and height of the picture in pixels.

    Args:
        config: The experiment; `config.data.root` names the prepared data.
        out: A name that ends in `.png`, `.jpg` or `.webp`.
        images: Rows: images that have the target, drawn by `config.seed`.
        crops: Columns of crops: epochs of the run.
        cell: Side of a cell, pixels.

    Raises:
        ConfigError: The config makes no sense, or names a target without a place.
        DataError: No image has the target.
    """
    from luab_jax.preview.grid import draw_preview as draw

    return draw(config, os.fspath(out), num_images=images, num_crops=crops, cell=cell)
