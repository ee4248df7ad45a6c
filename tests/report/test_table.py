"""Results side by side as text, markdown and CSV: seeds in one column, differences to the reference."""

from __future__ import annotations

import csv
import io
import statistics

import numpy as np
import pytest

from luab_jax.report.records import FIELDS, as_csv
from luab_jax.report.runs import Run, compare
from luab_jax.report.table import as_markdown, as_text, signed, table, table_notes
from luab_jax.results.format import Data, Entry
from luab_jax.results.score import FRACTION, SIDE, Direction, Role
from luab_jax.results.text import format_number, suite_lines
from tests.report import made

BASELINE = [0.70, 0.72, 0.71]
LUAB = [0.75, 0.73]
RUNS = [
    *(made.run("click_last", seed, top1) for seed, top1 in enumerate(LUAB)),
    *(made.run("none", seed, top1) for seed, top1 in enumerate(BASELINE)),
    made.run("random", 0, 0.69),
]
HOSTILE = "a|b\x1b[31m\n\u202e<script>*_`&%$#{}\\"


def row(name: str, runs: list[Run] = RUNS) -> list[str]:
    return next(cells for cells in table(compare(runs)) if cells[0] == name)


def test_the_header_names_experiments_and_seeds_the_reference_first() -> None:
    assert table(compare(RUNS))[0] == [
        "score",
        "resnet18 baseline (3 seeds)",
        "resnet18 LUAB click_last λ=20 (2 seeds)",
        "difference",
        "resnet18 Rand λ=20",
        "difference",
    ]


def test_a_cell_is_mean_and_deviation_over_seeds_in_percent() -> None:
    cells = row("demo top1 %")
    assert cells[1] == f"{100 * statistics.mean(BASELINE):.1f} ± {100 * statistics.stdev(BASELINE):.1f}"
    assert cells[2] == f"{100 * statistics.mean(LUAB):.1f} ± {100 * statistics.stdev(LUAB):.1f}"
    assert cells[4] == "69.0"


def test_a_difference_is_signed_and_has_its_interval_where_there_is_one() -> None:
    cells = row("demo top1 %")
    assert cells[3].startswith("+3.0 [") and cells[3].endswith("]"), "Welch's interval holds 0"
    assert cells[5] == "-2.0", "nothing is known of one seed against three"


def with_fewer_seeds() -> list[Run]:
    """Three seeds, of which two have the first suite and one the second."""
    runs = [made.run("none", seed, 0.6 + seed / 20) for seed in range(3)]
    del runs[2].file.suites["imagenet"], runs[1].file.suites["demo_size"], runs[2].file.suites["demo_size"]
    return runs


def test_a_cell_of_fewer_seeds_than_its_column_says_of_how_many() -> None:
    assert row("demo top1 %", with_fewer_seeds())[1] == "62.5 ± 3.5 (2)"
    assert row("demo_size top1 %", with_fewer_seeds())[1] == "50.0 (1)"
    assert row("demo_position top1 %", with_fewer_seeds())[1] == "50.0 ± 0.0"
    comparison = compare([*with_fewer_seeds(), made.run("box", 0, 0.9)])
    markdown = as_markdown(table(comparison, markdown=True), table_notes(comparison))
    assert " 62.5 ± 3.5 (2) " in markdown and " 50.0 (1) " in markdown
    alone = compare(with_fewer_seeds())
    for notes in (table_notes(comparison), table_notes(alone), [markdown]):
        assert any("number of seeds" in note for note in notes)
    assert not any("number of seeds" in note for note in table_notes(compare(RUNS)))


def test_an_interval_of_the_only_seed_stands_before_their_number() -> None:
    (first, *others) = with_fewer_seeds()
    del others[0].file.suites["imagenet"]
    (found,) = (cells for cells in table(compare([first, *others]), markdown=True) if cells[0] == "demo top1 %")
    assert found[1] == "60.0 [50.0, 70.0] (1)"


def test_what_the_interval_supports_is_marked() -> None:
    runs = [made.run("none", 0, 0.3), made.run("click_last", 0, 0.6)]
    assert row("demo top1 %", runs)[3] == "+30.0 [+15.9, +44.1] *"
    runs = [made.run("none", 0, 0.3), made.run("click_last", 0, 0.35)]
    assert row("demo top1 %", runs)[3] == "+5.0 [-9.1, +19.1]"


def test_runs_with_answers_are_paired() -> None:
    rng = np.random.default_rng(0)
    right = rng.random(500) < 0.5
    other = right | (rng.random(500) < 0.04)
    runs = [made.answered(made.run("none"), right), made.answered(made.run("box"), other)]
    assert row("demo top1 %", runs)[3].endswith("*")
    assert not row("demo top1 %", [Run(run.file, run.path) for run in runs])[3].endswith("*")


