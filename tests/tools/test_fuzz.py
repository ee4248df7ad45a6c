"""A few hundred of the inputs that `python -m tools.fuzz` makes by the million, and that it notices what it should."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luab_jax.errors import DataError, UserError
from tools.fuzz import workers
from tools.fuzz.__main__ import main
from tools.fuzz.reader import Reader
from tools.fuzz.readers import READERS


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Reader]]:
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    yield {name: make(tmp_path_factory.mktemp(name)) for name, make in READERS.items()}
    patch.undo()


@pytest.mark.parametrize("name", READERS)
def test_what_is_whole_is_accepted(made: dict[str, Reader], name: str) -> None:
    accepted = 0
    for data in made[name].seeds:
        try:
            made[name].read(data)
        except UserError:  # a list of classes is no list of labels, an empty list of records no object
            continue
        accepted += 1
    assert accepted or name == "lists"


@pytest.mark.parametrize("name", [name for name in READERS if name != "video"])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rng=st.randoms(use_true_random=False))
def test_damaged_input_is_accepted_or_refused(made: dict[str, Reader], name: str, rng: Random) -> None:
    data = made[name].input(rng)
    try:
        made[name].read(data)
    except UserError as e:
        assert str(e).isprintable() or "\n" in str(e)


def test_damaged_videos_are_accepted_or_refused_by_a_process_of_their_own() -> None:
    """What decodes them is ffmpeg: a crash of it would end the tests, and they could not end it if it hung."""
    (result,) = workers.fuzz({"video": READERS["video"]}, inputs=30, seed=0, workers=1, timeout=60)
    assert result.crashes == []
    assert result.sums["refused"] + result.sums["accepted"] == 30 and result.sums["refused"]


def test_an_input_is_a_function_of_seed_reader_and_number(made: dict[str, Reader]) -> None:
    inputs = [made["json"].input(workers.rng_of(seed, "json", i)) for seed in (0, 1) for i in range(20)]
    again = [made["json"].input(workers.rng_of(seed, "json", i)) for seed in (0, 1) for i in range(20)]
    assert inputs == again and len(set(inputs)) > 20


def test_the_command_prints_a_table_and_replays(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--inputs=40", "--readers=boxes,lists", "--workers=2"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{name:<10}         20" in printed for name in ("boxes", "lists")) and "40 inputs, 0 crashes" in printed
    saved = tmp_path / "input"
    assert main(["--replay=boxes:7", f"--save={saved}"]) == 0
    assert f"{len(saved.read_bytes()):,} bytes" in capsys.readouterr().out


def naughty(scratch: Path) -> Reader:
    """Hangs over a 1, dies of a 2, has a bug at 3, refuses 4."""

    def read(data: bytes) -> None:
        match data:
            case b"1":
                time.sleep(60)
            case b"2":
                os._exit(9)
            case b"3":
                raise KeyError("bug")
            case b"4":
                raise DataError("refused")

    return Reader([b"0"], [lambda _, rng: rng.choice((b"0", b"1", b"2", b"3", b"4"))], read)


def test_hangs_deaths_and_bugs_are_told_apart_and_the_rest_is_still_read() -> None:
    count = 12
    values = [naughty(Path()).input(workers.rng_of(0, "naughty", i)) for i in range(count)]
    assert set(values) == {b"0", b"1", b"2", b"3", b"4"}
    (result,) = workers.fuzz({"naughty": naughty}, inputs=count, seed=0, workers=1, timeout=0.5)
    assert result.sums["refused"] == values.count(b"4") and result.sums["accepted"] == values.count(b"0")
    words = {b"1": "hangs", b"2": "died with exit code 9", b"3": "KeyError"}
    wanted = {i: words[value] for i, value in enumerate(values) if value in words}
    found = dict(result.crashes)
    assert found.keys() == wanted.keys() and all(wanted[i] in text for i, text in found.items())
