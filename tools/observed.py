"""What the commands make of every case of `bad_input` and `field_cases`: `python -m tools.observed` prints their
tables again, with a column of what was observed. What must hold is in test_shared_data.py, test_coco_ab.py and
test_field_cases.py.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep.__main__ import main as data_prep
from luab_jax.byproducts.icons import IconRule, action_columns, class_points
from luab_jax.byproducts.records import ImageRecord
from luab_jax.data.coco_classes import coco
from luab_jax.data.dataset import Manifest, open_split
from luab_jax.data.decoding import decode
from luab_jax.data.features import Example
from tests.data_prep.conftest import SHARED_DATA
from tools import field_cases

BAD = SHARED_DATA / "bad_input"


def prepared(arguments: list[str], out: Path) -> tuple[str, Manifest | None, dict[str, ImageRecord]]:
    """The error, if any, and what was written otherwise."""
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO()):
        code = data_prep([*arguments, f"--out={out}", "--workers=1"])
    if code:
        return f"exit {code}, {stderr.getvalue().strip().splitlines()[-1]}", None, {}
    opened = open_split(out, "train")
    records = (Example(opened.records[i]).record() for i in range(len(opened.records)))
    return "", opened.manifest, {record.file_name: record for record in records}


def listed(manifest: Manifest, ending: str) -> str:
    found = [
        f"{s.reason}" + (f" ({s.detail})" if s.detail else "") for s in manifest.skipped if s.file.endswith(ending)
    ]
    return "listed: " + "; ".join(found) if found else "nothing listed"


def of_xml(manifest: Manifest, records: dict[str, ImageRecord], name: str) -> str:
    if name.startswith("._"):
        ignored = not any(name in s.file for s in manifest.skipped)
        return "ignored: neither listed nor counted" if ignored else listed(manifest, name)
    record = records.get(f"n01443537/{name.removesuffix('.xml')}.JPEG")
    if record is None:
        return listed(manifest, name)
    selected = [showing for showing in record.showings if showing.selected]
    if not record.showings:
        counted = manifest.counts["byproduct_files_without_metadata"]
        without = not any(s.file.endswith(name) for s in manifest.skipped)
        kept = "image kept without byproduct" + (f", counted as 1 of {counted} files without metadata" * without)
    elif not selected:
        kept = "image kept, not selected"
    else:
        clicks = [f"({c.x:.2f}, {c.y:.2f})" for showing in selected for c in showing.clicks]
        trace = sum(len(showing.trace) for showing in selected)
        shown = f"{len(selected)} selected showing(s), click {', '.join(clicks) or 'none'}, {trace} trace points"
        kept = f"image kept, {shown}"
    return f"{kept}; {listed(manifest, name)}"


def of_image(manifest: Manifest, records: dict[str, ImageRecord], name: str) -> str:
    record = records.get(f"n01443537/{name}")
    if record is None:
        return f"left out; {listed(manifest, name)}"
    shape = np.asarray(decode(record.image, name)).shape
    clicks = [f"({c.x:.2f}, {c.y:.2f})" for showing in record.showings if showing.selected for c in showing.clicks]
    as_it_came = record.image == (BAD / "imagenet" / "train" / record.file_name).read_bytes()
    stored = "kept, bytes as they came" if as_it_came else "kept, OTHER BYTES"
    return f"{stored}, decodes to {shape}, click {', '.join(clicks) or 'none'}; {listed(manifest, name)}"


def of_coco(name: str, folder: Path) -> str:
    mini = SHARED_DATA / "coco_ab_mini"
    instances, given = mini / "annotations" / "instances_train.json", [f"--byproducts={BAD / 'coco' / name}"]
    if name.startswith("instances"):
        instances, given = BAD / "coco" / name, []
    arguments = ["coco_ab", f"--images={mini / 'train'}", f"--instances={instances}", "--min_match=0", *given]
    error, manifest, records = prepared(arguments, folder / name)
    if manifest is None:
        written = "something" if (folder / name).exists() else "nothing"
        return f"{error.replace(str(SHARED_DATA), '...')}; {written} written"
    icons = [f"{i}: {', '.join(final_icons(records, i)) or 'none'}" for i in (184613, 309022)]
    skipped = "; ".join(f"{s.file}: {s.reason} ({s.detail})" for s in manifest.skipped) or "nothing"
    return f"final icons of {'; '.join(icons)}; listed: {skipped}"


def final_icons(records: dict[str, ImageRecord], image_id: int) -> list[str]:
    record = next(r for name, r in records.items() if re.search(rf"0*{image_id}\.jpg$", name))
    points = class_points(IconRule.FINAL, action_columns(record.showings), 80)
    return [coco().ids[label] for label in np.flatnonzero(~np.isnan(points[:, 0]))]


def rows(folder: Path) -> Iterator[tuple[str, ...]]:
    """File, what is wrong, what is asked for, what was observed."""
    source = BAD / "imagenet"
    flags = ["imagenet_ab", f"--images={source / 'train'}", f"--byproducts={source / 'train_xml'}"]
    _, manifest, records = prepared(flags, folder / "imagenet")
    assert manifest is not None
    for line in (BAD / "MANIFEST.md").read_text().splitlines():
        found = re.match(r"\| `([^`]+)` \| (.*) \| (.*) \|$", line)
        if not found:
            continue
        path, wrong, wanted = found.groups()
        name = path.rpartition("/")[2]
        if path.startswith("coco/"):
            observed = of_coco(name, folder)
        else:
            observed = (of_xml if name.endswith(".xml") else of_image)(manifest, records, name)
        yield path, wrong, wanted, observed.replace("|", "\\|").replace("\n", " ")


def main() -> int:
    print("| file | what is wrong | what a good converter does | observed |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for path, *cells in rows(Path(folder)):
            print(f"| `{path}` | {' | '.join(cells)} |", flush=True)
        print("\n| row of field_cases | command | observed |\n| --- | --- | --- |")
        for row, command, observed in field_cases.rows(SHARED_DATA / "field_cases", Path(folder) / "field"):
            told = observed.replace("|", "\\|")
            print(f"| {row} | `{command}` | {told} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
