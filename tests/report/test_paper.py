"""Rows of the paper stand beside runs of that architecture, input size and whole sets only; columns in its order."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from data_prep.datasets import suites as prepared
from luab_jax.data.class_lists import imagenet
from luab_jax.evaluation.suites import SUITES
from luab_jax.report.latex import escaped, latex
from luab_jax.report.layout import headings
from luab_jax.report.paper import COLUMNS, counterpart, paper_results, paper_rows
from luab_jax.report.runs import Run, compare
from luab_jax.results.architecture import changes
from luab_jax.results.foreign import Foreign
from luab_jax.results.format import Data, Suite
from luab_jax.results.score import COUNT, Direction, Role
from tests.report import made
from tests.report.test_table import RUNS, with_fewer_seeds


def whole(model: str, target: str, **changed: object) -> Run:
    """On ImageNet's validation set, and on a part of ImageNet-A."""
    run = made.run(target, model=model, class_list_hash=imagenet().hash, **changed)
    run.file.suites = {
        "imagenet": Suite(n=50_000, scores={"top1": made.share(0.77, 0.004)}),
        "imagenet_a": Suite(n=50, scores={"top1": made.share(0.05, 0.02)}, data=Data(partial=True)),
    }
    run.file.preprocessing = {"image_size": 224}
    return run


@pytest.mark.parametrize(
    ("model", "target", "row"),
    [
        ("resnet50", "none", ("ImageNet-AB", "R50", "baseline")),
        ("vit_s", "click_last", ("ImageNet-AB", "ViT-S", "LUAB")),
        ("resnet50.tv_in1k", "timm", ("ImageNet-AB", "R50", "baseline")),
        ("deit_small_patch16_224", "timm", ("ImageNet-AB", "ViT-S", "baseline")),
        *(("resnet50", kind.value, None) for kind in Foreign if kind is not Foreign.TIMM),
        ("vit_s", "random_in_image", None),  # no such row on ImageNet
        ("resnet34", "none", None),
    ],
)
def test_a_run_finds_its_row_of_the_paper(model: str, target: str, row: tuple[str, str, str] | None) -> None:
    assert counterpart(whole(model, target).checkpoint) == row


def test_only_columns_of_whole_sets_are_compared() -> None:
    rows, _ = paper_rows(compare([whole("resnet50", "none")]).experiments)
    assert rows[0].values == {"IN-1K": 77.4}


def test_a_moving_average_has_no_row_since_the_papers_are_of_raw_weights() -> None:
    average, raw = whole("vit_s", "none", weights="ema"), whole("vit_s", "none")
    rows, reasons = paper_rows(compare([average, raw]).experiments)
    assert list(rows) == [1]
    assert "it is a moving average" in reasons[0]


@pytest.mark.parametrize("field", ["partial", "stored_smaller", "generated", "restricted"])
def test_a_set_that_is_not_the_published_one_has_no_number_of_the_paper(field: str) -> None:
    run = whole("resnet50", "none")
    setattr(run.file.suites["imagenet"].data, field, True if field == "partial" else "x")
    rows, (reason,) = paper_rows(compare([run]).experiments)
    assert not rows and "none of its suites is a whole published set" in reason


def test_fewer_images_than_published_are_seen_by_their_number() -> None:
    run = whole("resnet50", "none")
    run.file.suites["imagenet"].n = 50
    assert not paper_rows(compare([run]).experiments)[0]


def test_another_network_or_input_size_has_no_row_and_the_reason_is_given() -> None:
    narrow, small = whole("resnet18", "click_last"), whole("resnet50", "none")
    narrow.file.architecture = changes({"model.width": 16, "model.stem": "imagenet", "model.stage_sizes": None})
    small.file.preprocessing = {"image_size": 160}
    rows, reasons = paper_rows(compare([narrow, small]).experiments)
    assert not rows
    assert any("width=16" in reason for reason in reasons) and any("160 pixels" in reason for reason in reasons)


def test_a_coco_run_of_fifty_images_has_no_row() -> None:
    run = made.run("none", model="resnet18", dataset="coco_ab")
    run.file.suites = {"coco": Suite(n=50, scores={"map": made.share(0.1)})}
    assert not paper_rows(compare([run]).experiments)[0]
    run.file.suites["coco"].n = 40_504
    assert paper_rows(compare([run]).experiments)[0][0].values == {"mAP": 67.9}


MATCHED = {"byproduct.target": "random", "byproduct.random_point": "per_image"}


