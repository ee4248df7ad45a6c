"""`tools.damage`: what is kept decodes, what is left out does not, and without the check the campaign says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.test_whole_images import PHOTOS
from tools.damage import DAMAGES, main

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for k, photo in enumerate(PHOTOS):
        suffix = "png" if photo.startswith(b"\x89PNG") else "jpg"
        (tmp_path / f"{k}.{suffix}").write_bytes(photo)
    return tmp_path


def test_damaged_photos_are_left_out_or_decode_everywhere(photos: Path, capsys: Capture) -> None:
    assert main([f"--source={photos}", "--photos=160", "--flags=--workers=1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:16].strip() for line in lines[1:-2]] == list(DAMAGES)
    count, left_out, kept, later, wrongly = map(int, lines[-2].split()[1:])
    assert (count, left_out + kept, later, wrongly) == (160, 160, 0, 0) and min(left_out, kept) > 20


def test_without_the_check_the_campaign_fails(photos: Path, capsys: Capture) -> None:
    assert main([f"--source={photos}", "--photos=160", "--flags=--workers=1 --no_decode_check"]) == 1
    lines = capsys.readouterr().out.splitlines()
    later = int(next(line for line in lines if line.startswith("all ")).split()[4])
    assert later > 0 and "fails" not in lines[-1] and lines[-1].endswith("exit 1")
