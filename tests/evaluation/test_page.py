"""The page of results holds every number, loads nothing, and believes no name."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from luab_jax.data.class_lists import imagenet
from luab_jax.evaluation.latex import latex
from luab_jax.evaluation.layout import direction, headings
from luab_jax.evaluation.page.write import page
from luab_jax.evaluation.paper import paper_results
from luab_jax.evaluation.report import columns

HOSTILE = '</td><script>alert("x")</script><img src=http://example.org/x.png onerror=alert(1)>&_%$#{}'
VOID = {"meta", "br", "hr", "img", "input", "link"}


def result(target: str, seed: int = 0, top1: float = 0.625, **changes: Any) -> dict[str, Any]:
    checkpoint = {
        "workdir": "nowhere",
        "step": 3,
        "chosen": "latest",
        "dataset": "demo",
        "class_list_hash": "abc",
        "model": "resnet18",
        "target": target,
        "weight": 20.0,
        "seed": seed,
        "experiment": {"byproduct.target": target},
    }
    suites: dict[str, Any] = {
        "imagenet": {
            "top1": top1,
            "top5": 0.9375,
            "n": 64,
            "seconds": 1.0,
            "data": {"val": "f"},
            "intervals": {"top1": [top1 - 0.1, top1 + 0.1]},
            "interval_method": "Wilson score, 95 %",
        },
        "demo_size": {"top1": 0.5, "groups": {"size=0.20": 0.25, "size=0.80": 0.75}, "n": 8, "seconds": 1.0},
        "demo_corruptions": {"top1": 0.5, "groups": {"fog,severity=1": 0.6, "fog,severity=3": 0.4}, "n": 8},
        "demo_position": {"top1": 0.5, "groups": {"x=0.25,y=0.50": 0.6, "x=0.75,y=0.50": 0.4}, "n": 8},
    }  # fmt: skip
    return {"checkpoint": checkpoint | changes, "name": "run", "suites": suites}


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
        self.shown.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.shown).split())


def test_every_score_of_every_run_is_there() -> None:
    read = Read(page([result("none", top1=0.611), result("click_last", top1=0.677)]))
    for number in ("61.1", "67.7", "93.8", "25.0", "75.0", "60.0", "40.0"):
        assert number in read.text, number
    assert "+6.6" in read.text, "the difference to the first run"
    assert "svg" in read.tags


def test_it_loads_and_runs_nothing() -> None:
    read = Read(page([result("none"), result("click_last")]))
    assert not read.tags & {"script", "iframe", "object", "embed", "img", "link", "form"}
    assert not [value for name, value in read.attributes if name in ("src", "href") and not value.startswith("#")]
    policy = [value for name, value in read.attributes if name == "content" and "default-src" in value]
    assert policy and "default-src 'none'" in policy[0]


@pytest.mark.parametrize("field", ["model", "workdir", "dataset", "target"])
def test_hostile_names_stay_text(field: str) -> None:
    hostile = result("none")
    hostile["checkpoint"][field] = HOSTILE
    hostile["suites"][HOSTILE] = hostile["suites"]["demo_size"] | {"groups": {HOSTILE: 0.5, "b": 0.25}}
    read = Read(page([hostile, result("click_last")]))
    assert not read.tags & {"script", "img"}
    assert HOSTILE in read.text or "alert" in read.text
    assert not [name for name, _ in read.attributes if name.startswith("on")]


def test_seeds_are_one_row_with_their_spread() -> None:
    read = Read(page([result("none", seed, top1) for seed, top1 in ((0, 0.5), (1, 0.6))]))
    assert "(2 seeds)" in read.text
    assert "55.0 ± 7.1" in read.text


def test_a_suite_that_one_run_lacks_is_a_dash() -> None:
    without = result("click_last")
    del without["suites"]["demo_size"]
    assert "–" in Read(page([result("none"), without])).text


def test_the_papers_numbers_stand_beside_runs_of_its_models_only() -> None:
    own = result("none", class_list_hash=imagenet().hash, model="resnet50", dataset="imagenet_ab")
    reported = paper_results()["ImageNet-AB", "R50", "baseline"]
    shown = Read(page([own], with_paper=True)).text
    assert "paper: ImageNet-AB R50 baseline" in shown
    assert f"{reported['BGC-acc']:.1f}" in shown
    assert "paper:" not in Read(page([own])).text
    assert "None of these runs corresponds" in Read(page([result("none")], with_paper=True)).text


def test_curves_of_the_training_are_those_of_the_log(tmp_path: Path) -> None:
    lines = [{"step": s, "train/classification_loss": 2.0 - s / 10} for s in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "classification loss, training" in Read(page([result("none", workdir=str(tmp_path))])).text
    (tmp_path / "metrics.jsonl").write_text("{broken")
    assert "classification loss, training" not in Read(page([result("none", workdir=str(tmp_path))])).text


def test_directions_of_scores() -> None:
    assert [direction(s) for s in ("top1", "bgc_accuracy", "v_min", "gap", "inside_box_of_centre")] == [1, 1, -1, -1, 0]


def test_bgc_accuracy_and_context_are_columns_of_the_paper() -> None:
    made = result("none", class_list_hash=imagenet().hash)
    made["suites"] |= {
        "bgc_accuracy": {"bgc_accuracy": 0.25, "n": 4},
        "coco_context": {"v_min": 0.5, "v_avg": 0.2, "n": 4},
    }
    labels = [heading.label for heading in headings(columns([made]))]
    assert [label for label in labels if label in ("BGC-acc", "V_min", "V_avg")] == ["BGC-acc", "V_min", "V_avg"]


def test_latex_is_escaped_and_has_every_run() -> None:
    hostile = result("none")
    hostile["checkpoint"]["model"] = "a_b%$&#{}~^\\"
    text = latex([hostile, result("click_last")])
    assert r"a\_b\%\$\&\#\{\}" in text
    assert text.count(r"\\") >= 3
    assert r"\toprule" in text and r"\bottomrule" in text
