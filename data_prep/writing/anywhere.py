"""Tasks that read a prepared directory, by processes of this machine or by Beam's workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from data_prep.writing.workers import run_tasks
from luab_jax.io.storage import Place

Result = TypeVar("Result")


def run_anywhere(
    function: Callable[[Any], Result],
    tasks: Sequence[Any],
    directory: Place,
    workers: int,
    beam_options: Sequence[str] | None,
) -> Iterator[Result]:
    """Yields what came of the tasks, each of which has a `name`. With `beam_options` files of theirs lie in `directory`
    while they run."""
    if beam_options is None:
        yield from run_tasks(function, tasks, workers=workers, name_of=lambda task: task.name)
        return
    from data_prep.writing.beam import map_on_beam  # apache_beam is an extra

    yield from map_on_beam(function, tasks, options=beam_options, folder=directory)
