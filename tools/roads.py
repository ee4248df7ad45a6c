"""The same weights through every road that a model can come by: `python -m tools.roads --out=DIR`.

Drawn weights of timm's networks are read natively, by torch, as an ONNX file and by a function of Python, and score
the suites; the table has the largest difference of a logit from the native one's, as a share of the largest, and of a
score. Needs torch, timm, onnx and onnxruntime beside the project's packages.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import timm  # pyright: ignore[reportMissingImports]
import torch  # pyright: ignore[reportMissingImports]

import luab_jax
from benchmarks.parity import randomise
from luab_jax.models.timm_models import TIMM_MODELS, TimmModel, TimmSize

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


def write(known: TimmModel, folder: Path) -> tuple[str, ...]:
    """One set of weights as `--checkpoint` of every kind, the native one first."""
    torch.manual_seed(0)
    module = timm.create_model(known.name, pretrained=False).eval()
    randomise(module)
    weights, exported = folder / f"{known.name}.safetensors", folder / f"{known.name}.onnx"
    safetensors.torch.save_file(module.state_dict(), weights)
    side = known.image_size(TimmSize.TEST)
    drawn = torch.zeros(8, 3, side, side)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        torch.onnx.export(module, (drawn,), exported, input_names=["images"], dynamo=False)
    native, module_file = f"timm:{known.name}:{weights}", folder / f"{known.name.replace('.', '_')}.py"
    module_file.write_text(_FUNCTION.format(native=native), encoding="utf-8")
    return (
        native,
        f"torch:timm/{known.name}:{weights}",
        f"onnx:{exported}",
        f"python:{module_file}:network",
    )


def scores(results: luab_jax.SuiteResults) -> dict[str, float]:
    return {f"{s} {n}": entry.value for s, of in results.suites.items() for n, entry in of.scores.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the files; DATA of tools.miniatures is read")
    parser.add_argument("--data", type=Path, help="prepared data to run the suites on; logits alone if left out")
    parser.add_argument("--suites", default="all")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(0).integers(0, 256, (8, 256, 300, 3), np.uint8)
    print(f"{'':38}{'logits':>10}{'scores':>10}{'suites':>8}  not run")
    for name in arguments.networks:
        known = TIMM_MODELS[name]
        native, *others = write(known, arguments.out)
        ours = luab_jax.load(native)
        expected = ours(images)
        of_native = _suites(ours, arguments) if arguments.data else None
        for road in others:
            stated = known.statistics
            given: dict[str, Any] = {}
            if road.startswith("onnx:"):
                preprocessing = ours.preprocessing
                given = {"resize_side": preprocessing.resize_side, "filter": preprocessing.filter}
                given |= {"mean": stated[0], "std": stated[1]}
            with contextlib.redirect_stderr(io.StringIO()):
                model = luab_jax.load(road, **given)
                of_logits = float(np.abs(model(images) - expected).max() / np.abs(expected).max())
                found = _suites(model, arguments) if of_native is not None else None
            line = f"{road.partition(':')[0]:7}{name:31}{of_logits:10.1e}"
            if of_native is not None and found is not None:
                a, b = scores(of_native), scores(found)
                shared = a.keys() & b.keys()
                lacking = sorted(set(of_native.suites) - set(found.suites))
                line += f"{max(abs(a[k] - b[k]) for k in shared):10.1e}{len(found.suites):8}  {', '.join(lacking)}"
            print(line, flush=True)
        for path in arguments.out.glob(f"{name}*"):
            path.unlink()


def _suites(model: Any, arguments: argparse.Namespace) -> luab_jax.SuiteResults:
    with contextlib.redirect_stderr(io.StringIO()):
        return luab_jax.run_suites(model, arguments.data, arguments.suites, batch_size=8)


if __name__ == "__main__":
    main()