def test_the_row_is_named_after_the_data() -> None:
    names = {cells[0] for cells in table(compare(RUNS))[1:]}
    assert "demo top1 %" in names and not any(name.startswith("imagenet") for name in names)
    imagenet = made.run("none")
    imagenet.file.suites["imagenet"].title = ""
    assert row("imagenet top1 %", [imagenet])[1] == "62.5 [52.5, 72.5]", "one run alone has its intervals"


def test_every_score_is_shown_in_its_unit_and_no_count() -> None:
    suite = made.run("none")
    suite.file.suites["mine"] = made.grouped({})
    suite.file.suites["mine"].scores |= {
        "n_shot_accuracy": Entry(value=0.25, unit=FRACTION, direction=Direction.HIGHER),
        "forward_transfer": Entry(value=0.125, unit=FRACTION),
        "latency": Entry(value=12.25, unit="ms", direction=Direction.LOWER),
    }
    rows = {cells[0]: cells[1] for cells in table(compare([suite]))}
    assert rows["mine n_shot_accuracy %"] == "25.0" and rows["mine forward_transfer %"] == "12.5"
    assert rows["demo nll nats"] == "1.25" and rows["mine latency ms"] == "12.25"
    assert rows["demo byproduct median_distance"] == "0.125 [0.100, 0.150]"
    assert not any("n_left_out" in name for name in rows)


def test_what_a_column_lacks_is_a_dash_and_so_is_its_difference() -> None:
    without = made.run("random")
    del without.file.suites["byproduct"]
    cells = row("demo byproduct median_distance", [made.run("none"), without])
    assert cells[1:] == ["0.125", "-", "-"]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.00001, FRACTION, "0.0"), (-0.00001, FRACTION, "0.0"), (0.015, FRACTION, "+1.5"), (-0.015, SIDE, "-0.015")],
)
def test_a_difference_too_small_to_be_seen_has_no_sign(value: float, unit: str, text: str) -> None:
    assert signed(value, unit) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.1234, FRACTION, "12.3"), (0.1234, SIDE, "0.123"), (4050.0, "count", "4,050"), (12.3456, "nats", "12.35")],
)
def test_numbers_are_printed_by_their_unit(value: float, unit: str, text: str) -> None:
    assert format_number(value, unit) == text


def test_images_stored_smaller_or_restricted_are_another_row_and_say_so() -> None:
    smaller, restricted = made.run("box"), made.run("random")
    smaller.file.suites["imagenet"].data = Data(stored_smaller="at most 512 pixels a side")
    restricted.file.suites["imagenet"].data = Data(restricted="20 classes")
    names = [cells[0] for cells in table(compare([made.run("none"), smaller, restricted]))]
    assert "demo [images at most 512 pixels a side] top1 %" in names
    assert "demo [restricted to 20 classes] top1 %" in names
    cells = row("demo [restricted to 20 classes] top1 %", [made.run("none"), restricted])
    assert cells[1:] == ["-", "62.5", "-"], "never mixed with whole-suite numbers"


def test_a_suite_for_the_terminal_shows_intervals_notes_and_its_groups() -> None:
    suite = made.grouped({"small": 0.1, "large": 0.9})
    suite.scores["top1"] = made.share(0.5, 0.1)
    suite.data = Data(partial=True, resized_from=224, skipped={"corrupt": 2, "missing": 1}, generated="by x")
    lines = suite_lines("x", suite)
    assert " ".join(lines[0].split()) == (
        "x [generated] top1 50.0 [40.0, 60.0] n 8 (partial set; stored at 224 px, resized; 3 images skipped)"
    )
    assert [line.split() for line in lines[1:]] == [["small", "10.0"], ["large", "90.0"]]
    suite.data.skipped = {"missing": 1}
    assert "1 image skipped" in suite_lines("x", suite)[0]


def test_of_many_groups_the_terminal_shows_the_extremes() -> None:
    lines = suite_lines("imagenet_c", made.grouped({f"fog,severity={i}": i / 100 for i in range(75)}, 0.37))
    assert lines[1:] == ["  75 groups: 0.0 (fog,severity=0) to 74.0 (fog,severity=74)"]
    alike = suite_lines("imagenet_c", made.grouped({f"fog,severity={i}": 0.5 for i in range(75)}, 0.5))
    assert alike[1:] == ["  75 groups: all 50.0"]


def test_text_columns_stand_under_each_other_and_notes_below() -> None:
    rows = table(compare(RUNS))
    text = as_text(rows, table_notes(compare(RUNS)))
    lines = text.splitlines()[: len(rows) + 1]
    header, rule = lines[0], lines[1]
    ends = [i + 1 for i, char in enumerate(rule) if char == "-" and rule[i + 1 : i + 2] in ("", " ")]
    assert len(ends) == len(rows[0])
    for line, cells in zip([header, *lines[2:]], rows, strict=True):
        for end, cell in zip(ends[1:], cells[1:], strict=True):
            assert line[:end].endswith(cell)
    assert "Differences are relative to resnet18 baseline" in text and "excludes 0" in text


