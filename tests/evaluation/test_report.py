"""Results side by side: seeds in one column, differences to the first, formats that other programs read."""

from __future__ import annotations

import csv
import io
import math
import statistics
from typing import Any

import pytest

from luab_jax.errors import UserError
from luab_jax.evaluation.report import (
    Format,
    columns,
    experiment_name,
    format_score,
    is_accuracy,
    render,
    scalar_scores,
    suite_lines,
    table,
)


def result(target: str, top1: float, *, distance: float | None = None, seed: int = 0) -> dict[str, Any]:
    suites: dict[str, Any] = {
        "imagenet": {"top1": top1, "top5": min(1.0, top1 + 0.2), "ece": 0.03, "n": 50_000, "seconds": 12.5},
        "demo_size": {"top1": top1 / 2, "groups": {"small": 0.1, "large": 0.9}, "n": 7},
    }
    if distance is not None:
        suites["byproduct"] = {"median_distance": distance, "n": 10, "n_clicked": 9}
    weight = 0.0 if target == "none" else 10.0
    checkpoint = {
        "model": "vit_s",
        "target": target,
        "weight": weight,
        "seed": seed,
        "experiment": {"target": target, "weight": weight},
        "chosen": "latest",
        "dataset": "demo",
        "class_list_hash": "0123",
        "workdir": f"runs/{target}-{seed}",
        "step": 10,
    }
    return {"checkpoint": checkpoint, "suites": suites}


BASELINE = [0.70, 0.72, 0.71]
LUAB = [0.75, 0.73]
RESULTS = [
    *(result("none", top1, seed=seed) for seed, top1 in enumerate(BASELINE)),
    *(result("click_last", top1, distance=0.1 + seed / 100, seed=seed) for seed, top1 in enumerate(LUAB)),
    result("random", 0.69),
]


def row(name: str) -> list[str]:
    rows = table(RESULTS)
    return next(cells for cells in rows if cells[0] == name)


def test_one_run_given_twice_is_no_second_seed() -> None:
    with pytest.raises(UserError, match="two results of one experiment with seed 0"):
        columns([*RESULTS, RESULTS[0]])


def test_runs_that_differ_in_their_seed_are_one_column() -> None:
    grouped = columns(RESULTS)
    assert [column.num_runs for column in grouped] == [3, 2, 1]
    assert [column.values["imagenet top1"] for column in grouped] == [BASELINE, LUAB, [0.69]]
    interleaved = columns([RESULTS[0], RESULTS[3], RESULTS[1], RESULTS[4], RESULTS[2]])
    assert [column.num_runs for column in interleaved] == [3, 2]


def test_the_header_names_experiments_and_seeds() -> None:
    assert table(RESULTS)[0] == [
        "score",
        "vit_s baseline (3 seeds)",
        "vit_s LUAB click_last λ=10 (2 seeds)",
        "difference",
        "vit_s Rand λ=10",
        "difference",
    ]


@pytest.mark.parametrize(
    ("target", "weight", "name"),
    [
        ("none", 10.0, "baseline"),
        ("random", 1.0, "Rand λ=1"),
        ("click_first", 0.5, "LUAB click_first λ=0.5"),
        ("box", 10.0, "LUAB box λ=10"),
    ],
)
def test_experiments_are_called_as_in_the_paper(target: str, weight: float, name: str) -> None:
    assert experiment_name({"target": target, "weight": weight}) == name


def test_a_cell_is_mean_and_deviation_over_seeds_in_percent() -> None:
    cells = row("imagenet top1 %")
    assert cells[1] == f"{100 * statistics.mean(BASELINE):.1f} ± {100 * statistics.stdev(BASELINE):.1f}"
    assert cells[2] == f"{100 * statistics.mean(LUAB):.1f} ± {100 * statistics.stdev(LUAB):.1f}"
    assert cells[4] == "69.0"


def test_a_difference_is_to_the_first_column_and_signed() -> None:
    cells = row("imagenet top1 %")
    assert cells[3] == "+3.0"
    assert cells[5] == "-2.0"


def test_what_a_column_lacks_is_a_dash_and_so_is_its_difference() -> None:
    assert row("byproduct median_distance") == ["byproduct median_distance", "-", "0.105 ± 0.007", "-", "-", "-"]


def test_a_difference_too_small_to_be_seen_has_no_sign() -> None:
    rows = table([result("none", 0.7), result("random", 0.69999), result("box", 0.70001)])
    assert rows[1][1:] == ["70.0", "70.0", "0.0", "70.0", "0.0"]


