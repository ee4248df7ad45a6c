"""What an earlier version wrote, taken up by this one: shards, a workdir, results and kept predictions.

    python -m tools.compatibility --commit=79d75b1        # the last commit before modules moved into rooms

Checks the commit out into a temporary worktree, where the same commands as here prepare drawn pictures, train six steps
and evaluate. Then this version prepares the same pictures, resumes the run as if it had been killed after step 3,
evaluates the old checkpoint and the old predictions, and reports the old results. Prints what agrees; exits with 1 if
anything does not.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from luab_jax.results.read import read_results

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ("circle", "cross", "square")
SPLITS = {"train": 24, "val": 12}
SUITES = "imagenet,cocc,byproduct"
STEPS, RESUMED_FROM = 6, 3


class Version:
    """The commands of one checkout."""

    def __init__(self, checkout: Path, folder: Path, pictures: Path):
        self._checkout, self._pictures = checkout, pictures
        self.folder = folder
        self.data, self.run_folder = folder / "data", folder / "run"

    def run(self, *arguments: str) -> str:
        """Raises `RuntimeError` with what the command printed if it fails."""
        environment = os.environ | {"PYTHONPATH": str(self._checkout), "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-m", *arguments]
        done = subprocess.run(command, cwd=self._checkout, env=environment, text=True, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def prepare(self) -> None:
        for split in SPLITS:
            flags = [f"--source={self._pictures / split}", f"--split={split}", f"--out={self.data / 'prepared'}"]
            byproducts = [f"--byproducts={self._pictures / split}.csv"]
            classes = [f"--classes={self._pictures / 'classes.txt'}"]
            self.run("data_prep", "folder", *flags, *byproducts, *classes, "--workers=1")

    def train(self, workdir: Path, data: Path) -> str:
        fields = {
            "data.root": data / "prepared",
            "total_steps": STEPS,
            "batch_size": 8,
            "model.width": 4,
            "model.stage_sizes": "(1, 1)",
            "checkpoint.every_epochs": 1,
            "checkpoint.keep_last": 2,
            "log.tensorboard": False,
        }
        overrides = [f"--config.{name}={value}" for name, value in fields.items()]
        return self.run("luab_jax.main", "--config=configs/demo.py", f"--workdir={workdir}", *overrides)

    def evaluate(self, checkpoint: str, data: Path, out: Path, *more: str) -> None:
        flags = [f"--checkpoint={checkpoint}", f"--suites={SUITES}", f"--data={data}", f"--out={out}", "--examples=0"]
        self.run("luab_jax.evaluate", *flags, "--batch_size=8", *more)


def draw(folder: Path) -> None:
    """Pictures of three classes, and the clicks on them."""
    (folder / "classes.txt").parent.mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    for split, number in SPLITS.items():
        rng = np.random.default_rng(number)
        lines = ["file_name,x,y"]
        for index in range(number):
            name = f"{CLASSES[index % len(CLASSES)]}/{index:02d}.png"
            path = folder / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (60, 70, 3), np.uint8)).save(path)
            x, y = rng.random(2)
            lines.append(f"{name},{x:.3f},{y:.3f}")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def digests(folder: Path, ending: str) -> dict[str, str]:
    """File name to SHA-256."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob(f"*{ending}*"))}


def scores(results: Path) -> dict[str, float]:
    """`suite score` to value, of every version of the file."""
    found = {}
    for name, suite in read_results(results).suites.items():
        found |= {f"{name} {score}": float(entry.value) for score, entry in suite.scores.items()}
    return found


def weights(version: Version, workdir: Path, name: str) -> dict[str, np.ndarray]:
    """All arrays of the last checkpoint, read by this version."""
    from safetensors.numpy import load_file

    out = version.folder / f"{name}.safetensors"
    version.run("luab_jax.export", f"--checkpoint={workdir}", f"--out={out}")
    return load_file(out)


@contextlib.contextmanager
def checkout(commit: str, folder: Path) -> Iterator[Path]:
    """A worktree that is removed afterwards."""
    place = folder / "checkout"
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(place), commit], check=True)
    try:
        yield place
    finally:
        subprocess.run([*git, "remove", "--force", str(place)], check=True)


def compare(old: Version, new: Version) -> Iterator[tuple[bool, str]]:
    """(whether it agrees, what was compared)."""
    new.prepare()
    before, after = (digests(version.data / "prepared", ".tfrecord") for version in (old, new))
    yield before == after, f"{len(before)} shards of {sum(SPLITS.values())} images: byte-equal"

    killed = new.folder / "run"
    shutil.copytree(old.run_folder, killed)
    shutil.rmtree(killed / "checkpoints" / str(STEPS))
    said = new.train(killed, old.data)
    lines = [line for line in said.splitlines() if line.startswith("resuming from step")]
    yield lines == [f"resuming from step {RESUMED_FROM} of {STEPS}"], f"workdir of the old version: {' '.join(lines)}"
    whole, resumed = weights(new, old.run_folder, "whole"), weights(new, killed, "resumed")
    largest = float(np.max([np.abs(whole[name] - resumed[name]).max() for name in whole]))
    yield largest < 1e-6, f"parameters after step {STEPS}, resumed here against finished there: within {largest:.1e}"

    v1 = scores(old.folder / "results.json")
    new.evaluate(str(old.run_folder), old.data, new.folder / "results.json")
    yield from _agree("old checkpoint evaluated here", v1, scores(new.folder / "results.json"))
    new.evaluate(f"predictions:{old.folder / 'predictions'}", old.data, new.folder / "again.json")
    yield from _agree("old predictions scored here", v1, scores(new.folder / "again.json"))

    table = new.run("luab_jax.report", str(old.folder / "results.json"), str(new.folder / "results.json"))
    yield "top1" in table, "old results.json beside the new one in a report:\n" + table


def _agree(what: str, old: dict[str, float], new: dict[str, float]) -> Iterator[tuple[bool, str]]:
    both = sorted(old.keys() & new.keys())
    differing = [f"{name} {old[name]:g} -> {new[name]:g}" for name in both if abs(old[name] - new[name]) > 1e-3]
    gone = sorted(old.keys() - new.keys())
    text = f"{what}: {len(both) - len(differing)} of {len(both)} scores within 1e-3"
    notes = [f"different: {', '.join(differing)}"] if differing else []
    notes += [f"not there any more: {', '.join(gone)}"] if gone else []
    yield bool(both) and not differing, "; ".join([text, *notes])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", required=True, help="the earlier version")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch, checkout(arguments.commit, Path(scratch)) as earlier:
        pictures = Path(scratch, "pictures")
        draw(pictures)
        old, new = Version(earlier, Path(scratch, "old"), pictures), Version(ROOT, Path(scratch, "new"), pictures)
        new.folder.mkdir()
        old.prepare()
        old.train(old.run_folder, old.data)
        old.evaluate(
            str(old.run_folder), old.data, old.folder / "results.json", f"--predictions={old.folder / 'predictions'}"
        )
        failed = 0
        for agrees, text in compare(old, new):
            print(f"{'ok    ' if agrees else 'FAILED'} {text}", flush=True)
            failed += not agrees
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
