"""`python -m luab_jax.report`: every format from files alone, without jax, cv2 or a bucket's package."""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from luab_jax.errors import ExitCode, UserError
from luab_jax.report import __main__ as command
from luab_jax.report.render import Format
from luab_jax.report.write import write_report
from luab_jax.results.answers import Answered, Answers, Kind, Sample, answers_path, write_answers
from luab_jax.results.format import to_json
from tests.report import made
from tests.results.test_read import DAMAGE, FIELD_CASES, OF_VERSION_1, version_1

REPOSITORY = Path(__file__).parents[2]
ENDINGS = ("html", "md", "tex", "csv", "txt")
HEAVY = ("jax", "jaxlib", "cv2", "flax", "optax", "orbax", "grain", "tensorflow", "tensorflow_datasets")


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Calls the command in this process; gives its exit code and what it printed."""

    def call(*paths: Path, **options: object) -> tuple[ExitCode, str, str]:
        """What the command tells of a fault is raised, for `pytest.raises`."""
        texts = {name: getattr(value, "value", value) for name, value in options.items()}
        flags = [f"--{name}" if text is True else f"--{name}={text}" for name, text in texts.items()]
        code = command.main([*map(str, paths), *flags])
        found = capsys.readouterr()
        if code is ExitCode.FAILED:
            raise UserError(found.err.removeprefix("error: ").rstrip("\n"))
        return code, found.out, found.err

    return call


def seeds(tmp_path: Path) -> list[Path]:
    """Three seeds with and without a target, on the same images."""
    paths = []
    rng = np.random.default_rng(0)
    for target, help in (("click_last", 0.06), ("none", 0.0)):
        for seed in range(3):
            right = np.random.default_rng(seed).random(400) < 0.6
            right |= rng.random(400) < help
            run = made.run(target, seed, float(right.mean()))
            folder = tmp_path / f"{target}-{seed}"
            folder.mkdir()
            paths.append(folder / "results.json")
            paths[-1].write_text(to_json(run.file))
            sample = Answered(Sample(Kind.RIGHT, right, [f"{i}" for i in range(400)]), {"val": "f"})
            write_answers(answers_path(paths[-1]), Answers(run.file.checkpoint, {"imagenet": {"top1": sample}}))
    return paths


@pytest.mark.parametrize("ending", ENDINGS)
def test_three_seeds_in_every_format(tmp_path: Path, report, ending: str) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / f"report.{ending}"
    paper = {"paper": True} if ending in ("html", "tex") else {}
    code, _, err = report(*seeds(tmp_path), out=str(out), **paper)
    assert code is ExitCode.DONE and f"report in {out}" in err
    text = out.read_text(encoding="utf-8")
    assert "resnet18 baseline" in text and "click" in text
    if ending == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        (row,) = (r for r in rows if r["suite"] == "imagenet" and r["score"] == "top1" and r["reference"])
        assert row["difference_method"] == "paired t over seeds" and float(row["difference"]) > 0
        assert float(row["difference_low"]) < float(row["difference"]) < float(row["difference_high"])


@pytest.mark.parametrize("ending", ENDINGS)
def test_seeds_on_other_data_are_told(tmp_path: Path, report, ending: str) -> None:  # type: ignore[no-untyped-def]
    paths, out = seeds(tmp_path), tmp_path / f"report.{ending}"
    moved = made.run("none", 1)
    moved.file.suites["imagenet"].data.identity = {"val": "g"}
    (tmp_path / "none-1" / "results.json").write_text(to_json(moved.file))
    _, _, err = report(*paths, out=str(out))
    line = "resnet18 baseline: its seeds are not all on the same data, or have another font or kind of map: demo."
    assert line in (err if ending == "csv" else out.read_text(encoding="utf-8").replace("\\", ""))


def test_single_runs_are_paired_over_images(tmp_path: Path, report) -> None:  # type: ignore[no-untyped-def]
    paths = seeds(tmp_path)
    _, out, _ = report(paths[0], paths[3], format=Format.CSV)
    rows = list(csv.DictReader(io.StringIO(out)))
    (row,) = (r for r in rows if r["score"] == "top1" and r["suite"] == "imagenet" and r["reference"])
    assert row["difference_method"] == "paired over images, Tango score (McNemar)"


def test_a_folder_stands_for_the_results_in_it(tmp_path: Path, report) -> None:  # type: ignore[no-untyped-def]
    path = seeds(tmp_path)[3]
    assert report(path.parent)[1] == report(path)[1]
    with pytest.raises(UserError, match=r"results\.json: cannot be read \(No such file"):
        report(tmp_path / "nowhere" / "results.json")


def test_a_run_without_results_is_skipped_and_told_how_to_get_them(tmp_path: Path, report) -> None:  # type: ignore[no-untyped-def]
    paths = seeds(tmp_path)
    (tmp_path / "base").mkdir()
    line = f"{tmp_path}/base: no results yet; python -m luab_jax.evaluate --checkpoint={tmp_path}/base "
    code, out, err = report(tmp_path / "base", *paths)
    assert code is ExitCode.DONE and out == report(*paths)[1]
    assert err.startswith(line) and len(err.splitlines()) == 1
    with pytest.raises(UserError, match=f"^{line}"):
        report(tmp_path / "base")


def test_a_folder_of_runs_is_told_apart_from_a_run(tmp_path: Path, report) -> None:  # type: ignore[no-untyped-def]
    seeds(tmp_path)
    with pytest.raises(UserError, match=rf"did you mean {tmp_path}/\*/results\.json\?$"):
        report(tmp_path)


def test_a_run_that_is_given_twice_is_refused_under_any_of_its_names(tmp_path: Path, report) -> None:  # type: ignore[no-untyped-def]
    path, other, *_ = seeds(tmp_path)
    (tmp_path / "link").symlink_to(path.parent)
    for again in (path, path.parent, tmp_path / "link"):
        with pytest.raises(UserError, match=f"^{again} is given twice$"):
            report(path, other, again)


def test_an_ending_of_no_format_is_wrong_usage(tmp_path: Path, report) -> None:  # type: ignore[no-untyped-def]
    path, out = seeds(tmp_path)[0], tmp_path / "r.pdf"
    code, _, err = report(path, out=str(out))
    assert code is ExitCode.USAGE and not out.exists()
    assert "no report ends in .pdf; expected one of .html .md .tex .csv .txt" in err
    assert report(path, out=str(out), format=Format.MARKDOWN)[0] is ExitCode.DONE and out.exists()
    with pytest.raises(UserError, match=r"no report ends in \.pdf"):
        write_report(path, tmp_path / "other.pdf")


def test_the_page_states_its_command(tmp_path: Path, report) -> None:  # type: ignore[no-untyped-def]
    path, out = seeds(tmp_path)[0], tmp_path / "r.html"
    report(path, out=str(out))
    assert f"<code>python -m luab_jax.report {path} --out={out}</code>" in out.read_text()
    assert "<code>" not in write_report(path, format="html"), "no command made it"


def test_a_report_does_not_replace_the_results_it_is_of(tmp_path: Path, report) -> None:  # type: ignore[no-untyped-def]
    path, other, *_ = seeds(tmp_path)
    before = path.read_bytes()
    (tmp_path / "link.html").symlink_to(path)
    for given in (path, path.parent):
        for out in (path, path.parent / ".." / path.parent.name / path.name, tmp_path / "link.html"):
            with pytest.raises(UserError, match=f"^--out={out}: is one of the results that the report is of; "):
                report(given, other, out=str(out), format=Format.HTML)
    with pytest.raises(UserError, match=r"^out='.*': is one of the results"):
        write_report([path, other], path, format="text")
    assert path.read_bytes() == before


def test_no_curve_is_smoothed_over_no_value(tmp_path: Path, report) -> None:  # type: ignore[no-untyped-def]
    path = seeds(tmp_path)[0]
    assert report(path, smoothing=0, format=Format.HTML)[0] is ExitCode.USAGE
    with pytest.raises(UserError, match=r"^smoothing=0: expected 1 or more$"):
        write_report(path, format="html", smoothing=0)


def test_another_reference_is_chosen(tmp_path: Path, report) -> None:  # type: ignore[no-untyped-def]
    paths = seeds(tmp_path)
    _, out, _ = report(*paths, baseline="click_last")
    assert out.splitlines()[0].split()[:3] == ["score", "resnet18", "LUAB"]
    with pytest.raises(UserError, match="--baseline=box: no such experiment"):
        report(*paths, baseline="box")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", [*DAMAGE, *OF_VERSION_1])
def test_what_is_no_results_file_is_one_line_in_every_format(
    tmp_path: Path,
    report,  # type: ignore[no-untyped-def]
    ending: str,
    name: str,
) -> None:
    content = version_1()
    (DAMAGE | OF_VERSION_1)[name](content)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError) as error:
        report(path, out=str(tmp_path / f"x.{ending}"))
    assert len(str(error.value).splitlines()) == 1 and not (tmp_path / f"x.{ending}").exists()


def test_a_report_that_cannot_be_written_leaves_the_one_before(tmp_path: Path, report) -> None:  # type: ignore[no-untyped-def]
    path = seeds(tmp_path)[0]
    out = tmp_path / "nowhere" / "x.html"
    with pytest.raises(UserError, match="cannot be written"):
        report(path, out=str(out))


def run(*arguments: str, blocked: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """The command in a process in which some packages are not installed."""
    program = (
        "import runpy, sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {blocked!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
        f"sys.argv = ['report', *{list(arguments)!r}]\n"
        "runpy.run_module('luab_jax.report', run_name='__main__')\n"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)


def test_a_page_needs_neither_jax_nor_cv2(tmp_path: Path) -> None:
    out = tmp_path / "x.html"
    done = run(*map(str, seeds(tmp_path)), f"--out={out}", blocked=HEAVY)
    assert done.returncode == 0, done.stderr
    assert "Headline scores" in out.read_text()


@pytest.mark.skipif(not FIELD_CASES.exists(), reason="no field cases (LUAB_JAX_TEST_DATA)")
def test_a_workdir_in_a_bucket_needs_no_package_for_it(tmp_path: Path) -> None:
    out = tmp_path / "x.html"
    done = run(str(FIELD_CASES / "workdir_gs.json"), f"--out={out}", blocked=("gcsfs", *HEAVY))
    assert done.returncode == 0, done.stderr
    assert out.read_text().count("pip install gcsfs") == 1


@pytest.mark.skipif(not FIELD_CASES.exists(), reason="no field cases (LUAB_JAX_TEST_DATA)")
def test_a_hostile_file_ends_the_process_with_one_line_and_code_1(tmp_path: Path) -> None:
    done = run(str(FIELD_CASES / "deep.json"), f"--out={tmp_path / 'x.md'}", blocked=HEAVY)
    assert done.returncode == 1 and not done.stdout
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: ")


def _imports_of(path: Path) -> set[str]:
    """The modules that a module imports when it is imported itself."""
    found: set[str] = set()
    waiting: list[ast.stmt] = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif isinstance(node, ast.If | ast.Try | ast.With):
            waiting += [inner for inner in ast.walk(node) if isinstance(inner, ast.stmt) and inner is not node]
    return found


def test_the_room_is_light_by_what_it_imports() -> None:
    """Followed from every module of the two rooms; the test above only sees what one run imports."""
    root = REPOSITORY / "luab_jax"
    waiting = [*(root / "report").rglob("*.py"), *(root / "results").rglob("*.py")]
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in _imports_of(path):
            assert name.split(".")[0] not in HEAVY, f"{path.relative_to(REPOSITORY)} imports {name}"
            if name.split(".")[0] == "luab_jax":
                place = REPOSITORY.joinpath(*name.split("."))
                waiting += [p for p in (place.with_suffix(".py"), place / "__init__.py") if p.exists()]
    assert (root / "io" / "storage.py") in seen
