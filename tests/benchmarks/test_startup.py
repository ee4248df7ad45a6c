"""The table of start-up: every command reaches its line, cold and warm."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from benchmarks import startup
from tests.xla_flags import QUICK_TO_COMPILE


def test_a_command_and_a_server_have_their_times(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XLA_FLAGS", QUICK_TO_COMPILE)
    sizes = ["--num_train=24", "--num_val=8", "--batch_size=8"]
    monkeypatch.setattr(sys, "argv", ["startup", "--rounds=1", "--only=main,serve", *sizes])
    startup.main()
    chosen = [case for case in startup.cases((), 8) if "main" in case.name or "serve" in case.name]
    assert len(chosen) == 2
    for row, case in zip(capsys.readouterr().out.splitlines()[-2:], chosen, strict=True):
        found = re.fullmatch(rf"{re.escape(case.name)} +([\d.]+) / *([\d.]+) +([\d.]+) / *([\d.]+)", row)
        assert found is not None and all(float(number) > 0 for number in found.groups()), row


@pytest.mark.parametrize("line", ["never said", ""])
def test_a_command_that_fails_is_shown(line: str, tmp_path: Path) -> None:
    case = startup.Case("fails", line, lambda folder, start: ["luab_jax.report", str(folder / start)], "")
    with pytest.raises(SystemExit, match=r"luab_jax\.report .*: exit status 1\nerror: "):
        startup.measure(case, tmp_path, "missing.json", startup.environment_of(tmp_path))
