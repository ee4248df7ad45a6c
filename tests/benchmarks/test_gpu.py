"""`bash benchmarks/gpu.sh`: what it would do on a GPU, at toy size; and what it makes of what was measured."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.gpu import profile, summary
from benchmarks.gpu.models import MODELS, Variant, config_of, variants
from benchmarks.gpu.peer import batches_to_try
from benchmarks.gpu.record import Results, read
from benchmarks.gpu.training import forward_macs
from luab_jax.models.config import Attention
from tests.xla_flags import QUICK_TO_COMPILE

REPOSITORY = Path(__file__).resolve().parents[2]


def run(out: Path, *arguments: str, photos: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(REPOSITORY / "benchmarks" / "gpu.sh"), f"--out={out}", f"--photos={photos or out}"]
    variables = os.environ | {
        "PYTHON": sys.executable,
        "LUAB_GPU_CACHE": str(out / "cache"),
        "XLA_FLAGS": QUICK_TO_COMPILE,
    }
    variables |= environment
    return subprocess.run([*command, *arguments], env=variables, capture_output=True, text=True, check=False)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for index in range(6):
        path = folder / f"class{index % 2}" / f"{index}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8)).save(buffer, "JPEG")
        path.write_bytes(buffer.getvalue())
    return folder


CLICKED = """<annotation><metadata><imageID>{}/{}</imageID><imageWidth>64</imageWidth><imageHeight>64</imageHeight>
<selected>True</selected><selectedCount>1</selectedCount><mouseTracking><time>1</time><x>0.2</x><y>0.2</y></mouseTracking>
<selectedRecord><time>5</time><x>0.5</x><y>0.5</y></selectedRecord></metadata></annotation>"""


def draw_study_photos(folder: Path) -> Path:
    """Three classes, each of its own grey, in the layout of imagenet_ab_40."""
    rng = np.random.default_rng(0)
    files: dict[str, dict[str, bytes]] = {"train.tar": {}, "val.tar": {}, "train_xml.tar.gz": {}}
    boxes: dict[str, list[str]] = {}
    for number in range(3):
        wnid = f"n0000000{number}"
        for split, count in (("train", 25), ("val", 4)):
            for index in range(count):
                name, buffer = f"{wnid}_{index}" if split == "train" else f"val_{10 * number + index}", io.BytesIO()
                pixels = rng.integers(0, 64, (64, 64, 3), np.uint8)
                pixels[20:44, 20:44] += np.uint8(60 * number)
                Image.fromarray(pixels).save(buffer, "JPEG")
                inside = f"train/{wnid}/{name}.JPEG" if split == "train" else f"val/{wnid}/{name}.JPEG"
                files[f"{split}.tar"][inside] = buffer.getvalue()
                line = "\t".join([f"{name}.JPEG", *([wnid] if split == "val" else []), "20", "20", "43", "43"])
                boxes.setdefault("val" if split == "val" else f"train/{wnid}", []).append(line)
                if split == "train":
                    files["train_xml.tar.gz"][f"train_xml/{wnid}/{name}.xml"] = CLICKED.format(wnid, name).encode()
    for name, lines in boxes.items():
        path = folder / "boxes" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    for archive, members in files.items():
        with tarfile.open(folder / archive, "w:gz" if archive.endswith("gz") else "w") as tar:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    (folder / "classes.txt").write_text("".join(f"n0000000{number}\tgrey {number}\n" for number in range(3)))
    return folder


def test_a_model_has_its_steps_its_profile_and_a_table(tmp_path: Path) -> None:
    done = run(tmp_path, "--rehearse", "--only=environment,resnet50,augmentation,small")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = read(tmp_path)
    assert not [line for line in lines if "error" in line]
    steps = [line for line in lines if line.get("alone") is False]
    assert {line["variant"] for line in steps} == {variant.name for variant in variants("resnet50")}
    assert [line["variant"] for line in steps][:2] == ["LUAB", "baseline"]
    for line in steps:
        assert line["finite"] and line["images_per_s"] == pytest.approx(1e3 * line["batch"] / line["ms"])
        assert line["device"] and line["versions"]["jax"]
    errors = [line["d_key"] for line in lines if line["step"] == "environment" and "d_key" in line]
    assert len(errors) == 1 and errors[0] < 0.02, "bf16 against float32"
    kernels = next(line["kernels"] for line in lines if "kernels" in line)
    times = [kernel["milliseconds"] for kernel in kernels]
    assert times == sorted(times, reverse=True) and times[0] > 0
    parts = {line["what"]: line["ms"] for line in lines if line["step"] == "augmentation"}
    assert {"RandAugment", "RandAugment, all images at once"} <= set(parts) and min(parts.values()) > 0
    table = (tmp_path / "summary.txt").read_text()
    assert "resnet50, LUAB, whole recipe" in table and "vit_ti, LUAB" in table and "bf16 product" in table
    assert "ENTRY" in subprocess.check_output(["gzip", "-dc", tmp_path / "program_vit_s.txt.gz"], text=True)


def test_what_reads_photos_is_measured_on_any_photos(tmp_path: Path, photos: Path) -> None:
    steps = "loader,evaluation,corruptions,nvjpeg"
    done = run(tmp_path, "--rehearse", f"--only={steps}", photos=photos)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = read(tmp_path)
    assert not [line for line in lines if "error" in line]
    assert {line["step"] for line in lines} == set(steps.split(","))
    parts = [line["what"] for line in lines if line["step"] == "nvjpeg"]
    assert parts[1:3] == ["difference from the CPU's pixels", "nvImageCodec, whole images"] and len(parts) >= 3
    rates = [line[key] for line in lines for key in ("images_per_s", "reading", "predict", "whole") if key in line]
    assert rates and min(rates) > 0


def test_a_slice_of_the_study_trains_scores_and_compares(tmp_path: Path) -> None:
    """On drawn photos that lie as the study's do; a rehearsal ends after the first run of the plan."""
    source = draw_study_photos(tmp_path / "photos")
    done = run(tmp_path, "--rehearse", "--only=study", f"--study_photos={source}", JAX_NUM_CPU_DEVICES="1")
    lines = {line["what"]: line for line in read(tmp_path)}
    assert {"resnet, a step and seed", "photos"} <= set(lines), done.stdout + done.stderr
    assert done.returncode == 0 and "no arm and its control are both finished yet" in done.stdout + done.stderr
    assert lines["resnet, a step and seed"]["ms_in_one"] > 0
    assert lines["resnet/lambda-0.3-seed0"]["epochs"] == 0.5
    runs = tmp_path / "study-rehearsal" / "runs"
    assert [path.name for path in runs.glob("*/*")] == ["lambda-0.3-seed0"]
    results = runs / "resnet" / "lambda-0.3-seed0" / "results.json"
    assert {"photos", "own_backgrounds", "own_corruptions", "own_occlusions"} <= set(
        json.loads(results.read_text())["suites"]
    )
    assert "resnet/lambda-0.3-seed0" in (tmp_path / "summary.txt").read_text()


