"""Differences and their intervals, against scipy and the interval of two shares; which score is best."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from luab_jax.data.class_lists import imagenet
from luab_jax.evaluation.comparison import Score, best, difference, other_data, score_of
from luab_jax.evaluation.latex import escaped, latex
from luab_jax.evaluation.layout import direction, headings
from luab_jax.evaluation.page.write import page
from luab_jax.evaluation.paper import counterpart, paper_results
from luab_jax.evaluation.report import columns
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.suites import SUITES
from tests.evaluation.test_page import result


def share(right: np.ndarray) -> Score:
    low, high = intervals.wilson(right)
    return Score("top1", [float(right.mean())], (low, high))


@pytest.mark.parametrize(("a", "b"), [(3, 7), (0, 10), (10, 10), (5, 4)])
def test_of_two_single_runs_the_interval_is_newcombes(a: int, b: int) -> None:
    first, other = (np.arange(10) < count for count in (a, b))
    found = difference(share(first), share(other))
    assert found.value == pytest.approx((b - a) / 10)
    assert found.interval == pytest.approx(tuple(intervals.difference(other, first)))


def test_over_seeds_the_interval_is_welchs() -> None:
    first, other = [0.70, 0.72, 0.71], [0.75, 0.73]
    found = difference(Score("top1", first, None), Score("top1", other, None))
    expected = stats.ttest_ind(other, first, equal_var=False).confidence_interval(0.95)
    assert found.interval == pytest.approx((expected.low, expected.high))


def test_without_intervals_or_a_second_seed_nothing_is_claimed() -> None:
    alone = Score("top1", [0.7], None)
    assert difference(alone, Score("top1", [0.7, 0.8], None)).interval is None
    assert difference(Score("top1", [0.7, 0.7], None), Score("top1", [0.8, 0.8], None)).interval is None
    assert not difference(alone, alone).is_certain
    assert math.isnan(difference(alone, Score("top1", [], None)).value)


def test_colour_is_for_differences_whose_interval_is_without_zero() -> None:
    assert 'class="change better"' not in page([result("none", top1=0.60), result("box", top1=0.65)])
    assert 'class="change better">+30.0' in page([result("none", top1=0.5), result("box", top1=0.8)])
    assert 'class="change worse">-30.0' in page([result("none", top1=0.8), result("box", top1=0.5)])


@pytest.mark.parametrize(
    ("name", "values", "winner"),
    [
        ("top1", [0.5, 0.6, 0.4], 1),
        ("gap", [0.5, 0.6, 0.4], 2),
        ("median_distance", [0.12, 0.11], 1),
        ("top1", [0.5, 0.60001, 0.6], None),  # the same once printed
        ("top1", [0.5], None),
        ("top1", [math.nan, 0.5], None),
        ("only_bg", [0.5, 0.6], None),  # neither more nor less is better
        ("median_distance_of_centre", [0.2, 0.3], None),
    ],
)
def test_the_best_is_one_alone_and_known_to_be_better(name: str, values: list[float], winner: int | None) -> None:
    assert best([Score(name, [value], None) for value in values]) == winner


def test_an_interval_over_images_is_of_one_run() -> None:
    (column,) = columns([result("none", 0, 0.7), result("none", 1, 0.8)])
    assert score_of(column, "imagenet", "top1") == Score("top1", [0.7, 0.8], None)
    (column,) = columns([result("none", 0, 0.7)])
    assert score_of(column, "imagenet", "top1").interval == pytest.approx((0.6, 0.8))


def test_data_of_another_fingerprint_is_marked() -> None:
    moved = result("random")
    moved["suites"]["imagenet"]["data"] = {"val": "other"}
    first, same, other = columns([result("none"), result("box"), moved])
    assert other_data(first, other, "imagenet") and not other_data(first, same, "imagenet")
    assert not other_data(first, other, "demo_size")  # nothing is known of either
    assert "†" in page([result("none"), moved]) and "†" not in page([result("none"), result("box")])


def test_every_headline_is_better_up_or_down() -> None:
    assert all(direction(suite.headline) for suite in SUITES)


def test_the_papers_columns_are_those_of_its_tables() -> None:
    made = result("none", class_list_hash=imagenet().hash)
    made["suites"] = {suite.name: {suite.headline: 0.5, "v_avg": 0.5, "auroc": 0.5, "n": 1} for suite in SUITES}
    shown = [heading.paper for heading in headings(columns([made])) if heading.paper]
    assert sorted(shown) == sorted({name for values in paper_results().values() for name in values})


def test_images_that_are_not_the_published_are_not_the_papers_column() -> None:
    made = result("none", class_list_hash=imagenet().hash)
    made["suites"] = {"imagenet_c": {"top1": 0.4, "n": 5, "data_notes": {"test": {"generated": "from val"}}}}
    (heading,) = headings(columns([made]))
    assert (heading.label, heading.paper) == ("IN-C [generated]", None)


@pytest.mark.parametrize(
    ("model", "target", "row"),
    [
        ("resnet50", "none", ("ImageNet-AB", "R50", "baseline")),
        ("vit_s", "click_last", ("ImageNet-AB", "ViT-S", "LUAB")),
        ("resnet50.tv_in1k", "timm", ("ImageNet-AB", "R50", "baseline")),
        ("deit_small_patch16_224", "timm", ("ImageNet-AB", "ViT-S", "baseline")),
        ("vit_s", "random", None),  # no such row on ImageNet
        ("resnet34", "none", None),
    ],
)
def test_a_run_finds_its_row_of_the_paper(model: str, target: str, row: tuple[str, str, str] | None) -> None:
    assert counterpart(result(target, model=model, class_list_hash=imagenet().hash)["checkpoint"]) == row


def test_what_could_not_be_read_of_the_paper_is_absent() -> None:
    assert len(paper_results()) == 7 * 2 + 6 * 3
    assert sum(len(values) for values in paper_results().values()) == 264 - 18
    assert paper_results()["ImageNet-AB", "R18", "baseline"] == {"BGC-acc": 22.1}


def rows(text: str) -> list[list[str]]:
    return [line.removesuffix(r" \\").split(" & ") for line in text.splitlines() if line.endswith(r"\\")]


def test_every_row_of_latex_has_a_cell_for_every_column() -> None:
    text = latex([result("none"), result("box", 0, 0.8), result("box", 1, 0.82)])
    (form,) = re.findall(r"\\begin\{tabular\}\{(l+r+)\}", text)
    groups, *others = rows(text)
    assert {len(row) for row in others} == {len(form)}
    assert 1 + sum(int(span) for span in re.findall(r"multicolumn\{(\d+)\}", " ".join(groups))) == len(form)


def test_the_best_of_latex_is_bold_where_it_is_one_alone() -> None:
    low, high = rows(latex([result("none", 0, 0.7), result("box", 0, 0.8)]))[-2:]
    assert (low[1], high[1]) == ("70.0", r"\textbf{80.0}")
    one, same = rows(latex([result("none", 0, 0.7), result("box", 0, 0.7)]))[-2:]
    assert (one[1], same[1]) == ("70.0", "70.0")


PRINTABLE = "".join(map(chr, range(32, 127)))
HOSTILE = (PRINTABLE, "[2pt] first in its row", "* likewise", "é ß ő λ ± — “x” ½ 中 🙂 \u200b \ud800")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here (Debian: texlive-latex-recommended)")
@pytest.mark.parametrize("name", HOSTILE)
def test_latex_compiles_it(name: str, tmp_path: Path) -> None:
    """The terminal tells of boxes that are too wide, which is no error."""
    runs = [result("none", model=name), result("box", 0, 0.8, model=name), result("box", 1, 0.82, model=name)]
    runs.append(result("click_last", model="resnet50", class_list_hash=imagenet().hash))
    text = latex(runs, with_paper=True)
    assert "paper:" in text
    packages, _, _ = text.partition(". ")
    body = [r"\documentclass{article}", packages.removeprefix("% "), r"\begin{document}", text, r"\end{document}"]
    (tmp_path / "table.tex").write_bytes("\n".join(body).encode(errors="replace"))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]


def test_a_row_does_not_begin_with_an_argument_of_the_one_before() -> None:
    for name in ("[2pt] x", "*x"):
        assert [row[0][:3] for row in rows(latex([result("none", model=name)]))[-1:]] == [f"{{{name[0]}}}"]
    assert escaped("é|½中") == r"e\textbar{}1?2?"


def test_a_name_cannot_end_the_table() -> None:
    text = latex([result("none", model="\\input{/etc/passwd}\n\\end{tabular} % & \\\\")])
    assert r"\input" not in text and text.count(r"\end{tabular}") == 1
