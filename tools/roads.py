"""The same weights through every road that a model can come by: `python -m tools.roads --out=DIR`.

Drawn weights of a native network are saved as a run's checkpoint and exported by `luab_jax.export`. The exported file
is read natively (`timm:`), by timm itself (`torch:`), as an ONNX file that torch writes, and as a folder in Hugging
Face's layout (`hf:`, ViTs only: the ResNets of such folders are not read); a function of Python calls the checkpoint
(`python:`). The table has the largest difference of a logit from the checkpoint's, as a share of the largest, over
eight images; with `--data`, also the largest difference of a score and in how many suites. Needs torch, timm,
transformers, onnx and onnxruntime beside the project's packages. JAX_COMPILATION_CACHE_DIR=DIR compiles each network
once, not for each native road.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors.torch
import timm  # pyright: ignore[reportMissingImports]
import torch  # pyright: ignore[reportMissingImports]

import luab_jax
from benchmarks.parity import randomise
from luab_jax.data.class_lists import imagenet
from luab_jax.errors import UserError
from luab_jax.models.config import family_of, filled_preset
from luab_jax.models.timm_models import TIMM_MODELS
from luab_jax.models.timm_weights import read_weights
from tools.hf_layout import write_vit
from tools.runs import save_run

NETWORKS = (
    "resnet18.tv_in1k",
    "resnet50.tv_in1k",
    "resnet101.tv_in1k",
    "resnet152.tv_in1k",
    "deit_tiny_patch16_224.fb_in1k",
    "deit_small_patch16_224.fb_in1k",
    "deit_base_patch16_224.fb_in1k",
)
_FUNCTION = """
import luab_jax

def network():
    stated = luab_jax.load({native!r}).preprocessing
    cut = luab_jax.load({native!r}, resize_side=stated.image_size)  # its images are resized and cut already
    return cut, stated
"""
"""A module whose function gives a callable and its preprocessing."""


class Road(NamedTuple):
    """A `--checkpoint`, and what its file does not say."""

    checkpoint: str
    options: dict[str, Any]


def native_run(name: str, folder: Path) -> Path:
    """The workdir of a run with drawn weights, which are timm's only on the way in."""
    torch.manual_seed(0)
    module = timm.create_model(name, pretrained=False).eval()
    randomise(module)
    drawn = folder / "drawn.safetensors"
    safetensors.torch.save_file(module.state_dict(), drawn)
    loaded: Any = luab_jax.load(f"timm:{name}:{drawn}").loaded
    drawn.unlink()
    return save_run(folder / "run", loaded.config, loaded.preprocessing, loaded.params, loaded.batch_stats)


def roads_of(name: str, workdir: Path, ours: luab_jax.Model, folder: Path) -> Iterator[Road]:
    """Every other kind of `--checkpoint` of the same weights, written when it is asked for."""
    exported = folder / "exported.safetensors"
    luab_jax.export_timm(workdir, exported)
    yield Road(f"timm:{name}:{exported}", {})
    yield Road(f"torch:timm/{name}:{exported}", {})
    onnx, stated = folder / "network.onnx", ours.preprocessing
    _write_onnx(timm.create_model(name, checkpoint_path=str(exported)).eval(), onnx, stated.image_size)
    of_file = {"resize_side": stated.resize_side, "filter": stated.filter, "mean": stated.mean, "std": stated.std}
    yield Road(f"onnx:{onnx}", of_file)
    if family_of(ours.config.model).is_transformer:
        hf = write_vit(
            folder / "hf",
            read_weights(exported),
            num_heads=filled_preset(ours.config.model).num_heads,
            preprocessing=stated,
            classes=imagenet(),
        )
        yield Road(f"hf:{hf}", {})
    module = folder / f"road_{name.partition('.')[0]}.py"
    module.write_text(_FUNCTION.format(native=str(workdir)), encoding="utf-8")
    yield Road(f"python:{module}:network", {})


def _write_onnx(module: torch.nn.Module, file: Path, side: int) -> None:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        torch.onnx.export(module, (torch.zeros(8, 3, side, side),), file, input_names=["images"], dynamo=False)


def scores(results: luab_jax.SuiteResults) -> dict[str, float]:
    return {f"{s} {n}": entry.value for s, of in results.suites.items() for n, entry in of.scores.items()}


def scores_column(native: luab_jax.SuiteResults, found: luab_jax.SuiteResults) -> str:
    """The largest difference of a score that both have, NaN if one is; and the suites that only the checkpoint has."""
    a, b = scores(native), scores(found)
    differences = [abs(a[name] - b[name]) for name in a.keys() & b.keys()]
    if not differences:
        return "  none of its scores is among the checkpoint's"
    lacking = sorted(set(native.suites) - set(found.suites))
    return f"{np.max(differences):10.1e}{len(found.suites):8}  {', '.join(lacking)}"


def compare(name: str, folder: Path, data: Path | None, suites: str) -> None:
    """Prints a line for each road of a network."""
    images = np.random.default_rng(0).integers(0, 256, (8, 256, 300, 3), np.uint8)
    workdir = native_run(name, folder)
    ours = luab_jax.load(workdir)
    expected = ours(images)
    of_native = None if data is None else _suites(ours, data, suites)
    for road in roads_of(name, workdir, ours, folder):  # pyright: ignore[reportArgumentType] (a workdir is native)
        with contextlib.redirect_stderr(io.StringIO()):
            model = luab_jax.load(road.checkpoint, **road.options)
        of_logits = float(np.abs(model(images) - expected).max() / np.abs(expected).max())
        line = f"{road.checkpoint.partition(':')[0]:7}{name:31}{of_logits:10.1e}"
        if of_native is not None and data is not None:
            try:
                line += scores_column(of_native, _suites(model, data, suites))
            except UserError as e:
                line += f"  {e}"
        print(line.rstrip(), flush=True)
        del model
        gc.collect()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the files, which are deleted again")
    parser.add_argument("--data", type=Path, help="prepared data to run the suites on; logits alone if left out")
    parser.add_argument("--suites", default="all")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(f"{'':38}{'logits':>10}{'scores':>10}{'suites':>8}  not run" if arguments.data else f"{'':38}{'logits':>10}")
    start = time.monotonic()
    for name in arguments.networks:
        folder = Path(tempfile.mkdtemp(dir=arguments.out))
        try:
            compare(name, folder, arguments.data, arguments.suites)
        except UserError as e:
            parser.exit(1, f"error: {name}: {e}\n")
        finally:
            shutil.rmtree(folder)
        jax.clear_caches()
    side = TIMM_MODELS[NETWORKS[0]].images.image_size
    print(f"{len(arguments.networks)} networks at {side} px in {time.monotonic() - start:.0f} s")


def _suites(model: Any, data: Path, suites: str) -> luab_jax.SuiteResults:
    with contextlib.redirect_stderr(io.StringIO()):
        return luab_jax.run_suites(model, data, suites, batch_size=8)


if __name__ == "__main__":
    main()
