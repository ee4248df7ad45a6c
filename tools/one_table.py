"""Models of every kind through every suite's miniature, in one command: `python -m tools.one_table`.

The seven networks of ImageNet that are native, ConvNeXt-T and a ViT with registers (a run's workdir), an ONNX file, a
network of torch, a function, and a ResNet of COCO's sets of labels, all with drawn weights and fed 32 pixels, are
scored by one call of `luab_jax.evaluate`, including suites that need more than stored predictions. Printed are that
call, a table of the suites' headline scores, and how often the images of each prepared split were decoded. Weights are
drawn, so scores are near chance: what is shown is the road. The exit code, which the last line explains, is 1 if a
model has no result, or if a suite did not run for another reason than that the model lacks what it needs, has other
classes or labels, or that no miniature has its data. Needs torch, timm, onnx and onnxruntime beside the project's
packages.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import safetensors.torch
import timm  # pyright: ignore[reportMissingImports]
import torch  # pyright: ignore[reportMissingImports]

import luab_jax
from benchmarks.parity import randomise
from luab_jax import api
from luab_jax.config import Task
from luab_jax.data.class_lists import imagenet
from luab_jax.data.coco_classes import coco
from luab_jax.data.transforms import Preprocessing, ResizeFilter
from luab_jax.errors import UserError
from luab_jax.evaluate import main as evaluate
from luab_jax.evaluation.checkpoint_list import names_of
from luab_jax.evaluation.predictor import BatchPredictor
from luab_jax.evaluation.run import SuiteResults
from luab_jax.evaluation.suite import Need
from luab_jax.evaluation.suite_names import ALL
from luab_jax.models.config import ModelConfig
from luab_jax.models.functional import create_model
from luab_jax.results.format import File
from luab_jax.results.score import Role
from tools.miniatures import Miniatures, random_params, tiny_model
from tools.more_miniatures import FONT, add_more
from tools.runs import save_run

SIDE, SHORT = 32, 36
NATIVE = {
    "resnet18": "resnet18.tv_in1k",
    "resnet50": "resnet50.tv_in1k",
    "resnet101": "resnet101.tv_in1k",
    "resnet152": "resnet152.tv_in1k",
    "vit_ti": "deit_tiny_patch16_224.fb_in1k",
    "vit_s": "deit_small_patch16_224.fb_in1k",
    "vit_b": "deit_base_patch16_224.fb_in1k",
    "convnext_t": "convnext_tiny.fb_in1k",
}
OF_TORCH, OF_ONNX = "mobilenetv3_small_100.lamb_in1k", "resnet34.tv_in1k"


def projection() -> tuple[Callable[[np.ndarray], np.ndarray], Preprocessing]:
    """The plain function: 4 x 4 mean colours, times a matrix."""
    matrix = np.random.default_rng(0).normal(size=(48, 1000)).astype(np.float32)

    def colours(images: np.ndarray) -> np.ndarray:
        cells = images.reshape(len(images), 4, SIDE // 4, 4, SIDE // 4, 3).mean((2, 4), dtype=np.float32)
        return cells.reshape(len(images), -1) @ matrix / 255

    return colours, Preprocessing(image_size=SIDE, resize_side=SHORT, filter=ResizeFilter.BICUBIC)


def drawn(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    module = timm.create_model(name, pretrained=False).eval()
    randomise(module)
    return module


def weights_of(name: str, file: Path) -> Path:
    """In timm's layout."""
    if not file.exists():
        safetensors.torch.save_file(drawn(name).state_dict(), file)
    return file


def onnx_of(name: str, file: Path) -> Path:
    if file.exists():
        return file
    images = torch.zeros(32, 3, SIDE, SIDE)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        torch.onnx.export(drawn(name), (images,), file, input_names=["images"], dynamo=False)
    return file


def workdir_of(config: ModelConfig, workdir: Path, task: Task = Task.SINGLE_LABEL) -> Path:
    """timm's tags of DINOv2 have no classifier, and it has no models of sets of labels, so there is no file."""
    if workdir.exists():
        return workdir
    classes = coco() if task is Task.MULTI_LABEL else imagenet()
    model = create_model(config, num_classes=len(classes), image_size=SIDE, byproduct_shape=None)
    preprocessing = Preprocessing(image_size=SIDE, resize_side=SHORT, filter=ResizeFilter.BICUBIC)
    return save_run(workdir, config, preprocessing, *random_params(model), task)


def checkpoints_in(folder: Path, native: list[str]) -> list[str]:
    folder.mkdir(exist_ok=True)
    files = [f"timm:{NATIVE[name]}:{weights_of(NATIVE[name], folder / f'{name}.safetensors')}" for name in native]
    return [
        *files,
        str(workdir_of(ModelConfig(name="dinov2_s_reg4", patch_size=16), folder / "vit_s_reg4")),
        f"onnx:{onnx_of(OF_ONNX, folder / 'onnx_resnet34.onnx')}",
        f"torch:timm/{OF_TORCH}:{weights_of(OF_TORCH, folder / 'torch_mobilenet.safetensors')}",
        "python:tools.one_table:projection",
        str(workdir_of(ModelConfig(name="resnet18"), folder / "coco_resnet18", Task.MULTI_LABEL)),
    ]


@contextlib.contextmanager
def counted() -> Iterator[Counter[str]]:
    """How often each prepared split is decoded."""
    passes: Counter[str] = Counter()
    batches = BatchPredictor.batches

    @functools.wraps(batches)
    def counting(self: BatchPredictor, split: Any, *arguments: Any, **options: Any) -> Any:
        passes[f"{split.manifest.dataset} {split.manifest.split}"] += 1
        return batches(self, split, *arguments, **options)

    with mock.patch.object(BatchPredictor, "batches", counting):
        yield passes