def test_counts_and_times_are_no_scores() -> None:
    scores = {"top1": 0.5, "n": 3, "n_left_out": 1, "seconds": 2.0, "partial": True, "groups": {"a": 1.0}, "name": "x"}
    assert scalar_scores(scores) == {"top1": 0.5}
    assert {cells[0] for cells in table(RESULTS)[1:]} == {
        "imagenet top1 %",
        "imagenet top5 %",
        "demo_size top1 %",
        "byproduct median_distance",
    }


def test_distances_are_fractions_and_shares_are_percent() -> None:
    assert (format_score("top1", 0.1234), format_score("median_distance", 0.1234)) == ("12.3", "0.123")
    assert format_score("top1", math.nan) == "-"
    assert is_accuracy("inside_box") and not is_accuracy("median_distance_of_centre")


def test_a_suite_for_the_terminal_shows_its_groups_below() -> None:
    lines = suite_lines(
        "demo_size", {"top1": 0.5, "groups": {"small": 0.1, "large": 0.9}, "n": 50_000, "partial": True}
    )
    assert lines[0].split() == ["demo_size", "top1", "50.0", "n", "50,000", "(partial", "set)"]
    assert [line.split() for line in lines[1:]] == [["small", "10.0"], ["large", "90.0"]]


def test_of_many_groups_the_terminal_shows_the_extremes() -> None:
    groups = {f"fog,severity={i}": i / 100 for i in range(75)}
    lines = suite_lines("imagenet_c", {"top1": 0.37, "mce": 0.767, "groups": groups, "n": 75})
    assert lines[0].split() == ["imagenet_c", "top1", "37.0", "mce", "76.7", "n", "75"]
    assert lines[1:] == ["  75 groups: 0.0 (fog,severity=0) to 74.0 (fog,severity=74)"]


def test_an_interval_stands_behind_its_score_and_what_the_data_is_not_behind_all() -> None:
    scores = {
        "top1": 0.5,
        "intervals": {"top1": [0.4, 0.61]},
        "interval_method": "Wilson score, 95 %",
        "n": 10,
        "partial": True,
        "resized_from": 224,
        "data_notes": {
            "a": {"generated": "generated by x, seed 0", "skipped": {"corrupt": 2, "missing": 1}},
            "b": {"generated": "generated by x, seed 0"},
        },
    }
    (line,) = suite_lines("x", scores)
    assert " ".join(line.split()) == (
        "x [generated] top1 50.0 [40.0, 61.0] n 10 (partial set; stored at 224 px, resized; 3 images skipped)"
    )


def test_another_preprocessing_is_another_column_and_its_name_says_so() -> None:
    changed = result("none", 0.6)
    changed["checkpoint"]["preprocessing_override"] = {"resize_side": 232}
    assert [column.name for column in columns([result("none", 0.7), changed])] == [
        "vit_s baseline",
        "vit_s baseline resize_side=232",
    ]


def test_csv_is_read_back_as_it_was() -> None:
    rows = [*table(RESULTS), ['a "quoted", cell', "", "", "", "", ""]]
    assert list(csv.reader(io.StringIO(render(rows, Format.CSV)))) == rows


def test_markdown_has_one_cell_per_value_and_a_rule_below_the_header() -> None:
    rows = table(RESULTS)
    lines = render(rows, Format.MARKDOWN).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert cells[0] == rows[0] and cells[2:] == rows[1:]
    assert set("".join(cells[1])) == {"-", ":"}
    assert not cells[1][0].endswith(":") and all(rule.endswith(":") for rule in cells[1][1:])
    assert len({len(line) for line in lines}) == 1


def test_text_columns_stand_under_each_other() -> None:
    rows = table(RESULTS)
    lines = render(rows, Format.TEXT).splitlines()
    assert len(lines) == len(rows) + 1
    header, rule = lines[0], lines[1]
    ends = [i + 1 for i, char in enumerate(rule) if char == "-" and rule[i + 1 : i + 2] in ("", " ")]
    assert len(ends) == len(rows[0])
    for line, cells in zip([header, *lines[2:]], rows, strict=True):
        for end, cell in zip(ends[1:], cells[1:], strict=True):
            assert line[:end].endswith(cell)
    assert all(line == line.rstrip() for line in lines)


def test_images_stored_smaller_are_another_row_and_say_so() -> None:
    smaller = result("none", 0.6)
    smaller["suites"]["imagenet"]["stored_smaller"] = "at most 512 pixels a side, JPEG quality 90"
    rows = {
        cells[0]: cells[1:]
        for cells in table([result("none", 0.7), smaller | {"checkpoint": RESULTS[-1]["checkpoint"]}])
    }
    name = "imagenet [images at most 512 pixels a side, JPEG quality 90]"
    assert rows[f"{name} top1 %"][:2] == ["-", "60.0"] and rows["imagenet top1 %"][:2] == ["70.0", "-"]
    assert suite_lines("imagenet", smaller["suites"]["imagenet"])[0].startswith(name)
