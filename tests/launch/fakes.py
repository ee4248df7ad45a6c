"""Executables in place of gcloud, srun, scontrol and sky: they record what they were asked, and answer as told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

_FAKE = """#!{python}
import fcntl, json, os, sys
folder = {folder!r}
name = os.path.basename(sys.argv[0])
lock = open(f"{{folder}}/lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)  # several may be asked at once
with open(f"{{folder}}/asked.jsonl", "a") as file:
    file.write(json.dumps([name, *sys.argv[1:]]) + "\\n")
with open(f"{{folder}}/answers.json") as file:
    answers = json.load(file)
line = " ".join([name, *sys.argv[1:]])
for key, queue in answers.items():
    if key in line and queue:
        output, code = queue.pop(0) if len(queue) > 1 else queue[0]
        with open(f"{{folder}}/answers.json", "w") as file:
            json.dump(answers, file)
        print(output)
        sys.exit(code)
"""


class Fakes:
    """A folder of fake executables, first in PATH."""

    def __init__(self, folder: Path, *names: str):
        self.folder = folder
        (folder / "bin").mkdir(parents=True)
        for name in names:
            path = folder / "bin" / name
            path.write_text(_FAKE.format(python=sys.executable, folder=str(folder)))
            path.chmod(0o755)
        self.answer({})

    def answer(self, answers: dict[str, list[tuple[str, int]]]) -> None:
        """By a part of the command line: outputs and exit codes, one after the other; the last one stays."""
        (self.folder / "answers.json").write_text(json.dumps(answers))

    @property
    def asked(self) -> list[list[str]]:
        path = self.folder / "asked.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return subprocess.run(
            command, env=clean | {"PATH": path} | environment, text=True, capture_output=True, timeout=60, check=False
        )
