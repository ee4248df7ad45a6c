"""What running processes use is read whole, and is forgotten when they are gone."""

from __future__ import annotations

import threading
from pathlib import Path

from luab_jax.io.use_files import UseFile


def test_what_others_use_follows_what_they_write(tmp_path: Path) -> None:
    mine, theirs = UseFile(tmp_path), UseFile(tmp_path)
    mine.write({"a"})
    for names in ({"b", "c"}, {"d"}, set()):
        theirs.write(names)
        assert mine.others() == names
    theirs.write({"b"})
    theirs.close()
    assert mine.others() == set()
    mine.close()
    assert not list(tmp_path.iterdir())


def test_what_is_being_written_is_looked_at_again(tmp_path: Path) -> None:
    mine, theirs = UseFile(tmp_path), UseFile(tmp_path)
    theirs.write({"b"})
    theirs.path.write_text("[")
    threading.Timer(0.05, theirs.write, [{"c"}]).start()
    assert mine.others() == {"c"}
    theirs.close()


def test_what_a_process_that_is_gone_left_is_removed(tmp_path: Path) -> None:
    left, mine = UseFile(tmp_path).path, UseFile(tmp_path)
    left.write_text('["b"]')
    assert mine.others() == set()
    assert not left.exists()


def test_other_files_whose_names_begin_so_stay(tmp_path: Path) -> None:
    other = tmp_path / "use-cases.json"
    other.write_text('["b"]')
    assert UseFile(tmp_path).others() == set()
    assert other.exists()
