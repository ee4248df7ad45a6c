"""`python -m tools.proof` fails where a score is not its reference."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("sklearn", reason="the references are scikit-learn's")

from tools import proof
from tools.proof import Proof

SAME = Proof("same", "by hand", lambda _: [(0.5, 0.5), (0.25, 0.25 + 1e-16)])


def ends_with(monkeypatch: pytest.MonkeyPatch, *proofs: Proof) -> int:
    monkeypatch.setattr(proof, "PROOFS", proofs)
    return proof.main()


@pytest.mark.parametrize("other", [0.5 + 1e-9, math.nan])
def test_a_difference_beyond_the_tolerance_is_named_and_is_a_failure(
    other: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = Proof("moved", "by hand", lambda _: [(0.5, 0.5), (0.5, other)])
    assert ends_with(monkeypatch, SAME, moved) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "beyond the tolerance: moved"
    if not math.isnan(other):
        assert ends_with(monkeypatch, moved._replace(tolerance=1e-8)) == 0


def test_rounding_is_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends_with(monkeypatch, SAME) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[-2:] == ["1.1e-16", "1e-12"]


def test_no_row_may_be_far_from_its_reference() -> None:
    assert max(row.tolerance for row in proof.PROOFS) <= 1e-6