def test_markdown_has_one_cell_per_value_intervals_and_bold_where_supported() -> None:
    runs = [made.run("none", 0, 0.3), made.run("click_last", 0, 0.6)]
    lines = as_markdown(table(compare(runs), markdown=True)).splitlines()
    (found,) = (line for line in lines if line.startswith("| demo top1"))
    assert [cell.strip() for cell in found.strip("|").split(" | ")] == [
        "demo top1 %",
        "30.0 [20.0, 40.0]",
        "**60.0 [50.0, 70.0]**",
        "+30.0 [+15.9, +44.1] *",
    ]
    assert len({line.count(" | ") for line in lines}) == 1
    assert "**" not in as_markdown(table(compare([made.run("none", 0, 0.3), made.run("box", 0, 0.35)]), markdown=True))


def hostile_runs() -> list[Run]:
    hostile = made.run("none", model=HOSTILE)
    suites = hostile.file.suites
    suites[HOSTILE] = made.grouped({HOSTILE: 0.5})
    suites[HOSTILE].scores[HOSTILE] = Entry(value=0.5, unit=HOSTILE, method=HOSTILE, interval=(0.4, 0.6))
    suites[HOSTILE].title = suites[HOSTILE].group = suites[HOSTILE].protocol = HOSTILE
    suites[HOSTILE].data = Data(dataset=HOSTILE, stored_smaller=HOSTILE, notes=[HOSTILE], left_out={HOSTILE: HOSTILE})
    return [hostile, made.run("box")]


def test_hostile_names_are_shown_escaped_in_every_text() -> None:
    comparison = compare(hostile_runs())
    text = as_text(table(comparison), table_notes(comparison))
    markdown = as_markdown(table(comparison, markdown=True), table_notes(comparison))
    terminal = "\n".join(suite_lines(HOSTILE, comparison.reference.runs[0].file.suites[HOSTILE]))
    for written in (text, markdown, as_csv(comparison), terminal):
        assert not any(char in written for char in "\x1b\u202e\r") and "x1b" in written
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert "<script>" not in markdown and len({line.count(" | ") for line in rows}) == 1


def records(runs: list[Run]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(as_csv(compare(runs)))))


def test_csv_has_a_row_for_every_run_suite_and_score_with_all_digits() -> None:
    found = records([made.run("none", 0, 1 / 3), made.run("click_last", 0, 2 / 3)])
    assert list(found[0]) == list(FIELDS)
    by_key = {(r["run"], r["suite"], r["score"]): r for r in found}
    assert len(by_key) == len(found) == 2 * 8
    first = by_key["resnet18 baseline", "imagenet", "top1"]
    assert float(first["value"]) == 1 / 3 and first["unit"] == "fraction" and first["direction"] == "higher"
    assert (first["n"], first["role"], first["title"], first["reference"]) == ("64", "headline", "demo", "")
    other = by_key["resnet18 LUAB click_last λ=20", "imagenet", "top1"]
    assert float(other["difference"]) == 2 / 3 - 1 / 3 and other["reference"] == "resnet18 baseline"
    low, high = float(other["difference_low"]), float(other["difference_high"])
    assert low < 1 / 3 < high and "Zou" in other["difference_method"]
    assert float(other["interval_low"]) == 2 / 3 - 0.1 and other["interval_method"] == "Wilson score, 95 %"
    count = by_key["resnet18 baseline", "imagenet", "n_left_out"]
    assert (count["value"], count["role"], count["interval_low"]) == ("2.0", Role.COUNT.value, "")


def test_csv_of_seeds_has_their_mean_and_deviation() -> None:
    found = {(r["run"], r["suite"], r["score"]): r for r in records(RUNS)}
    row = found["resnet18 baseline", "imagenet", "top1"]
    assert float(row["value"]) == pytest.approx(statistics.mean(BASELINE), abs=1e-15)
    assert (row["seeds"], float(row["deviation"])) == ("3", pytest.approx(statistics.stdev(BASELINE)))


def test_csv_states_what_all_seeds_have_in_common() -> None:
    partial = made.run("none", 1)
    partial.file.suites["imagenet"].n = 20
    partial.file.suites["imagenet"].data.partial = True
    for runs in ([made.run("none", 0), partial], [partial, made.run("none", 0)]):
        row = records(runs)[0]
        assert (row["score"], row["n"], row["partial"], row["dtype"]) == ("top1", "", "", "float32")


def test_csv_has_every_score_of_every_seed() -> None:
    runs = [made.run("none", 0), made.run("none", 1)]
    runs[0].file.suites["imagenet"].scores["top1_of_half"] = made.share(0.7, role=Role.SCORE)
    for order in (runs, runs[::-1]):
        (row,) = (row for row in records(order) if row["score"] == "top1_of_half")
        assert (row["value"], row["seeds"]) == ("0.7", "1")
