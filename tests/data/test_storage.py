"""Files appear as a whole, and what was begun and left is cleared away."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from luab_jax.data.storage import remove_abandoned


def test_what_a_killed_process_began_is_removed_and_what_others_write_is_not(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = socket.gethostname()
    abandoned = tmp_path / f"a.tfrecord.{host}-{dead.pid}.tmp"
    kept = [tmp_path / f"b.{host}-{os.getpid()}.tmp", tmp_path / "c.elsewhere-1.tmp", tmp_path / "d.tfrecord"]
    for path in (abandoned, *kept):
        path.write_bytes(b"x")
    remove_abandoned(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)
