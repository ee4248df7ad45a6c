"""results.json: what is finished, and what it was computed on."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath

from luab_jax import checkpoint as checkpoint_lib
from luab_jax.errors import UserError
from luab_jax.evaluation.saved import preprocessing_json
from luab_jax.evaluation.suite_run import Evaluated
from luab_jax.evaluation.unfinished import Unfinished

RESULTS_VERSION = 1
COMPILATIONS = "compilations"
_OF_THE_LAST_RUN = (COMPILATIONS,)


class Results:
    """results.json, written after every suite; of the running ones `unfinished` keeps what was computed.

    With several hosts all have the same, and the first one writes.
    """

    def __init__(self, path: epath.PathLike, loaded: Evaluated, *, overwrite: bool = False):
        """Continues the file of the same checkpoint; refuses another's unless told to overwrite it."""
        self._path = epath.Path(path)
        self.content: dict[str, Any] = {
            "results_version": RESULTS_VERSION,
            "checkpoint": loaded.identity,
            "name": loaded.name,
            "preprocessing": preprocessing_json(loaded.preprocessing),
            "suites": {},
            "versions": checkpoint_lib.versions(),
        }
        if self._path.exists() and not overwrite:
            old = read_results(self._path)
            if old["checkpoint"] != json.loads(json.dumps(loaded.identity)):
                raise UserError(
                    f"{path}: holds results of {_other(old['checkpoint'])}; choose another --out, or --overwrite"
                )
            self.content["suites"] = old["suites"]
            self.content |= {name: old[name] for name in _OF_THE_LAST_RUN if name in old}
        facts = {name: value for name, value in self.content.items() if name not in ("suites", *_OF_THE_LAST_RUN)}
        self.unfinished = Unfinished(self._path, facts)

    @property
    def suites(self) -> dict[str, dict[str, Any]]:
        return self.content["suites"]

    def add(self, name: str, scores: Mapping[str, Any]) -> None:
        self.suites[name] = dict(scores)
        self._write()

    def note(self, name: str, value: Mapping[str, Any]) -> None:
        """How the run went that computed something last."""
        assert name in _OF_THE_LAST_RUN
        self.content[name] = dict(value)
        self._write()

    def _write(self) -> None:
        if jax.process_index() != 0:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part = self._path.with_name(self._path.name + ".tmp")
            part.write_text(json.dumps(self.content, indent=1) + "\n")
            part.replace(self._path)
        except OSError as e:
            raise UserError(f"{os.fspath(self._path)}: cannot be written ({e.strerror or e})") from e


_STATED: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("model", "target", "chosen", "dataset", "class_list_hash", "workdir"), str),
    **dict.fromkeys(("seed", "step"), int),
    "weight": (int, float),
    "experiment": dict,
}
"""What a table needs of a checkpoint."""


def _check(content: Mapping[str, Any]) -> None:
    """Raises `KeyError`, `TypeError`, `ValueError` or `AttributeError` for what no table could be made of."""
    checkpoint = content["checkpoint"]
    for name, kind in _STATED.items():
        if not isinstance(checkpoint[name], kind):
            raise TypeError(f"`checkpoint` has {name}: {checkpoint[name]!r}")
    for name, scores in content["suites"].items():
        if not isinstance(scores["n"], int):
            raise TypeError(f"suite {name}: n is {scores['n']!r}")
        for group, value in scores.get("groups", {}).items():
            if not math.isfinite(value):
                raise ValueError(f"suite {name}: {group} is {value}")
        for score, (low, high) in scores.get("intervals", {}).items():
            if low > high:
                raise ValueError(f"suite {name}: the interval of {score} is [{low}, {high}]")
        for of_part in scores.get("data_notes", {}).values():
            sum(of_part.get("skipped", {}).values())
        scores.get("protocols", {}).items()


def _other(identity: Mapping[str, Any]) -> str:
    """What tells a checkpoint from others, for a message."""
    changed = identity.get("preprocessing_override")
    return (
        f"another checkpoint or preprocessing ({identity.get('workdir')}, step {identity.get('step')},"
        f" weights {identity.get('weights_hash', 'of unknown hash')},"
        f" preprocessing {f'changed by {changed}' if changed else 'as it states'}"
        f"{', from saved predictions' if identity.get('from_saved_predictions') else ''})"
    )


def read_results(path: epath.PathLike) -> dict[str, Any]:
    """Reads results.json; raises `UserError` if it is none or of another version."""
    try:
        content = json.loads(epath.Path(path).read_text())
        version = content["results_version"]
        if version == RESULTS_VERSION:
            _check(content)
    except OSError as e:
        raise UserError(f"{os.fspath(path)}: cannot be read ({e.strerror or e})") from e
    except json.JSONDecodeError as e:
        raise UserError(
            f"{os.fspath(path)}: not a results file of luab_jax.evaluate, or one that was cut off as the machine or its"
            f" disk failed ({e}); {_ANEW}"
        ) from e
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise UserError(f"{os.fspath(path)}: not a results file of luab_jax.evaluate ({e}); {_ANEW}") from e
    if version != RESULTS_VERSION:
        raise UserError(f"{os.fspath(path)}: results version {version}, this version reads {RESULTS_VERSION}; {_ANEW}")
    return content


_ANEW = "evaluate with another --out, or with --overwrite, which loses it"
