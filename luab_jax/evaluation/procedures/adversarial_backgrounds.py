"""BGC-acc of the Backgrounds Challenge: the share of foregrounds that no background fools (Xiao et al. 2021, §4).

Every foreground is pasted on every background, those of its own class and its own picture among them, and is
vulnerable if a single composite is taken for another class (challenge_eval.py, `adv_bgs_eval_model`). That would be
4,050 x 4,050 predictions. A foreground is done with at the first background that fools it, and those that have fooled
the most so far come first; neither changes the result. Images stay on the device as bytes and are composed there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt8

from luab_jax.evaluation.resume import Work

FOREGROUNDS_AT_A_TIME = 256
"""The ranking of the backgrounds is renewed after so many: more would waste predictions before it is any good."""

NONE, NOT_FINITE = -1, -2
"""Answers that are no class of the challenge."""
Check = Callable[[Bool[np.ndarray, " p"], Int[np.ndarray, " p"]], None]
"""Told which of some answers are finite, and of which foregrounds they are; raises where that will not do."""


class Images(NamedTuple):
    """What is composed: `image · mask + background · (1 - mask)`."""

    foregrounds: UInt8[np.ndarray, "f h w 3"]
    masks: Bool[np.ndarray, "f h w"]
    labels: Int[np.ndarray, " f"]
    backgrounds: UInt8[np.ndarray, "b h w 3"]


class Outcome(NamedTuple):
    """Which foregrounds some background fooled, and how many composites were predicted to know it."""

    vulnerable: Bool[np.ndarray, " f"]
    num_predictions: int


def groups(num_foregrounds: int, start: int = 0) -> Iterator[Int[np.ndarray, " g"]]:
    """The foregrounds from `start` on, so many at a time."""
    for first in range(start, num_foregrounds, FOREGROUNDS_AT_A_TIME):
        yield np.arange(first, min(first + FOREGROUNDS_AT_A_TIME, num_foregrounds))


class Search:
    """Searches for the foregrounds that some background fools. `answer` classifies the composites of at most
    `batch_size` pairs.

    `work` keeps the answers. As the pairs that are tried follow from the answers before, they are all that is needed
    to get to the same place again. Without `check` an answer that is not finite is a wrong one.
    """

    def __init__(
        self,
        answer: Callable[[Int[np.ndarray, "p 2"]], Int[np.ndarray, " p"]],
        images: Images,
        *,
        batch_size: int,
        work: Work | None = None,
        check: Check | None = None,
    ):
        self._answer, self._labels, self._batch_size, self._check = answer, images.labels, batch_size, check
        self._work = work or Work()
        self._known = np.concatenate([np.zeros(0, bool), *(step.columns["fooled"] for step in self._work.done())])
        self._vulnerable = np.zeros(len(images.foregrounds), bool)
        self._num_fooled = np.zeros(len(images.backgrounds), np.int64)
        self._num_predictions = 0

    def take(self, group: Int[np.ndarray, " g"]) -> None:
        """The next of `groups`."""
        ranking = np.argsort(-self._num_fooled, kind="stable")
        for pairs in _rounds(group, ranking, self._vulnerable, self._batch_size):
            fooled = self._predict(pairs)
            self._num_predictions += len(pairs)
            self._vulnerable[pairs[fooled, 0]] = True
            np.add.at(self._num_fooled, pairs[fooled, 1], 1)

    def _predict(self, pairs: Int[np.ndarray, "p 2"]) -> Bool[np.ndarray, " p"]:
        if self._num_predictions < len(self._known):
            return self._known[self._num_predictions : self._num_predictions + len(pairs)]
        answered = self._answer(pairs)
        if self._check is not None:
            self._check(answered != NOT_FINITE, pairs[:, 0])
        fooled = answered != self._labels[pairs[:, 0]]
        self._work.add(len(pairs), {"fooled": fooled})
        return fooled

    def outcome(self) -> Outcome:
        """Once all groups are taken."""
        return Outcome(self._vulnerable, self._num_predictions)


def composed(
    foregrounds: UInt8[Array, "f h w 3"],
    masks: Bool[Array, "f h w"],
    backgrounds: UInt8[Array, "b h w 3"],
    foreground: Int[Array, " p"],
    background: Int[Array, " p"],
) -> UInt8[Array, "p h w 3"]:
    """The composites of pairs, on the device."""
    return jnp.where(masks[foreground][..., None], foregrounds[foreground], backgrounds[background])


def _rounds(
    group: Int[np.ndarray, " g"], ranking: Int[np.ndarray, " b"], vulnerable: Bool[np.ndarray, " f"], batch_size: int
) -> Iterator[Int[np.ndarray, "p 2"]]:
    """Pairs (foreground, background) of those of `group` that still stand, at most `batch_size` at a time.

    `vulnerable` is read anew before each round, so that the caller's findings end the work on a foreground. Fewer
    foregrounds take more backgrounds in one round.
    """
    if len(group) > batch_size:
        for start in range(0, len(group), batch_size):
            yield from _rounds(group[start : start + batch_size], ranking, vulnerable, batch_size)
        return
    done = 0
    while done < len(ranking):
        standing = group[~vulnerable[group]]
        if not len(standing):
            return
        tried = ranking[done : done + batch_size // len(standing)]
        yield np.stack([np.tile(standing, len(tried)), np.repeat(tried, len(standing))], axis=-1)
        done += len(tried)