@contextlib.contextmanager
def outcomes() -> Iterator[dict[str, SuiteResults | UserError]]:
    """What the evaluation gave, by the model's name."""
    found: dict[str, SuiteResults | UserError] = {}
    together = api.run_suites_together

    @functools.wraps(together)
    def keeping(*arguments: Any, **options: Any) -> dict[str, SuiteResults | UserError]:
        found.update(together(*arguments, **options))
        return found

    with mock.patch.object(api, "run_suites_together", keeping):
        yield found


def is_expected(reason: str) -> bool:
    """Whether a suite may be without a result: the model gives less than it needs, or other classes, or has no data."""
    starts = (*(need.value for need in Need), "it scores ", "the checkpoint was trained on ", "no data for ")
    return reason.startswith(starts) or "prepared with a class list of " in reason


def print_gaps(found: dict[str, SuiteResults | UserError]) -> tuple[int, int]:
    """Suites without a result and why, once for all models that share a reason; returns how many of them are expected,
    and how many a failure."""
    gaps: dict[tuple[str, str], list[str]] = {}
    for name, outcome in found.items():
        of_one = {"all suites": f"error: {outcome}"} if isinstance(outcome, UserError) else outcome.missing
        for suite, reason in of_one.items():
            gaps.setdefault((suite, reason), []).append(name)
    for (suite, reason), models in gaps.items():
        of = "all models" if len(models) == len(found) else ", ".join(models)
        print(f"{'not run' if is_expected(reason) else 'FAILED'}: {suite} ({of}): {reason}")
    expected = sum(len(models) for (_, reason), models in gaps.items() if is_expected(reason))
    return expected, sum(map(len, gaps.values())) - expected


def print_verdict(num_models: int, num_scored: int, expected: int, failed: int) -> int:
    """What the exit code is and why; returns it."""
    code = int(bool(failed) or num_scored < num_models)
    print(
        f"exit code {code}: {num_scored} of {num_models} models have results; pairs of suite and model without a score:"
        f" {expected} as expected (the model lacks what the suite needs, or no miniature has the data), {failed} failed"
    )
    return code


def headlines(results: File) -> dict[str, float]:
    return {
        f"{suite} {name}": entry.value
        for suite, of in results.suites.items()
        for name, entry in of.scores.items()
        if entry.role is Role.HEADLINE
    }


def print_table(found: dict[str, dict[str, float]]) -> int:
    """A row for a score, a column for a model; a dash where the suite has no score of the model. Returns how many."""
    rows = list(dict.fromkeys(row for of_model in found.values() for row in of_model))
    columns = [max(len(name), 6) + 1 for name in found]
    print("".join([f"{'':34}", *(f"{name:>{width}}" for name, width in zip(found, columns, strict=True))]))
    for row in rows:
        cells = [f"{of_model[row]:.3f}" if row in of_model else "-" for of_model in found.values()]
        print("".join([f"{row:34}", *(f"{cell:>{width}}" for cell, width in zip(cells, columns, strict=True))]))
    return len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="what is there is used again (default: a temporary folder)")
    parser.add_argument("--native", nargs="*", choices=NATIVE, default=list(NATIVE))
    parser.add_argument("--suites", default=",".join((*ALL, "imagenet_p")), help="imagenet_c_generated wants 224 px")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="one_table_") as temporary:
        sys.exit(run(arguments.out or Path(temporary), arguments.native, arguments.suites))


def run(out: Path, native: list[str], suites: str) -> int:
    """Returns the exit code."""
    out.mkdir(parents=True, exist_ok=True)
    data = out / "miniatures" / "data"
    if not data.exists():
        with contextlib.redirect_stdout(io.StringIO()):
            add_more(Miniatures(data.parent, tiny_model()), data.parent)
    checkpoints = checkpoints_in(out / "models", native)
    results = out / "results"
    asked = [f"--checkpoint={checkpoint}" for checkpoint in checkpoints]
    asked += [f"--image_size={SIDE}", f"--resize_side={SHORT}", "--filter=bicubic", "--maps=rise:50"]
    asked += [f"--suites={suites}", f"--data={data}", f"--out={results}", "--batch_size=32", "--examples=0"]
    asked.append(f"--font={data.parent / FONT}")
    print("python -m luab_jax.evaluate", shlex.join(asked), flush=True)
    start = time.monotonic()
    with counted() as passes, outcomes() as found, contextlib.redirect_stdout(io.StringIO()):
        code = evaluate(asked)
    names = names_of(checkpoints)
    # Only of this call: a file that an earlier one left is no result of a model that fails now.
    done = [name for name, outcome in found.items() if isinstance(outcome, SuiteResults)]
    read = {name: luab_jax.read_results(results / f"{name}.json") for name in done}
    rows = print_table({name: headlines(of_one) for name, of_one in read.items()})
    once = [split for split, times in passes.items() if times == 1]
    print(
        f"{rows} rows in {time.monotonic() - start:.0f} s; evaluate ended with {code.value}, which is 1 if any suite is"
        " not run"
    )
    print(f"decoded once for all models: {', '.join(once)}")
    for split, times in passes.items():
        if times > 1:
            print(f"decoded {times} times: {split}")
    return print_verdict(len(names), len(read), *print_gaps(found))


if __name__ == "__main__":
    main()
