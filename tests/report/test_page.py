"""The page of results holds every number, loads nothing, and believes no name."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from luab_jax.data.class_lists import imagenet
from luab_jax.errors import options_are_flags
from luab_jax.report.page.training import training_curves
from luab_jax.report.page.write import page
from luab_jax.report.paper import paper_results
from luab_jax.report.runs import Run, compare
from luab_jax.results.foreign import Foreign
from luab_jax.results.text import printable
from tests.report import made
from tests.report.test_paper import whole
from tests.report.test_table import hostile_runs, with_fewer_seeds

HOSTILE = '</td><script>alert("x")</script><img src=http://example.org/x.png onerror=alert(1)>&_%$#{}\x1b\n\u202e'
VOID = {"meta", "br", "hr", "img", "input", "link"}


def page_of(runs: Sequence[Run], **options: Any) -> str:
    return page(compare(runs), **options)


class Read(HTMLParser):
    """Tags must close in order; what is shown is kept."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.shown: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.shown.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.shown).split())


RUNS = [made.run("click_last", 0, 0.75), made.run("none", 0, 0.625), made.run("none", 1, 0.6875)]


def test_the_page_holds_every_number_and_loads_nothing() -> None:
    read = Read(page_of(RUNS))
    for text in ("65.6", "± 4.4", "75.0", "+9.4", "[65.0, 85.0]", "0.125", "1.25", "nats"):
        assert text in read.text, text
    assert not read.tags & {"script", "img", "iframe", "link"}
    links = [value for name, value in read.attributes if name in ("src", "href")]
    assert not links
    assert "default-src 'none'" in dict(read.attributes)["content"] or any(
        "default-src 'none'" in value for name, value in read.attributes if name == "content"
    )


def test_the_page_states_its_date_and_version() -> None:
    text = Read(page_of(RUNS)).text
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC, luab_jax \S", text)


def test_the_page_states_the_command_that_made_it_and_none_that_was_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train_and_report.py", "--key=SECRET"])
    text = page_of(RUNS)
    assert "SECRET" not in text and "luab_jax.report" not in text and "<code>" not in text
    with options_are_flags(["python", "-m", "luab_jax.report", "a b.json"]):
        assert "python -m luab_jax.report 'a b.json'" in Read(page_of(RUNS)).text


def test_every_cell_names_its_column_for_narrow_screens() -> None:
    outside_of_details = re.sub(r"<details>.*?</details>", "", page_of(RUNS), flags=re.S)
    cells = re.findall(r"<td[ >][^>]*", outside_of_details)
    assert cells and all("data-label=" in cell for cell in cells)


def test_groups_are_drawn_by_their_form() -> None:
    read = Read(page_of(RUNS))
    for caption in (
        "demo_size: top1 (%) by size",
        "demo_corruptions: top1 (%) by kind, mean over 2 values of severity",
        "demo_position: top1 (%) by x → and y ↓, resnet18 baseline (2 seeds)",
        "numbers of 2 groups",
    ):
        assert caption in read.text


def test_hostile_names_stay_text() -> None:
    hostile = made.run("none", model=HOSTILE, workdir=HOSTILE, experiment={"a": 1})
    hostile.file.suites[HOSTILE] = made.grouped({HOSTILE: 0.5, "b": 0.25})
    hostile.file.command = [HOSTILE]
    hostile.file.name = HOSTILE
    read = Read(page_of([hostile, *hostile_runs()[:1], made.run("click_last")]))
    assert not read.tags & {"script", "img"}
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    assert " ".join(printable(HOSTILE).split()) in read.text
    assert not any(char in "".join(read.shown) for char in "\x1b\u202e")


def test_colour_is_for_differences_whose_interval_excludes_0() -> None:
    assert 'class="change better"' not in page_of([made.run("none", 0, 0.60), made.run("box", 0, 0.65)])
    assert re.search(
        r'class="change better"[^>]*>\+30\.0', page_of([made.run("none", 0, 0.5), made.run("box", 0, 0.8)])
    )
    assert re.search(r'class="change worse"[^>]*>-30\.0', page_of([made.run("none", 0, 0.8), made.run("box", 0, 0.5)]))


def test_bold_is_for_what_is_better_than_every_other_beyond_doubt() -> None:
    assert "<b>65.0</b>" not in page_of([made.run("none", 0, 0.60), made.run("box", 0, 0.65)])
    assert "<b>80.0</b>" in page_of([made.run("none", 0, 0.5), made.run("box", 0, 0.8)])


def test_a_suite_that_one_run_lacks_is_a_dash() -> None:
    without = made.run("click_last")
    del without.file.suites["demo_size"]
    read = Read(page_of([made.run("none"), without]))
    assert "–" in read.text


