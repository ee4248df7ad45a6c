"""What each byproduct target does for a small model: `python -m benchmarks.targets --data=DIR --out=DIR`.

DIR is a prepared ImageNet-AB directory with the splits train and val. Every target is trained with every seed by
`luab_jax.main`, scored by `luab_jax.evaluate` on val, and `luab_jax.report` prints means and spreads beside the
baseline. Interrupted, the same command goes on where it stopped: finished runs are reused.

The two models are small enough for a laptop at 64 pixels. One schedule serves all targets, and λ is 10 for all of them;
neither was tuned.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

SHARED = (
    "--config.data.preprocessing.image_size=64",
    "--config.data.preprocessing.resize_side=64",
    "--config.data.crop_scale=(0.25,1.0)",
    "--config.model.compute_dtype=float32",
    "--config.batch_size=64",
    "--config.epochs=15",
    "--config.label_smoothing=0",
    "--config.augmentation.enabled=False",
    "--config.optim.name=adamw",
    "--config.optim.learning_rate=1e-3",
    "--config.optim.final_learning_rate=0",
    "--config.optim.warmup_epochs=2",
    "--config.optim.weight_decay=0.05",
    "--config.optim.weight_decay_mask=matrices",
    "--config.byproduct.weight=10",
    "--config.eval.every_epochs=5",
    "--config.checkpoint.every_epochs=5",
    "--config.checkpoint.keep_best=0",
)
MODELS = {
    "vit": (
        "configs/vit_ti.py",
        "--config.model.patch_size=8",
        "--config.model.embed_dim=96",
        "--config.model.num_heads=3",
        "--config.model.depth=4",
        "--config.model.drop_path=0",
        "--config.optim.ema_decay=0",
    ),
    "resnet": (
        "configs/resnet18.py",
        "--config.model.width=32",
        "--config.model.stage_sizes=(1,1,1)",
        "--config.model.stem=patch",
        "--config.model.zero_init_residual=False",
    ),
}
TARGETS = ("none", "random", "click_last", "box")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="prepared directory with the splits train and val")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--targets", nargs="+", default=list(TARGETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("overrides", nargs="*", help="--config.field=value for every run, after `--`")
    arguments = parser.parse_args()
    start = time.monotonic()
    for model in arguments.models:
        results = []
        for seed in arguments.seeds:  # innermost the targets: what was compared ran under the same conditions
            for target in arguments.targets:
                workdir = arguments.out / model / f"{target}-seed{seed}"
                results.append(_train_and_evaluate(model, target, seed, workdir, arguments))
        ordered = sorted(results, key=lambda path: arguments.targets.index(path.parent.name.rpartition("-seed")[0]))
        _command("luab_jax.report", *map(str, ordered), f"--out={arguments.out / model}.txt")
        print(f"\n{model}: {' '.join(MODELS[model])}\n" + Path(f"{arguments.out / model}.txt").read_text())
    print(f"{time.monotonic() - start:.0f} s")


def _train_and_evaluate(model: str, target: str, seed: int, workdir: Path, arguments: argparse.Namespace) -> Path:
    config, *changes = MODELS[model]
    _command(
        "luab_jax.main",
        f"--config={config}",
        f"--workdir={workdir}",
        *SHARED,
        *changes,
        f"--config.data.root={arguments.data}",
        f"--config.byproduct.target={target}",
        f"--config.seed={seed}",
        *arguments.overrides,
    )
    results = workdir / "results.json"
    _command(
        "luab_jax.evaluate",
        f"--checkpoint={workdir}",
        "--suites=imagenet,byproduct",
        f"--data={arguments.data.parent}",
        f"--out={results}",
        accept=(0, 1),  # the baseline has no byproduct head
    )
    return results


def _command(module: str, *flags: str, accept: tuple[int, ...] = (0,)) -> None:
    print("+ python -m", module, *flags, file=sys.stderr, flush=True)
    code = subprocess.run([sys.executable, "-m", module, *flags], check=False, stdout=subprocess.DEVNULL).returncode
    if code not in accept:
        sys.exit(f"{module} ended with exit code {code}")


if __name__ == "__main__":
    main()