@pytest.mark.parametrize(
    ("target", "experiment", "method"),
    [
        ("random_in_image", {"byproduct.target": "random_in_image"}, "Rand"),
        ("random", {"byproduct.target": "random"}, "Rand"),  # of results from before it was matched
        ("random", MATCHED, None),
    ],
)
def test_the_papers_rand_stands_beside_points_of_the_whole_image_only(
    target: str, experiment: dict[str, str], method: str | None
) -> None:
    run = made.run(target, model="resnet18", dataset="coco_ab", experiment=experiment)
    assert counterpart(run.checkpoint) == (method and ("COCO-AB", "R18", method))


def test_published_counts_are_those_of_the_preparation() -> None:
    of_data_prep = (
        {
            "imagenet": 50_000,
            "coco": prepared.COCO_PUBLISHED["val"],
            **{suite.name: suite.published for suite in prepared.SUITES.values()},
        }
        if isinstance(prepared.SUITES, dict)
        else {suite.name: suite.published for suite in prepared.SUITES}
    )
    counts = {column.suite: column.n for column in COLUMNS}
    assert counts["imagenet_a"] == of_data_prep["imagenet_a"]["test"]
    assert counts["imagenet_sketch"] == of_data_prep["imagenet_sketch"]["test"]
    assert counts["imagenet_r"] == of_data_prep["imagenet_r"]["test"]
    assert counts["objectnet"] == of_data_prep["objectnet"]["test"]
    assert counts["imagenet_c"] == of_data_prep["imagenet_c"]["test"]
    assert counts["imagenet_o"] == of_data_prep["imagenet_o"]["test"] + 50 * 200
    assert counts["si_size"] == of_data_prep["si_score"]["size"]
    assert counts["coco"] == prepared.COCO_PUBLISHED["val"]


def test_what_could_not_be_read_of_the_paper_is_absent() -> None:
    assert len(paper_results()) == 7 * 2 + 6 * 3
    assert sum(len(values) for values in paper_results().values()) == 264 - 18
    assert paper_results()["ImageNet-AB", "R18", "baseline"] == {"BGC-acc": 22.1}


def test_the_papers_columns_are_those_of_its_tables() -> None:
    names = {column.name for column in COLUMNS}
    assert names == {name for values in paper_results().values() for name in values}
    scored = {suite.name: suite for suite in SUITES}
    assert all(column.suite in scored for column in COLUMNS)
    assert {c.suite for c in COLUMNS if c.score != scored[c.suite].headline} == {"imagenet_o", "coco_context"}


def test_columns_stand_in_the_papers_order_and_the_others_after_them() -> None:
    run = whole("resnet50", "none")
    run.file.suites = {
        "mine": made.grouped({}),
        "imagenet_r": run.file.suites["imagenet"],
        "imagenet": run.file.suites["imagenet"],
        "demo": Suite(n=4, scores={"top1": made.share(0.5)}, title="demo"),
    }
    run.file.suites["mine"].group = ""
    shown = headings(compare([run]).experiments)
    assert [(h.group, h.label, h.paper) for h in shown] == [
        ("In distribution", "IN-1K", "IN-1K"),
        ("Shifted", "IN-R", "IN-R"),
        ("Others", "mine", None),
        ("Others", "demo", None),
    ]
    assert shown[0].direction is Direction.HIGHER and shown[0].unit == "fraction"


def test_images_that_are_not_the_published_are_not_the_papers_column() -> None:
    run = whole("resnet50", "none")
    run.file.suites = {"imagenet_c": Suite(n=5, scores={"top1": made.share(0.4)}, data=Data(generated="from val"))}
    (heading,) = headings(compare([run]).experiments)
    assert (heading.label, heading.paper) == ("IN-C [generated]", None)
    run.file.suites = {"imagenet": Suite(n=5, scores={"top1": made.share(0.4)}, title="demo")}
    (heading,) = headings(compare([run]).experiments)
    assert (heading.label, heading.paper, heading.group) == ("demo", None, "In distribution")


def test_a_suite_without_a_headline_shows_its_first_score() -> None:
    run = made.run("none")
    count = made.Entry(value=3, unit=COUNT, role=Role.COUNT)
    run.file.suites = {"mine": Suite(n=3, scores={"a": made.share(0.5, role=Role.SCORE), "n_x": count})}
    assert [heading.score for heading in headings(compare([run]).experiments)] == ["a"]


def rows(text: str) -> list[list[str]]:
    return [line.removesuffix(r" \\").split(" & ") for line in text.splitlines() if line.endswith(r"\\")]


