"""What a run leaves to read: whole lines, once per step, also after a crash."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from etils import epath

from luab_jax.io.console import say
from luab_jax.metrics.history import read_metrics
from luab_jax.training.metric_log import MetricLog, eval_line, train_line


def log(workdir: Path, *, resume_step: int = 0, tensorboard: bool = False, active: bool = True) -> MetricLog:
    return MetricLog(epath.Path(workdir), resume_step=resume_step, tensorboard=tensorboard, active=active)


def lines(workdir: Path) -> list[str]:
    return (workdir / "metrics.jsonl").read_text().splitlines()


def test_every_write_is_one_line_of_json(tmp_path: Path) -> None:
    written = log(tmp_path)
    written.write(1, {"train/loss": 0.5})
    written.write(2, {"train/loss": 0.25, "train/top1": 1.0})
    assert [json.loads(line) for line in lines(tmp_path)] == [
        {"step": 1, "train/loss": 0.5},
        {"step": 2, "train/loss": 0.25, "train/top1": 1.0},
    ]
    assert read_metrics(tmp_path) == [json.loads(line) for line in lines(tmp_path)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_becomes_null_since_json_has_no_other(tmp_path: Path, value: float) -> None:
    log(tmp_path).write(3, {"loss": value, "top1": 0.5})
    assert json.loads(lines(tmp_path)[0], parse_constant=pytest.fail) == {"step": 3, "loss": None, "top1": 0.5}


def test_on_resume_the_lines_of_lost_work_are_cut(tmp_path: Path) -> None:
    first = log(tmp_path)
    for step in (10, 20, 30, 40):
        first.write(step, {"loss": float(step)})
    resumed = log(tmp_path, resume_step=20)
    resumed.write(30, {"loss": -1.0})
    assert [(row["step"], row["loss"]) for row in read_metrics(tmp_path)] == [(10, 10.0), (20, 20.0), (30, -1.0)]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_bucket_that_cannot_append_gets_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = log(tmp_path)
    first.write(10, {"loss": 1.0})
    first.write(20, {"loss": 2.0})
    monkeypatch.setattr("luab_jax.training.metric_log._can_append", lambda path: False)
    resumed = log(tmp_path, resume_step=10)
    resumed.write(20, {"loss": 3.0})
    resumed.write(30, {"loss": 4.0})
    assert [(row["step"], row["loss"]) for row in read_metrics(tmp_path)] == [(10, 1.0), (20, 3.0), (30, 4.0)]


@pytest.mark.parametrize("torn", ['{"step": 30, "lo', "{", '{"loss": 1.0}', "[30]", "30", "\x00\x00"])
def test_a_last_line_torn_by_a_crash_is_ignored_and_then_cut(tmp_path: Path, torn: str) -> None:
    log(tmp_path).write(10, {"loss": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(torn)
    assert read_metrics(tmp_path) == [{"step": 10, "loss": 1.0}]
    log(tmp_path, resume_step=30).write(40, {"loss": 2.0})
    assert [row["step"] for row in map(json.loads, lines(tmp_path))] == [10, 40]


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    silent = log(tmp_path, active=False, tensorboard=True)
    silent.write(1, {"loss": 1.0})
    silent.close()
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_metrics_has_none(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []


def tensorboard_scalars(workdir: Path) -> dict[tuple[str, int], float]:
    """Read back from the event files, which are TFRecords of `Event` messages, by our own reader of such files."""
    tensorboardX = pytest.importorskip("tensorboardX")
    from luab_jax.data.tfrecord import scan

    found = {}
    for path in sorted((workdir / "tensorboard").iterdir()):
        with path.open("rb") as file:
            for _, data in scan(file, path.name):
                event = tensorboardX.proto.event_pb2.Event.FromString(data)
                for value in event.summary.value:
                    found[value.tag, event.step] = value.simple_value
    return found


def test_tensorboard_gets_the_same_scalars(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    written = log(tmp_path, tensorboard=True)
    written.write(1, {"train/loss": 0.5, "train/top1": 0.25})
    written.write(2, {"train/loss": 0.125})
    written.close()
    assert tensorboard_scalars(tmp_path) == {("train/loss", 1): 0.5, ("train/top1", 1): 0.25, ("train/loss", 2): 0.125}
    assert [row["train/loss"] for row in read_metrics(tmp_path)] == [0.5, 0.125]


SCALARS = {
    "train/loss": 5.9131,
    "train/top1": 0.041,
    "time/images_per_s": 812.4,
    "time/step_ms": 1260.6,
    "time/data_wait_share": 0.021,
    "time/remaining_s": 111_720.0,
}


def test_the_training_line_reads_as_documented() -> None:
    expected = "loss 5.9131  top1 4.1%  812 images/s  1,261 ms/step  data wait 2%  31h02m left"
    assert train_line(1200, 112_500, SCALARS) == f"step 1,200/112,500  {expected}"
    with_byproduct = train_line(1200, 112_500, SCALARS | {"train/byproduct_loss": 0.05})
    assert "loss 5.9131  byproduct 0.0500  top1" in with_byproduct


def test_the_evaluation_line_names_every_score() -> None:
    assert eval_line(1200, {"eval/top1": 0.5, "eval/top5": 0.75}) == "step 1,200 evaluated: top1 0.5000  top5 0.7500"


def test_messages_for_people_leave_stdout_alone(capsys: pytest.CaptureFixture) -> None:
    say("hello")
    say("not here", active=False)
    assert capsys.readouterr() == ("", "hello\n")