def test_a_score_of_fewer_seeds_than_its_run_says_of_how_many() -> None:
    shown = Read(page_of(with_fewer_seeds())).text
    assert shown.count("62.5 ± 3.5 (2)") == 2, "among the headlines and in the table of every score"
    assert shown.count("50.0 (1)") == 2 and "number of seeds" in shown
    assert "25.0 (1)" in shown, "the number of a group"
    assert "number of seeds" not in Read(page_of(RUNS)).text


def test_data_of_another_fingerprint_is_marked() -> None:
    moved = made.run("random")
    moved.file.suites["imagenet"].data.identity = {"val": "other"}
    assert "†" in page_of([made.run("none"), moved]) and "†" not in page_of([made.run("none"), made.run("box")])


def test_the_papers_numbers_stand_below_the_runs_that_correspond() -> None:
    reported = paper_results()["ImageNet-AB", "R50", "baseline"]
    shown = Read(page_of([whole("resnet50", "none")], with_paper=True)).text
    assert "paper: ImageNet-AB R50 baseline" in shown and f"{reported['IN-1K']:.1f}" in shown
    assert "paper:" not in Read(page_of([whole("resnet50", "none")])).text
    assert "None of these runs corresponds" in Read(page_of([made.run("none")], with_paper=True)).text


def logged(tmp_path: Path, values: Sequence[float], metric: str = "train/classification_loss") -> Run:
    lines = [json.dumps({"step": step, metric: value}) for step, value in enumerate(values, 1)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return made.run("none", workdir=str(tmp_path), step=len(values))


def test_curves_of_the_training_are_those_of_the_log(tmp_path: Path) -> None:
    run = logged(tmp_path, [1.9, 1.8, 1.7])
    assert "classification loss, training" in Read(page_of([run])).text
    (tmp_path / "metrics.jsonl").write_text("{broken\n" + "[" * 100_000)
    assert "classification loss, training" not in Read(page_of([run])).text


def path_of(run: Run, smoothing: int = 1) -> list[float]:
    (figure,) = training_curves(compare([run]).experiments, smoothing).figures
    (path,) = re.findall(r'class="line" d="M([^"]*)"', figure.drawing)
    return [float(place.split()[1]) for place in path.split("L")]


def test_curves_are_not_smoothed_unless_asked_for(tmp_path: Path) -> None:
    values = [1.0, 3.0] * 20
    assert len(set(path_of(logged(tmp_path, values)))) == 2
    smooth = path_of(logged(tmp_path, values), smoothing=2)
    assert len(set(smooth[1:])) == 1, "the mean of two"
    assert "the mean of 2 logged values" in Read(page_of([logged(tmp_path, values)], smoothing=2)).text


def test_a_long_log_keeps_its_peaks(tmp_path: Path) -> None:
    values = [2.0 + math.sin(i) / 100 for i in range(5000)]
    values[3333] = 9.0
    heights = path_of(logged(tmp_path, values))
    assert len(heights) <= 700 and min(heights) < min(h for h in heights if h != min(heights)) - 100


@pytest.mark.parametrize("value", ["x", None, True, 1e308, float("nan"), [1], 10**400])
def test_values_of_a_log_that_are_no_numbers_do_no_harm(tmp_path: Path, value: object) -> None:
    run = logged(tmp_path, [1.0, 2.0])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 3, "train/classification_loss": value}) + "\n")
    assert "classification loss, training" in page_of([run])


def test_the_legend_names_only_runs_that_are_drawn(tmp_path: Path) -> None:
    without = made.run("click_last")
    without.file.suites = {"imagenet": without.file.suites["imagenet"]}
    shown = page_of([logged(tmp_path, [1.0, 2.0]), without])
    for legend in re.findall(r'<p class="legend">.*?</p>', shown, re.S):
        assert "baseline" in legend and "click_last" not in legend


def test_a_workdir_in_a_bucket_that_cannot_be_read_costs_the_curves_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_plugin(path: object) -> None:
        from luab_jax.errors import StorageError

        raise StorageError("gs://x/y: cannot be read: gs:// needs the package gcsfs: pip install gcsfs")

    monkeypatch.setattr("luab_jax.report.page.workdir.storage.facts", no_plugin)
    text = Read(page_of([made.run("none", workdir="gs://x/y"), made.run("none", 1, workdir="gs://x/y")])).text
    assert text.count("pip install gcsfs") == 1 and "No training curves" in text


@pytest.mark.parametrize("kind", Foreign)
def test_curves_of_what_was_trained_elsewhere_are_not_missed(kind: Foreign) -> None:
    shown = training_curves(compare([made.run(kind.value, workdir=f"{kind.value}:x")]).experiments)
    assert not shown.figures and not shown.notes


def test_imagenet_is_the_list_of_its_hash() -> None:
    from luab_jax.report.paper import IMAGENET_HASH

    assert imagenet().hash == IMAGENET_HASH
