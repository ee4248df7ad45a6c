"""The examples of docs/api.md run as they stand, in order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from data_prep.__main__ import main as data_prep

DOCUMENT = Path(__file__).parents[1] / "docs" / "api.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_every_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert data_prep(["demo", "--out=DATA", "--num_train=32", "--num_val=8", "--workers=1"]) == 0
    names: dict[str, object] = {}
    for example in EXAMPLES:
        exec(compile(example, DOCUMENT.name, "exec"), names)
    assert len(EXAMPLES) >= 7
    assert {"results.json", "report.html", "luab.safetensors", "RUNS"} <= {path.name for path in tmp_path.iterdir()}
    assert "needs a map" in capsys.readouterr().out