def test_every_row_of_latex_has_a_cell_for_every_column() -> None:
    text = latex(compare([made.run("none"), made.run("box", 0, 0.8), made.run("box", 1, 0.82)]))
    (form,) = re.findall(r"\\begin\{tabular\}\{(l+r+)\}", text)
    groups, *others = rows(text)
    assert {len(row) for row in others} == {len(form)}
    assert 1 + sum(int(span) for span in re.findall(r"multicolumn\{(\d+)\}", " ".join(groups))) == len(form)


def test_latex_has_intervals_and_bold_only_where_they_support_it() -> None:
    low, high = rows(latex(compare([made.run("none", 0, 0.5), made.run("box", 0, 0.8)])))[-2:]
    assert low[1] == r"50.0 {\scriptsize {[}40.0, 60.0{]}}" and high[1].startswith(r"\textbf{80.0}")
    close = latex(compare([made.run("none", 0, 0.294), made.run("box", 0, 0.314)]))
    assert r"\textbf" not in close


def test_latex_marks_what_is_partial_and_what_is_not_as_published() -> None:
    run = whole("resnet50", "none")
    run.file.suites["imagenet"].data.generated = "x"
    text = latex(compare([run]))
    assert r"5.0$^{\mathrm{p}}$" in text and r"77.0$^{\mathrm{c}}$" in text
    assert "% p: images of the published set are missing." in text and "% c: the images are not as published" in text


def test_latex_marks_what_is_partial_for_one_of_the_seeds() -> None:
    runs = [made.run("none", 0), made.run("none", 1)]
    runs[1].file.suites["imagenet"].data.partial = True
    for order in (runs, runs[::-1]):
        assert r"62.5$^{\mathrm{p}}$" in latex(compare(order))


def test_latex_says_of_how_many_seeds_a_score_is() -> None:
    text = latex(compare(with_fewer_seeds()))
    assert r"62.5 {\scriptsize $\pm$ 3.5} {\scriptsize (2)}" in text and r"50.0 {\scriptsize (1)}" in text
    assert "number of seeds" in text and "number of seeds" not in latex(compare(RUNS))


def test_latex_marks_what_is_not_on_the_data_of_the_first_row() -> None:
    moved = made.run("box", 0, 0.9)
    moved.file.suites["imagenet"].data.identity = {"val": "other"}
    text = latex(compare([made.run("none", 0, 0.5), moved]))
    assert r"90.0$^{\mathrm{d}}$" in text and r"50.0$^" not in text and r"\textbf" not in text
    assert "% d: some runs are on other data than the first row's, or have another font or kind of map." in text
    moved.file.suites["imagenet"].data.partial = True
    assert r"90.0$^{\mathrm{pd}}$" in latex(compare([made.run("none", 0, 0.5), moved]))


def test_latex_is_escaped_and_has_every_run() -> None:
    text = latex(compare([made.run("none", model="a_b%$&#{}~^\\"), made.run("click_last")]))
    assert r"a\_b\%\$\&\#\{\}" in text and text.count(r"\\") >= 3
    assert r"\toprule" in text and r"\bottomrule" in text


PRINTABLE = "".join(map(chr, range(32, 127)))
HOSTILE = (
    PRINTABLE,
    "[2pt] first in its row",
    "* likewise",
    "é ß ő λ ± — “x” ½ 中 🙂 \u200b \ud800",
    "a\nb\x1b\u202e%",
)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here (Debian: texlive-latex-recommended)")
@pytest.mark.parametrize("name", HOSTILE)
def test_latex_compiles_it(name: str, tmp_path: Path) -> None:
    """The terminal tells of boxes that are too wide, which is no error."""
    runs = [made.run("none", model=name), made.run("box", 0, 0.8, model=name), made.run("box", 1, 0.82, model=name)]
    text = latex(compare([*runs, whole("resnet50", "click_last")]), with_paper=True)
    assert "paper:" in text
    packages, _, _ = text.partition(". ")
    body = [r"\documentclass{article}", packages.removeprefix("% "), r"\begin{document}", text, r"\end{document}"]
    (tmp_path / "table.tex").write_bytes("\n".join(body).encode(errors="replace"))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]


def test_a_row_does_not_begin_with_an_argument_of_the_one_before() -> None:
    for name in ("[2pt] x", "*x"):
        found = rows(latex(compare([made.run("none", model=name)])))[-1:]
        assert [row[0][:3] for row in found] == [f"{{{name[0]}}}"]
    assert escaped("é|½中") == r"e\textbar{}1?2?"


def test_a_name_cannot_end_the_table() -> None:
    hostile = "\\input{/etc/passwd}\n\\end{tabular} % & \\\\"
    text = latex(compare([made.run("none", model=hostile), made.run("box", model="b", workdir=hostile)]))
    assert r"\input" not in text and text.count(r"\end{tabular}") == 1
