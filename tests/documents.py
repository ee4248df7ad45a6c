"""The commands that documents show: in blocks, and within sentences."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(path for path in ROOT.glob("*/**/README.md") if "." not in path.relative_to(ROOT).parts[0]),
)

_PROGRAMS = (
    *("python", "python3", "make", "pip", "luab-jax", "bash", "uv", "apt-get", "curl", "wget", "docker", "gcloud"),
    *("kubectl", "xpk", "sbatch", "srun", "sky", "gsutil", "aws", "npm", "tar", "unzip", "ssh"),
)
_COMMAND = re.compile(rf"(?:[A-Z_]+=\S+ )*(?:{'|'.join(map(re.escape, _PROGRAMS))}) (?!-m$)\S")
_SHELLS = ("", "sh", "bash", "shell", "console")
_NOT_RUN = re.compile(r"\bnot (?:been )?run\b", re.IGNORECASE)


class Shown(NamedTuple):
    """One command of a document."""

    place: str
    """Document and line."""
    text: str
    """Without prompt, comment and line breaks."""
    says_not_run: bool
    """In a comment behind or above it, in its paragraph, or in the document's first one."""

    @property
    def words(self) -> list[str]:
        """Without brackets around what may be left out, and without dots for what is not shown."""
        words = _words(self.text)
        return [re.sub(r"=\.\.\.$", "=1", word) for word in words if word != "..."]

    @property
    def options(self) -> set[str]:
        """`--suites`; neither fields of a config, nor what is in brackets, as in lists of all that a command takes."""
        words = (word.partition("=")[0] for word in _words(re.sub(r" \[.*\]", "", self.text)))
        return {word for word in words if word.startswith("--") and not word.startswith("--config.")}


def _words(text: str) -> list[str]:
    words = shlex.split(text)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words.pop(0)
    bare = []
    for word in words:
        word = word.lstrip("[")
        while word.endswith("]") and word.count("]") > word.count("["):
            word = word[:-1]
        bare.append(word)
    return bare


def commands(document: Path) -> Iterator[Shown]:
    """Every one that the document shows, once for each place."""
    yield from commands_of(document.read_text(encoding="utf-8").splitlines(), str(document.relative_to(ROOT)))


def commands_of(lines: list[str], name: str) -> Iterator[Shown]:
    """The same of a document's lines."""
    everywhere = bool(_NOT_RUN.search(_first_paragraph(lines)))
    for start, block, is_code in _blocks(lines):
        if not is_code:
            said = everywhere or bool(_NOT_RUN.search(" ".join(block)))
            for span in re.findall(r"`([^`]+)`", " ".join(block)):
                if _COMMAND.match(span):
                    yield Shown(f"{name}:{start + 1}", " ".join(span.split()), said)
            continue
        said = everywhere
        numbered = iter(enumerate(_joined(block), start + 1))
        for number, line in numbered:
            text = line.strip().removeprefix("$ ")
            if text.startswith("#"):
                said = everywhere or bool(_NOT_RUN.search(text))
                continue
            while text.endswith("\\"):
                text = f"{text[:-1].rstrip()} {next(numbered)[1].strip()}"
            command, _, comment = text.partition(" #")
            if _COMMAND.match(command):
                yield Shown(f"{name}:{number}", command.strip(), said or bool(_NOT_RUN.search(comment)))


def _joined(block: list[str]) -> list[str]:
    """Options in brackets, below the command that they are of, stand behind it; the number of lines stays."""
    found: list[str] = []
    for line in block:
        continues = line.strip().startswith("[") and found and not found[-1].rstrip().endswith("\\")
        if continues:
            at = next(number for number in range(len(found) - 1, -1, -1) if found[number])
            found[at] += f" {line.strip()}"
        found.append("" if continues else line)
    return found


def _first_paragraph(lines: list[str]) -> str:
    below_the_title = itertools.dropwhile(lambda line: line.startswith("#") or not line, lines)
    return " ".join(itertools.takewhile(lambda line: line and not line.startswith("    "), below_the_title))


def _blocks(lines: list[str]) -> Iterator[tuple[int, list[str], bool]]:
    """(number of the line before, lines, whether they are code); code of other languages is left out."""
    number = 0
    while number < len(lines):
        start, line = number, lines[number]
        number += 1
        if line.startswith("```"):
            while number < len(lines) and not lines[number].startswith("```"):
                number += 1
            if line[3:].strip() in _SHELLS:
                yield start + 1, lines[start + 1 : number], True
            number += 1
        elif line.startswith("    "):
            while number < len(lines) and (lines[number].startswith("    ") or not lines[number]):
                number += 1
            yield start, lines[start:number], True
        elif line:
            while number < len(lines) and lines[number] and not lines[number].startswith(("    ", "```")):
                number += 1
            yield start, lines[start:number], False