def test_a_study_without_photos_says_what_it_wants(tmp_path: Path) -> None:
    done = run(tmp_path, "--rehearse", "--only=study", f"--study_photos={tmp_path / 'nowhere'}")
    assert done.returncode == 1 and "expected the layout of imagenet_ab_40" in (tmp_path / "summary.txt").read_text()


def test_a_step_that_hangs_is_ended_and_the_next_ones_run(tmp_path: Path) -> None:
    """A stand-in for Python hangs at the first step; the second one is left out, for want of time."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/bash\ncase "$2" in *environment) sleep 60 ;; *summary) {sys.executable} "$@" ;; esac\n')
    python.chmod(0o755)
    done = run(tmp_path, "--seconds=11", "--only=environment,vit_b", PYTHON=str(python))
    assert done.returncode == 1
    assert "-- environment: exit 124" in done.stdout and "-- vit_b: left out" in done.stdout
    assert "not finished: environment (exit 124)" in done.stdout


def test_wrong_usage_is_said(tmp_path: Path) -> None:
    assert run(tmp_path, "--fast").returncode == 2
    assert "--only=vit_x is no step" in run(tmp_path, "--only=vit_x").stderr
    done = run(tmp_path, photos=tmp_path / "nowhere")
    assert done.returncode == 1 and "is no folder" in done.stderr


def test_results_are_on_disk_at_once_and_a_failure_is_a_result(tmp_path: Path) -> None:
    results = Results(tmp_path, "training", device="cpu", versions={"jax": "1"})
    results.add("a", ms=1.5)
    assert read(tmp_path)[0]["ms"] == 1.5
    results.failed("b", ValueError("too large"))
    assert read(tmp_path)[1]["error"] == "ValueError: too large"
    assert "training: b: ValueError: too large" in summary.summary(read(tmp_path))


def test_forward_macs_are_the_published_ones() -> None:
    """DeiT and He et al.: 17.6 and 4.1 billion per image of 224 px."""
    assert forward_macs("vit_b", rehearse=False) == pytest.approx(17.6e9, rel=0.01)
    assert forward_macs("resnet50", rehearse=False) == pytest.approx(4.1e9, rel=0.01)


@pytest.mark.parametrize("model", MODELS)
def test_only_the_whole_recipe_augments_and_averages(model: str) -> None:
    plain, recipe = (config_of(model, Variant("x", recipe=recipe), 8, rehearse=False) for recipe in (False, True))
    assert recipe.augmentation.on_device and not plain.augmentation.on_device
    assert plain.optim.ema_decay == 0.0 and (recipe.optim.ema_decay > 0) == MODELS[model].is_vit
    assert plain.model == recipe.model and plain.model.attention is Attention.AUTO


def test_the_peer_takes_our_batch_unless_that_is_known_to_be_too_large(tmp_path: Path) -> None:
    assert batches_to_try("resnet50", tmp_path, rehearse=False) == [512, 256]
    results = Results(tmp_path, "training", device="cpu", versions={})
    for batch in (1024, 256):
        results.add("", model="vit_b", batch=batch)
    results.add("", model="resnet50", batch=1024)
    assert batches_to_try("vit_b", tmp_path, rehearse=False) == [256, 128]
    assert batches_to_try("resnet50", tmp_path, rehearse=False) == [512, 256]


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("loop_convert_fusion_11", "fusion"),
        ("input_convert_reduce_fusion", "reduction"),
        ("nvjet_sm90_tst_128x160_64x5_2x1_v_bz_TNT", "product"),
        ("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc", "convolution"),
        ("void nhwcAddPaddingKernel<__nv_bfloat16>", "convolution"),
        ("void cudnn::fusion::convert_dq_to_16bits<true>", "attention"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_bprop_wgmma_f16", "attention"),
    ],
)
def test_kernels_seen_on_an_h100_are_of_their_kind(kernel: str, kind: str) -> None:
    taken = [profile.Kernel(kernel, "command_buffer_181", "", 1.0, 2.0)]
    assert profile.by_kind(taken) == {kind: 2.0}


def fake_profile(*events: tuple[str, float, float, dict[str, Any]]) -> Any:
    """As `jax.profiler.ProfileData` has it for one stream of a GPU; a derived line repeats it."""
    made = [SimpleNamespace(name=n, start_ns=s, duration_ns=d, stats=stats.items()) for n, s, d, stats in events]
    lines = [SimpleNamespace(name="Stream #7(Compute)", events=made), SimpleNamespace(name="XLA Ops", events=made)]
    host = SimpleNamespace(name="/host:CPU", lines=lines)
    return SimpleNamespace(planes=[host, SimpleNamespace(name="/device:GPU:0", lines=lines)])


def test_kernels_of_a_gpu_are_added_per_step_and_named_by_their_source() -> None:
    program = '%dot.1 = bf16[2] fusion(%a), metadata={op_name="jit(step)/mlp/dot" source_line=3}'
    data = fake_profile(
        ("sm90_gemm", 0, 4e6, {"hlo_op": "dot.1"}),
        ("sm90_gemm", 6e6, 4e6, {"hlo_op": "dot.1"}),
        ("loop_add_fusion", 8e6, 1e6, {}),
    )
    taken = profile.summarise(data, 2, program)
    gemm, add = taken.kernels
    assert (gemm.milliseconds, gemm.count, gemm.source) == (4.0, 1.0, "jit(step)/mlp/dot")
    assert (add.milliseconds, add.count, add.source) == (0.5, 0.5, "")
    assert (taken.busy_ms, taken.span_ms) == (4.0, 5.0), "the fusion runs beside the second product"
    assert profile.by_kind(taken.kernels) == {"product": 4.0, "fusion": 0.5}


def test_the_table_takes_the_last_measurement_and_compares_at_equal_batches() -> None:
    common = {"step": "training", "model": "vit_b", "finite": True, "compile_s": 1.0, "images_per_s": 1.0}
    lines = [
        common | {"what": "", "variant": "LUAB", "batch": 4, "ms": 90.0},
        common | {"what": "", "variant": "LUAB", "batch": 4, "ms": 80.0, "ratio_to_luab": 1.0},
        common | {"what": "", "step": "peer", "variant": "timm", "batch": 8, "ms": 80.0},
    ]
    rows = json.loads(json.dumps(lines))  # as they come from the file
    _, luab, timm = summary.training(rows).splitlines()
    assert "80.0" in luab and luab.endswith("1.000") and timm.endswith("0.500")
