"""The notebook runs from top to bottom as its reader runs it, on a handful of drawn images."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.xla_flags import QUICK_TO_COMPILE

PATH = Path(__file__).resolve().parents[2] / "notebooks" / "evaluate.ipynb"
TINY = {"NUM_TRAIN": 32, "NUM_VAL": 8, "STEPS": 2, "SUITES": "imagenet,demo_size"}


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(PATH, as_version=4)


def test_what_is_committed_holds_no_outputs(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and not [cell.id for cell in code if cell.outputs or cell.execution_count is not None]


@pytest.mark.filterwarnings("default")  # of the kernel's client, about the event loop and where its files lie
def test_it_ends_with_the_report_and_its_pictures(
    notebook: nbformat.NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLA_FLAGS", QUICK_TO_COMPILE)  # one device, as on a laptop
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", os.environ["LUAB_JAX_TEST_CACHE"])
    cells = {cell.id: cell for cell in notebook.cells}
    assert "parameters" in cells["parameters"].metadata.tags
    for name, value in TINY.items():
        assert name in cells["parameters"].source, "the notebook has no such parameter"
        cells["parameters"].source += f"\n{name} = {value!r}"
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()

    shown = {id: [output.get("data", {}) for output in cell.get("outputs", [])] for id, cell in cells.items()}
    assert any("image/png" in data for data in shown["data"]), "the picture of training crops"
    page = next(data["text/html"] for data in shown["report"] if "text/html" in data)
    for part in ("iframe", "Headline scores", "LUAB click_last", "Example images", "data:image/png;base64,"):
        assert part in page
    table = "".join(data.get("text/markdown", "") for data in shown["table"])
    assert "top1 %" in table and "| demo\\_size top1 %" in table
    assert "points" in "".join(output.get("text", "") for output in cells["prediction"].outputs)
    sources = "".join(cell.source for cell in notebook.cells)
    assert "subprocess" not in sources
