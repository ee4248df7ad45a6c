"""The demo's road, command by command, on a handful of images, with a `tensorflow` that must not be touched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from luab_jax.results.read import read_results
from tests.xla_flags import QUICK_TO_COMPILE

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where importing TensorFlow is an error that nobody catches, unlike its absence."""
    trap = tmp_path_factory.mktemp("trap")
    (trap / "tensorflow").mkdir()
    (trap / "tensorflow" / "__init__.py").write_text("raise RuntimeError('tensorflow was imported')\n")
    return os.environ | {
        "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{trap}",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": QUICK_TO_COMPILE,  # and one device, as on a laptop
        "JAX_COMPILATION_CACHE_DIR": os.environ["LUAB_JAX_TEST_CACHE"],
    }


def test_draw_train_evaluate_and_report(tmp_path: Path, environment: dict[str, str]) -> None:
    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", *arguments]
        result = subprocess.run(command, cwd=REPOSITORY, env=environment, text=True, capture_output=True, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout

    data = tmp_path / "data"
    sizes = ("--num_train=32", "--num_val=8", "--side=48")
    printed = run("data_prep", "demo", f"--out={data}", *sizes, "--seed=0", "--correlation=0.7")
    assert "images                     32" in printed
    assert "images                     1,000" not in printed  # suites are no larger than the validation set
    assert "annotator" in run("data_prep", "inspect", str(data / "prepared"))
    run("data_prep", "verify", str(data / "prepared"))
    results = []
    for target, wanted in (("none", "imagenet"), ("click_last", "all")):
        workdir = tmp_path / target
        run(
            "luab_jax.main",
            "--config=configs/demo.py",
            f"--workdir={workdir}",
            f"--config.data.root={data / 'prepared'}",
            f"--config.byproduct.target={target}",
            "--config.batch_size=16",
            "--config.total_steps=2",
            f"--config.compilation_cache={os.environ['LUAB_JAX_TEST_CACHE']}",
        )
        results.append(workdir / "results.json")
        asked = [f"--checkpoint={workdir}", f"--suites={wanted}", f"--data={data}", f"--out={results[-1]}"]
        run("luab_jax.evaluate", *asked, "--batch_size=64")
    suites = read_results(results[1]).suites
    assert {"imagenet", "cocc", "byproduct", "demo_backgrounds", "demo_size", "demo_corruptions"} <= suites.keys()
    assert suites["imagenet"].n == 8
    assert suites["demo_backgrounds"]["gap"] == pytest.approx(
        suites["demo_backgrounds"]["mixed_same"] - suites["demo_backgrounds"]["mixed_rand"]
    )
    table = run("luab_jax.report", *map(str, results))
    assert "resnet18 baseline" in table and "LUAB click_last λ=20" in table and "difference" in table
    run("luab_jax.report", *map(str, results), f"--out={tmp_path / 'report.html'}")
    page = (tmp_path / "report.html").read_text()
    assert "Example images" in page and "8 of the 8 images" in page
