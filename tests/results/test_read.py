"""A results file is read, or refused in one line that names it; whatever JSON it holds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luab_jax.errors import UserError
from luab_jax.results.format import VERSION, to_json
from luab_jax.results.read import parse, read_results
from luab_jax.results.score import FRACTION, SIDE, Direction, Role
from tests.report import made

FIELD_CASES = Path(os.environ.get("LUAB_JAX_TEST_DATA", "/nowhere")) / "field_cases" / "13_results_json"


def version_1(**changes: Any) -> dict[str, Any]:
    suites: dict[str, Any] = {
        "imagenet": {
            "top1": 0.5,
            "top5": 0.75,
            "ece": 0.03,
            "n": 64,
            "seconds": 1.0,
            "data": {"val": "f"},
            "intervals": {"top1": [0.4, 0.6]},
            "interval_method": "Wilson score, 95 %",
        },
        "demo_size": {"top1": 0.5, "groups": {"size=0.20": 0.25, "size=0.80": 0.75}, "n": 8, "seconds": 1.0},
        "byproduct": {
            "median_distance": 0.1,
            "median_distance_of_centre": 0.2,
            "inside_box": 0.5,
            "n": 9,
            "n_boxed": 4,
        },
        "objectnet": {"top1": 0.2, "top1_of_125": 0.3, "n": 5, "protocols": {"top1_of_125": "argmax over 125"}},
        "coco": {"map": 0.108, "n_classes": 80, "n": 50, "intervals": {"map": [0.12, 0.189]}, "interval_method": "p"},
    }
    content = {"results_version": 1, "checkpoint": made.checkpoint("none"), "suites": suites, "name": "run"}
    return json.loads(json.dumps(content | changes))


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    return path


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    file = made.file("click_last")
    (tmp_path / "results.json").write_text(to_json(file))
    assert read_results(tmp_path / "results.json") == file
    assert read_results(tmp_path) == file, "a folder stands for the results in it"


def test_every_score_of_a_file_states_unit_direction_and_role() -> None:
    suites = json.loads(to_json(made.file("none")))["suites"]
    top1, nll, count = (suites["imagenet"]["scores"][name] for name in ("top1", "nll", "n_left_out"))
    assert (top1["unit"], top1["direction"], top1["role"]) == ("fraction", "higher", "headline")
    assert (nll["unit"], nll["direction"]) == ("nats", "lower")
    assert (count["unit"], count["role"]) == ("count", "count")
    for suite in suites.values():
        assert {"n", "protocol", "preprocessing", "dtype", "weights", "data"} <= suite.keys()
        assert {"dataset", "partial", "stored_smaller", "generated", "restricted"} <= suite["data"].keys()
        for entry in suite["scores"].values():
            assert {"value", "unit", "direction", "role", "interval", "method"} <= entry.keys()


def test_version_1_is_read_with_the_meaning_that_its_names_had(tmp_path: Path) -> None:
    suites = read_results(written(tmp_path, version_1())).suites
    imagenet, byproduct = suites["imagenet"], suites["byproduct"]
    assert (imagenet["top1"], imagenet.n, imagenet.seconds, imagenet.headline) == (0.5, 64, 1.0, "top1")
    assert imagenet.scores["top1"].interval == (0.4, 0.6) and imagenet.scores["ece"].direction is Direction.LOWER
    assert imagenet.title == "demo", "the validation set of other classes is not ImageNet's"
    assert byproduct.scores["median_distance"].unit == SIDE and byproduct.headline == "median_distance"
    assert byproduct.scores["median_distance_of_centre"].direction is Direction.NONE
    assert byproduct.scores["n_boxed"].role is Role.COUNT and byproduct.scores["inside_box"].unit == FRACTION
    assert suites["objectnet"].scores["top1_of_125"].protocol == "argmax over 125"
    assert suites["demo_size"].groups == {"size=0.20": 0.25, "size=0.80": 0.75}
    assert suites["imagenet"].data.identity == {"val": "f"}


def test_an_interval_of_version_1_that_misses_its_score_is_left_out(tmp_path: Path) -> None:
    entry = read_results(written(tmp_path, version_1())).suites["coco"].scores["map"]
    assert (entry.value, entry.interval, entry.method) == (0.108, None, "")


def test_another_version_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, {"results_version": 99, "checkpoint": {}, "suites": {}})
    with pytest.raises(UserError, match=rf"{path}: results version 99, .* reads 1 to {VERSION}; update luab_jax$"):
        read_results(path)


def test_what_only_an_evaluation_can_do_is_no_advice_to_a_reader(tmp_path: Path) -> None:
    path = written(tmp_path, version_1())
    path.write_text(path.read_text()[:50])
    with pytest.raises(UserError, match="cut off") as error:
        read_results(path)
    assert "--o" not in str(error.value)


def _deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": [value]}
    return value


def _suite(content: dict[str, Any], name: str = "imagenet") -> dict[str, Any]:
    return content["suites"][name]


DAMAGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "no checkpoint": lambda c: c.pop("checkpoint"),
    "no suites": lambda c: c.pop("suites"),
    "no version": lambda c: c.pop("results_version"),
    "version of a wrong type": lambda c: c.update(results_version="2"),
    "version true": lambda c: c.update(results_version=True),
    "suites": lambda c: c.update(suites=[1]),
    "no seed": lambda c: c["checkpoint"].pop("seed"),
    "seed": lambda c: c["checkpoint"].update(seed=1.5),
    "model": lambda c: c["checkpoint"].update(model=7),
    "weight": lambda c: c["checkpoint"].update(weight="much"),
    "experiment": lambda c: c["checkpoint"].update(experiment=[1]),
    "override": lambda c: c["checkpoint"].update(preprocessing_override=3),
    "suite": lambda c: c["suites"].update(imagenet=0.5),
    "n": lambda c: _suite(c).update(n="64"),
    "n below 0": lambda c: _suite(c).update(n=-1),
    "n of 400 digits": lambda c: _suite(c).update(n=10**400),
    "group": lambda c: _suite(c, "demo_size").update(groups={"a": "b"}),
    "endless group": lambda c: _suite(c, "demo_size").update(groups={"a": float("inf")}),
    "huge group": lambda c: _suite(c, "demo_size").update(groups={"a": -1e308}),
    "groups": lambda c: _suite(c, "demo_size").update(groups=[0.5]),
    "deep experiment": lambda c: c["checkpoint"].update(experiment=_deep(100)),
    "seconds": lambda c: _suite(c).update(seconds="long"),
    "versions": lambda c: c.update(versions=[1]),
    "preprocessing": lambda c: c.update(preprocessing="none"),
    "compilations": lambda c: c.update(compilations={"programs": "many"}),
}
OF_VERSION_1: dict[str, Callable[[dict[str, Any]], object]] = {
    "score of a wrong type": lambda c: _suite(c).update(ece="low"),
    "score null": lambda c: _suite(c).update(top1=None),
    "score true": lambda c: _suite(c).update(top1=True),
    "score list": lambda c: _suite(c).update(top1=[0.5]),
    "score NaN": lambda c: _suite(c).update(top1=float("nan")),
    "score 1e308": lambda c: _suite(c).update(top1=1e308),
    "score of 400 digits": lambda c: _suite(c).update(top1=10**400),
    "one end": lambda c: _suite(c).update(intervals={"top1": [0.5]}),
    "interval": lambda c: _suite(c).update(intervals={"top1": [0.7, 0.5]}),
    "interval of texts": lambda c: _suite(c).update(intervals={"top1": ["a", "b"]}),
    "intervals": lambda c: _suite(c).update(intervals=[1]),
    "notes": lambda c: _suite(c).update(data_notes={"val": "generated"}),
    "left out": lambda c: _suite(c).update(parts_left_out=["a"]),
    "skipped": lambda c: _suite(c).update(data_notes={"val": {"skipped": {"broken": "two"}}}),
    "protocols": lambda c: _suite(c).update(protocols=["a"]),
}
OF_VERSION_2: dict[str, Callable[[dict[str, Any]], object]] = {
    "no value": lambda c: _suite(c)["scores"]["top1"].pop("value"),
    "value of a wrong type": lambda c: _suite(c)["scores"]["top1"].update(value="0.5"),
    "value 1e308": lambda c: _suite(c)["scores"]["nll"].update(value=1e308),
    "value NaN": lambda c: _suite(c)["scores"]["top1"].update(value=float("nan")),
    "value of 400 digits": lambda c: _suite(c)["scores"]["top1"].update(value=10**400),
    "interval that misses the value": lambda c: _suite(c)["scores"]["top1"].update(interval=[0.7, 0.8]),
    "one end": lambda c: _suite(c)["scores"]["top1"].update(interval=[0.5]),
    "direction": lambda c: _suite(c)["scores"]["top1"].update(direction="up"),
    "role": lambda c: _suite(c)["scores"]["top1"].update(role="main"),
    "two headlines": lambda c: _suite(c)["scores"]["top5"].update(role="headline"),
    "scores": lambda c: _suite(c).update(scores=[1]),
    "data": lambda c: _suite(c).update(data="all"),
    "left out": lambda c: _suite(c)["data"].update(left_out=["a"]),
    "command": lambda c: c.update(command="python"),
}
CASES = [
    *((1, name, damage) for name, damage in {**DAMAGE, **OF_VERSION_1}.items()),
    *((2, name, damage) for name, damage in {**DAMAGE, **OF_VERSION_2}.items()),
]


@pytest.mark.parametrize(("version", "name", "damage"), CASES, ids=[f"{v}: {name}" for v, name, _ in CASES])
def test_damage_is_one_error_that_names_the_file(
    tmp_path: Path, version: int, name: str, damage: Callable[[dict[str, Any]], object]
) -> None:
    content = version_1() if version == 1 else json.loads(to_json(made.file("none")))
    damage(content)
    path = written(tmp_path, content)
    with pytest.raises(UserError) as error:
        read_results(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[1, 2", "nul", "[" * 100_000, '{"a":' * 5_000, "\ufeff{}", "1", "null", "[]", '"x"']
)
def test_no_text_is_more_than_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_results(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 700


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_bytes(b"\xff\xfe\x00{\x80")
    with pytest.raises(UserError, match="not a results file"):
        read_results(tmp_path / "results.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(10**30), 10**30) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PLACES = [
    *(("checkpoint",), ("suites",), ("suites", "imagenet"), ("name",), ("versions",), ("preprocessing",)),
    *(("checkpoint", field) for field in ("model", "seed", "weight", "experiment", "workdir", "target", "dataset")),
    *(("suites", "imagenet", field) for field in ("n", "scores", "groups", "data", "details", "title", "seconds")),
    *(("suites", "imagenet", "scores", "top1", field) for field in ("value", "unit", "interval", "method", "role")),
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PLACES), JSON, st.sampled_from([1, 2]))
def test_any_json_anywhere_is_read_or_one_error(place: tuple[str, ...], value: Any, version: int) -> None:
    content = version_1() if version == 1 else json.loads(to_json(made.file("none")))
    inner = content
    for name in place[:-1]:
        inner = inner.setdefault(name, {})
    inner[place[-1]] = value
    try:
        file = parse(json.dumps(content).encode(), "there")
    except UserError as e:
        assert str(e).startswith("there: ") and "\n" not in str(e)
    else:
        assert msgspec.convert(json.loads(to_json(file)), type(file)) == file, "what is read can be written"


@pytest.mark.skipif(not FIELD_CASES.exists(), reason="no field cases (LUAB_JAX_TEST_DATA)")
@pytest.mark.parametrize("name", ["deep", "ece_str", "hugeint", "left_out_list"])
def test_field_cases_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"{name}.json: not a results file"):
        read_results(FIELD_CASES / f"{name}.json")


@pytest.mark.skipif(not FIELD_CASES.exists(), reason="no field cases (LUAB_JAX_TEST_DATA)")
def test_a_file_whose_workdir_is_in_a_bucket_is_read() -> None:
    assert read_results(FIELD_CASES / "workdir_gs.json").run.workdir == "gs://x/y"
