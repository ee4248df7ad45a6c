"""BGC-acc of the Backgrounds Challenge: the share of foregrounds that no background fools (Xiao et al. 2021, §4).

Every foreground is pasted on every background, those of its own class and its own picture among them, and is
vulnerable if a single composite is taken for another class (challenge_eval.py, `adv_bgs_eval_model`). That would be
4,050 x 4,050 predictions. A foreground is done with at the first background that fools it, and those that have fooled
the most so far come first; neither changes the result. Images stay on the device as bytes and are composed there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int, UInt8

from luab_jax.distributed import sharding
from luab_jax.evaluation.predict_together import progress
from luab_jax.evaluation.resume import Work

FOREGROUNDS_AT_A_TIME = 256
"""The ranking of the backgrounds is renewed after so many: more would waste predictions before it is any good."""

NONE, NOT_FINITE = -1, -2
Classify = Callable[[Any, UInt8[Array, "p h w 3"]], Int[Array, " p"]]
"""From variables and pixels, not normalised, to classes of the challenge, `NONE` of them or `NOT_FINITE`; a jax
function."""
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


def find_vulnerable(
    classify: Classify,
    variables: Any,
    images: Images,
    *,
    batch_size: int,
    mesh: Mesh,
    work: Work | None = None,
    check: Check | None = None,
) -> Outcome:
    """Runs the challenge; `batch_size` composites at a time, a multiple of the devices of `mesh`. See `search`."""
    whole, split = sharding.replicated(mesh), sharding.batch_sharding(mesh)
    on_device = sharding.put((images.foregrounds, images.masks, images.backgrounds), whole)
    answer = jax.jit(
        _make_answer(classify),
        in_shardings=(whole, *[whole] * 3, split, split),
        out_shardings=whole if jax.process_count() > 1 else split,
    )

    def on_devices(pairs: Int[np.ndarray, "p 2"]) -> Int[np.ndarray, " p"]:
        padded = np.zeros((batch_size, 2), np.int32)
        padded[: len(pairs)] = pairs
        placed = sharding.put((padded[:, 0], padded[:, 1]), split)
        return np.asarray(answer(variables, *on_device, *placed))[: len(pairs)]

    return search(on_devices, images, batch_size=batch_size, work=work, check=check)


def search(
    answer: Callable[[Int[np.ndarray, "p 2"]], Int[np.ndarray, " p"]],
    images: Images,
    *,
    batch_size: int,
    work: Work | None = None,
    check: Check | None = None,
) -> Outcome:
    """Which foregrounds are fooled, by what `answer` takes the composites of at most `batch_size` pairs (foreground,
    background) for.

    `work` keeps the answers. As the pairs that are tried follow from the answers before, they are all that is needed
    to get to the same place again. Without `check` an answer that is not finite is a wrong one.
    """
    work = work or Work()
    answers = np.concatenate([np.zeros(0, bool), *(step.columns["fooled"] for step in work.done())])
    num_known = len(answers)

    def predict(pairs: Int[np.ndarray, "p 2"]) -> Bool[np.ndarray, " p"]:
        if num_predictions < num_known:
            return answers[num_predictions : num_predictions + len(pairs)]
        answered = answer(pairs)
        if check is not None:
            check(answered != NOT_FINITE, pairs[:, 0])
        fooled = answered != images.labels[pairs[:, 0]]
        work.add(len(pairs), {"fooled": fooled})
        return fooled

    num_foregrounds, num_backgrounds = len(images.foregrounds), len(images.backgrounds)
    vulnerable = np.zeros(num_foregrounds, bool)
    num_fooled, num_predictions = np.zeros(num_backgrounds, np.int64), 0
    with progress("adversarial backgrounds", num_foregrounds) as told:
        for start in range(0, num_foregrounds, FOREGROUNDS_AT_A_TIME):
            group = np.arange(start, min(start + FOREGROUNDS_AT_A_TIME, num_foregrounds))
            ranking = np.argsort(-num_fooled, kind="stable")
            for pairs in _rounds(group, ranking, vulnerable, batch_size):
                fooled = predict(pairs)
                num_predictions += len(pairs)
                vulnerable[pairs[fooled, 0]] = True
                np.add.at(num_fooled, pairs[fooled, 1], 1)
            told.advance(len(group))
    return Outcome(vulnerable, num_predictions)


def _make_answer(classify: Classify) -> Callable[..., Array]:
    """What each pair's composite is taken for."""

    def answer(
        variables: Any,
        foregrounds: UInt8[Array, "f h w 3"],
        masks: Bool[Array, "f h w"],
        backgrounds: UInt8[Array, "b h w 3"],
        foreground: Int[Array, " p"],
        background: Int[Array, " p"],
    ) -> Int[Array, " p"]:
        pixels = jnp.where(masks[foreground][..., None], foregrounds[foreground], backgrounds[background])
        return classify(variables, pixels)

    return answer


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
