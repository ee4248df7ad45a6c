"""Writes results.json as suites are done, and the answers beside it; see `luab_jax/results` for what they hold."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any

import jax
import msgspec
from etils import epath

from luab_jax.checkpoints import store as checkpoint_lib
from luab_jax.errors import UserError, command_line, option
from luab_jax.evaluation.accumulator import Evaluated
from luab_jax.evaluation.entries import dtype_of
from luab_jax.evaluation.resume import Unfinished
from luab_jax.evaluation.saved_predictions import preprocessing_json
from luab_jax.io import storage
from luab_jax.io.atomic import write_text
from luab_jax.io.console import say
from luab_jax.results.answers import Answered, Answers, Sample, answers_path, read_answers, write_answers
from luab_jax.results.architecture import changes
from luab_jax.results.foreign import Foreign
from luab_jax.results.format import VERSION, File, Suite, to_json
from luab_jax.results.read import read_results

COMPILATIONS = "compilations"


class Results:
    """results.json, written after every suite; of the running ones `unfinished` keeps what was computed.

    With several hosts all have the same, and the first one writes.
    """

    def __init__(self, path: epath.PathLike | None, loaded: Evaluated, *, overwrite: bool = False):
        """Continues the file of the same checkpoint; refuses another's unless told to overwrite it.

        Without a path results are in memory only.
        """
        self._path = None if path is None else epath.Path(path)
        identity = json.loads(json.dumps(loaded.identity))
        self.content = File(
            results_version=VERSION,
            checkpoint=identity,
            suites={},
            name=loaded.name,
            preprocessing=json.loads(json.dumps(preprocessing_json(loaded.preprocessing))),
            dtype=dtype_of(loaded.identity),
            architecture=changes(loaded.identity.get("experiment", {})),
            versions=checkpoint_lib.versions(),
            command=command_line(),
        )
        self._answers = Answers(identity)
        self.has_computed = False
        """Whether any suite ran; its compilations are those of an earlier evaluation otherwise."""
        if self._path is not None and _is_there(self._path) and not overwrite:
            self._continue(self._path, _read(self._path))
        facts = {
            "results_version": 1,  # what is unfinished did not change with version 2
            "checkpoint": loaded.identity,
            "name": loaded.name,
            "preprocessing": preprocessing_json(loaded.preprocessing),
            "versions": self.content.versions,
        }
        self.unfinished = Unfinished(self._path, facts)

    def _continue(self, results: epath.Path, old: File) -> None:
        now = self.content.preprocessing
        seen_otherwise = any(now[name] != value for name, value in old.preprocessing.items() if name in now)
        if seen_otherwise or _with_defaults(old.checkpoint) != _with_defaults(self.content.checkpoint):
            raise UserError(
                f"{results}: holds results of {_other(old.checkpoint)}; choose another {option('out')}, or"
                f" {option('overwrite', True)}"
            )
        self.content.suites, self.content.compilations = old.suites, old.compilations
        path = answers_path(results)
        if not _is_there(epath.Path(path)):
            return
        try:
            answers = read_answers(path)
        except UserError as e:
            say(f"{e}; they are written anew", active=jax.process_index() == 0)
            return
        if _with_defaults(answers.checkpoint) == _with_defaults(self.content.checkpoint):
            self._answers = answers

    @property
    def suites(self) -> dict[str, Suite]:
        return self.content.suites

    def add(self, name: str, entry: Suite, samples: Mapping[str, Sample] | None = None) -> None:
        """A suite that is done. Its answers are written first, so that every result has its own."""
        data = entry.data.identity or {}
        self._answers.suites[name] = {score: Answered(sample, data) for score, sample in (samples or {}).items()}
        self.suites[name] = entry
        self._write(answers=True)

    def note(self, name: str, value: Mapping[str, float | int]) -> None:
        """How the run went that computed something last."""
        assert name == COMPILATIONS
        self.has_computed = True
        self.content.compilations = {fact: float(number) for fact, number in value.items()}
        self._write()

    def _write(self, *, answers: bool = False) -> None:
        if jax.process_index() != 0:
            return
        self.content.date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        # What cannot be read again must not be written.
        msgspec.convert(msgspec.to_builtins(self.content), File)
        if self._path is None:
            return
        if answers:
            write_answers(answers_path(self._path), self._answers)
        write_text(self._path, to_json(self.content), make_folder=True)


def _is_there(path: epath.Path) -> bool:
    """Raises `StorageError` of a bucket."""
    return storage.facts(path) is not None if storage.is_remote(path) else path.exists()


def _read(path: epath.Path) -> File:
    """Raises `UserError` that says how to evaluate although the file there is damaged or of a newer version."""
    try:
        return read_results(path)
    except UserError as e:
        raise UserError(
            f"{e}; evaluate with another {option('out')}, or replace the file with {option('overwrite', True)}"
        ) from e


def _with_defaults(identity: Mapping[str, Any]) -> dict[str, Any]:
    """With what older versions did not say: they evaluated timm's weights in float32, runs as they were trained."""
    of_timm = identity.get("target") == Foreign.TIMM.value
    trained_in = identity.get("experiment", {}).get("model.compute_dtype", "bfloat16")
    return {"dtype": "float32" if of_timm else trained_in} | dict(identity)


def _other(identity: Mapping[str, Any]) -> str:
    """What tells a checkpoint from others, for a message."""
    changed = identity.get("preprocessing_override")
    return (
        f"another checkpoint or preprocessing ({identity.get('workdir')}, step {identity.get('step')},"
        f" weights {identity.get('weights_hash', 'of unknown hash')}, {_with_defaults(identity)['dtype']},"
        f" preprocessing {f'changed by {changed}' if changed else 'as it states'}"
        f"{', from saved predictions' if identity.get('from_saved_predictions') else ''})"
    )
