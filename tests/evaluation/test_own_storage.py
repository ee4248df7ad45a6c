"""Where one of several models keeps its results fails, in every place: it alone is stopped, by one line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import luab_jax
from luab_jax.errors import StorageError, WriteError
from luab_jax.evaluation import own_storage, resume
from luab_jax.evaluation.procedures.by_image import ByImage, Items
from luab_jax.evaluation.resume import Work
from luab_jax.evaluation.suite import Part, Procedure, Suite
from luab_jax.evaluation.suites import SUITES
from luab_jax.io import storage
from luab_jax.io.atomic import guarded
from tests import tiny
from tests.emulators import emulated
from tests.evaluation.test_together import brightest, of_others, scores

IMAGENET = next(suite for suite in SUITES if suite.name == "imagenet")


class Sums:
    """Adds up numbers."""

    def __init__(self, work: Work):
        kept = list(work.done())
        self.done, self._work = sum(step.stop - step.start for step in kept), work
        self._sum = sum(int(step.columns["x"].sum()) for step in kept)

    def take(self, item: int) -> None:
        self._sum += item
        self._work.add(1, {"x": np.full(1, item)})

    def scores(self) -> dict[str, float]:
        return {"top1": self._sum / 100, "n": 5}


SHARED = ByImage(
    "sums", lambda _, __: Items(5, lambda start: iter(range(start, 5)), lambda _, work: Sums(work)), lambda _: 0
)


def alone(_: Any, __: Any, work: Work) -> Mapping[str, float]:
    sums = Sums(work)
    for number in range(sums.done, 5):
        sums.take(number)
    return sums.scores()


def procedure(name: str, method: Callable[..., Any]) -> Suite:
    return Suite(name, {"val": Part((".",), "val")}, Procedure(method), "top1", protocol="")


CHOSEN = {"imagenet": IMAGENET, "shared": procedure("shared", SHARED), "alone": procedure("alone", alone)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare_split(tmp_path_factory.mktemp("data"), "val", 11)


@contextlib.contextmanager
def unwritable(part: str) -> Iterator[None]:
    """A file of this ending, or all in a folder."""

    def check(path: str) -> None:
        if path.endswith(part) or (part.endswith("/") and part in path):
            raise WriteError(f"{path}: no space left")

    with guarded(check):
        yield


@contextlib.contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    """A call of `storage` on the unfinished work of the model `full`."""
    call = getattr(storage, name)

    def fails(path: Any, *rest: Any) -> Any:
        if "full.json.unfinished/" in str(path):
            raise StorageError(f"{path}: 503")
        return call(path, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(storage, name, fails)
        yield


def evaluated(
    data: Path, folder: Path, suites: list[Suite], names: tuple[str, ...] = ("full", "d", "e")
) -> dict[str, luab_jax.SuiteResults | luab_jax.UserError]:
    models = {name: of_others(brightest, name) for name in names}
    outs = {name: folder / f"{name}.json" for name in models}
    options = {"batch_size": 4, "examples": 0, "predictions": folder / "predictions"}
    return luab_jax.run_suites_together(models, data, suites, outs, **options)


@pytest.mark.parametrize("suite", CHOSEN)
@pytest.mark.parametrize("flush_s", [0.0, 20.0])
@pytest.mark.parametrize("place", ["full.json.unfinished/", "full.answers.npz", "full.json", "predictions/full/"])
def test_what_cannot_be_written_stops_its_model_alone(
    place: str, flush_s: float, suite: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "FLUSH_S", flush_s)
    with unwritable(place):
        found = evaluated(data, tmp_path, [CHOSEN[suite], CHOSEN["shared"]])
    if place == "predictions/full/" and suite != "imagenet":  # a procedure keeps none
        assert isinstance(found["full"], luab_jax.SuiteResults)
        return
    assert isinstance(found["full"], WriteError) and "no space left" in str(found["full"])
    expected = evaluated(data, tmp_path / "again", [CHOSEN[suite], CHOSEN["shared"]])
    for name in ("d", "e"):
        assert scores(found[name]) == scores(expected[name])
    assert not list(tmp_path.glob("[de].json.unfinished"))
    again = evaluated(data, tmp_path, [CHOSEN[suite], CHOSEN["shared"]])
    assert {name: scores(of) for name, of in again.items()} == {name: scores(of) for name, of in expected.items()}


@pytest.mark.parametrize("suite", CHOSEN)
@pytest.mark.parametrize("call", ["names", "read_all", "remove_folder"])
def test_what_cannot_be_read_or_removed_stops_its_model_alone(
    call: str, suite: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "FLUSH_S", 0.0)
    with unwritable("full.answers.npz"):  # so that something is kept
        evaluated(data, tmp_path, [CHOSEN[suite]])
    assert list(tmp_path.glob("full.json.unfinished/*/*.npz"))
    with failing(monkeypatch, call):
        found = evaluated(data, tmp_path, [CHOSEN[suite]])
    assert isinstance(found["full"], StorageError) and str(found["full"]).endswith("503")
    assert scores(found["d"]) == scores(found["e"])
    again = evaluated(data, tmp_path, [CHOSEN[suite]])
    assert scores(again["full"]) == scores(found["d"])


def test_one_model_whose_results_cannot_be_written_ends_by_that_line(data: Path, tmp_path: Path) -> None:
    with unwritable("full.answers.npz"), pytest.raises(WriteError, match="no space left"):
        luab_jax.run_suites(of_others(brightest, "full"), data, [IMAGENET], tmp_path / "full.json", examples=0)


def test_a_bucket_that_is_closed_in_the_middle_stops_its_model_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gcsfs")
    monkeypatch.setattr(resume, "FLUSH_S", 0.0)
    with emulated("gs") as (server, bucket):

        def closes(images: np.ndarray) -> np.ndarray:
            server.behaviour.closed.add(bucket)
            return brightest(images)

        models = {"full": of_others(closes, "full"), "d": of_others(brightest, "d")}
        outs = {"full": f"gs://{bucket}/full.json", "d": tmp_path / "d.json"}
        found = luab_jax.run_suites_together(models, data, [IMAGENET, CHOSEN["shared"]], outs, batch_size=4, examples=0)
        assert isinstance(found["full"], StorageError)
        assert "cannot be written" in str(found["full"]) and "no access" in str(found["full"])
        assert scores(found["d"])
        server.behaviour.closed.clear()
        storage.remove(f"{outs['full']}.lease")  # which could not be removed either
        again = luab_jax.run_suites_together(
            models | {"full": of_others(brightest, "full")}, data, [IMAGENET], outs, batch_size=4, examples=0
        )
        assert scores(again["full"]).items() <= scores(found["d"]).items()


def test_an_error_of_one_host_is_one_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_storage, "exchange", lambda own: [own, "b: full", None])
    with pytest.raises(StorageError, match=r"^host 2 of 3: b: full$"), own_storage.agreed():
        pass
    with pytest.raises(WriteError, match=r"^a: full$"), own_storage.agreed():
        raise WriteError("a: full")
    monkeypatch.setattr(own_storage, "exchange", lambda own: [own, None, None])
    with own_storage.agreed():
        pass
    with pytest.raises(KeyError), own_storage.agreed():
        raise KeyError


def test_the_first_of_several_hosts_goes_on_until_all_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others predict together with it, and would wait for its part; they are told after so many steps, or at the
    end."""
    monkeypatch.setattr(resume, "FLUSH_S", 0.0)
    monkeypatch.setattr(resume, "_SETTLE_EVERY", 3)
    monkeypatch.setattr(resume.jax, "process_count", lambda: 2)
    monkeypatch.setattr(own_storage, "exchange", lambda own: [own, None])
    monkeypatch.setattr(resume.multihost_utils, "reached_preemption_sync_point", lambda step: False)
    first, other = (Work(storage.resolved(tmp_path / name)) for name in ("full", "other"))
    with unwritable("full/"):
        for _ in range(2):
            first.add(2, {"x": np.zeros(2)})
        with pytest.raises(WriteError, match="no space left"):
            first.add(2, {"x": np.zeros(2)})
    with pytest.raises(WriteError, match="no space left"):
        first.settle()
    monkeypatch.setattr(own_storage, "exchange", lambda own: ["full", own])
    for _ in range(2):
        other.add(2, {"x": np.zeros(2)})
    with pytest.raises(StorageError, match=r"^host 1 of 2: full$"):
        other.add(2, {"x": np.zeros(2)})
    assert isinstance(other.failed, StorageError), "or it would be taken for an error of the data"
