"""A run starts without its cache of compiled programs where there can be none, and says so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from luab_jax.io.cache import cache_folder


def test_it_is_made_below_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert os.fspath(cache_folder("~/.cache/luab_jax") or "") == str(tmp_path / ".cache" / "luab_jax")
    assert (tmp_path / ".cache" / "luab_jax").is_dir()
    assert os.fspath(cache_folder("gs://bucket/cache") or "") == "gs://bucket/cache"
    assert cache_folder("") is None


def test_without_a_home_or_below_a_file_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert cache_folder("~a_user_that_is_not_there/cache") is None
    assert "cannot be kept (this user has no home)" in capsys.readouterr().err
    assert cache_folder(str(tmp_path / "file" / "cache")) is None
    assert "cannot be kept (Not a directory), so every start compiles them again" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "no folder named ~"
