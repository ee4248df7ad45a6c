"""What the runs show: every question's effects with intervals, as a table (study.md) and with figures (study.html)."""

from __future__ import annotations

import functools
import html
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

import luab_jax
from benchmarks.study import figures, plan
from benchmarks.study.arms import ARMS, Arm
from benchmarks.study.effects import IMAGES_ALONE, Effect, effect
from benchmarks.study.plan import Question, Run
from benchmarks.study.runs import chosen_weight, is_finished, results_path
from luab_jax.errors import UserError
from luab_jax.results.answers import Kind, Sample, answers_path, read_answers

SCORES = (
    ("photos", "top1", "top-1, validation photos"),
    ("own_backgrounds", "mixed_same", "top-1, background of another photo of the class"),
    ("own_backgrounds", "mixed_rand", "top-1, background of another class"),
    ("own_backgrounds", "gap", "gap of these two"),
    ("own_backgrounds", "only_fg", "top-1, object alone"),
    ("own_backgrounds", "only_bg_t", "top-1, background alone, tiled"),
    ("own_corruptions", "top1", "top-1, corrupted at severity 3"),
    ("own_occlusions", "top1", "top-1, a part hidden"),
    ("localisation_of_photos", "max_box_acc_v2", "MaxBoxAccV2 of the class's map"),
    ("photos_to_choose", "top1", "top-1, the training photos that λ was chosen by"),
)
IN_SHORT = {
    "top-1, validation photos": "validation",
    "top-1, background of another class": "background of another class",
    "gap of these two": "gap of backgrounds",
    "top-1, background alone, tiled": "background alone",
    "top-1, corrupted at severity 3": "corrupted",
    "MaxBoxAccV2 of the class's map": "MaxBoxAccV2",
}
PLACES = (
    "median_distance",
    "median_distance_of_centre",
    "median_distance_of_true_box",
    "inside_box",
    "inside_box_of_centre",
)
"""Of the suite `place`: the head's point, and what the centres of the crop and of the object's box would score."""

CAVEAT = """\
The photos and boxes are real, the clicks are not: they were drawn around the real box, so that they know the object
better, and in another way, than a person's click would. Nothing here says what annotators' clicks do. The models are
small, the photos have 64 pixels, and there are 40 classes: an effect at ImageNet's scale may differ in size and in
sign. Each interval stands for itself: of the {count} above, about {by_chance} would leave 0 outside if nothing had any
effect. A click at the chosen λ looks better than it is on the photos that λ was chosen by."""


class NothingYetError(UserError):
    """There are no two runs to compare."""


class Row(NamedTuple):
    """One effect of one arm."""

    question: Question
    model: str
    arm: Arm
    compared: tuple[Arm, Arm]
    """Arm and control as they were trained, at the chosen λ."""
    score: str
    effect: Effect

    @property
    def name(self) -> str:
        return f"{self.arm.name} - {self.question.control.name}"


def write(out: Path) -> str:
    """Writes both files; what stands in study.md. Raises `NothingYetError` where nothing can be compared."""
    weight = chosen_weight(out)
    rows = [row for question in plan.QUESTIONS for row in _rows(out, question, weight)]
    if not rows:
        raise NothingYetError(f"--out={out}: no arm and its control are both finished")
    text = "\n\n".join(_sections(out, rows, weight))
    (out / "study.md").write_text(text + "\n")
    drawn = "\n".join([*(figures.forest(title, effects) for title, effects in _figures(rows)), *_curves(rows)])
    body = f"<pre>{html.escape(text)}</pre>\n{drawn}"
    (out / "study.html").write_text(figures.PAGE.format(title="LUAB on 40 classes of real photos", body=body))
    return text


def _rows(out: Path, question: Question, weight: float | None) -> Iterator[Row]:
    for model in question.models:
        for arm in question.arms:
            pairs = [(Run(model, arm, seed), Run(model, question.control, seed)) for seed in question.seeds]
            if weight is not None:
                pairs = [(first.at(weight), second.at(weight)) for first, second in pairs]
            pairs = [pair for pair in pairs if all(is_finished(out, run) for run in pair)]
            if pairs and pairs[0][0] != pairs[0][1]:
                for suite, score, title in SCORES:
                    found = _differences(out, pairs, suite, score)
                    if found is not None:
                        yield Row(question, model, arm, (pairs[0][0].arm, pairs[0][1].arm), title, effect(found))


def _differences(
    out: Path, pairs: Sequence[tuple[Run, Run]], suite: str, score: str
) -> Float[np.ndarray, "seeds images"] | None:
    """None where a run lacks the suite, or its score is not a mean over images."""
    samples = [[_sample(out, run, suite, score) for run in pair] for pair in pairs]
    if any(sample is None or sample.kind is Kind.RESAMPLES for pair in samples for sample in pair):
        return None
    known = [list(sample.images) for pair in samples for sample in pair if sample is not None]
    if any(images != known[0] for images in known):
        raise UserError(f"{suite}: runs of --out={out} were scored on different images; remove their results.json")
    return np.stack(
        [
            np.asarray(first.values, float) - np.asarray(second.values, float)
            for first, second in samples
            if first is not None and second is not None
        ]
    )


_answers = functools.lru_cache(maxsize=2 * len(plan.HEADLINE_SEEDS))(read_answers)
"""Of the pairs of one row, whose scores are asked for one by one."""


def _sample(out: Path, run: Run, suite: str, score: str) -> Sample | None:
    answered = _answers(answers_path(results_path(out, run))).suites.get(suite, {}).get(score)
    return None if answered is None else answered.sample


def _sections(out: Path, rows: Sequence[Row], weight: float | None) -> Iterator[str]:
    yield "# LUAB on 40 classes of real photos"
    finished = Counter(model for (model, _), of_arm in _by_arm(out, weight) for _ in of_arm)
    runs = ", ".join(f"{count} of {model}" for model, count in sorted(finished.items()))
    chosen = f"λ = {weight:g}, chosen by seed 0 on training photos that no run trained on." if weight else ""
    yield (
        f"Runs: {runs}. {chosen} Differences in percentage points, arm less control, with 95 % intervals over"
        " images and seeds; a star where 0 is outside."
    )
    yield "## In short"
    yield _in_short(rows)
    for question in plan.QUESTIONS:
        of_question = [row for row in rows if row.question is question]
        if of_question:
            yield f"## {question.title}"
            yield _table(of_question)
    yield "## The scores themselves, in %, mean and standard deviation over seeds"
    yield _means(out, weight)
    if of_heads := _places(out, weight):
        yield "## Does the head learn the place?"
        yield of_heads
    yield "## What this cannot show"
    count = len({(row.model, row.compared, row.score) for row in rows})
    yield CAVEAT.format(count=count, by_chance=math.ceil(0.05 * count))


def _places(out: Path, weight: float | None) -> str:
    """Means over seeds of what every finished head scores; empty where there is none.

    weight: The chosen λ, at which the click was trained as a point of the curve of λ.
    """
    lines = [
        "| model | arm | seeds | median distance to the click | of the photo's centre | of the box's centre"
        " | inside the box, % | the photo's centre, % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (model, arm), of_arm in _by_arm(out, weight):
        scores = [luab_jax.read_results(results_path(out, run)).suites.get("place") for run in of_arm]
        of_heads = [suite.scores for suite in scores if suite is not None]
        if of_heads:
            values = [[float(known[name].value) for known in of_heads if name in known] for name in PLACES]
            cells = [f"{np.mean(of_score):.3f}" if of_score else "-" for of_score in values[:3]]
            cells += [f"{100 * np.mean(of_score):.1f}" for of_score in values[3:]]
            lines.append(f"| {model} | {arm.name} | {len(of_heads)} | {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _means(out: Path, weight: float | None) -> str:
    """Of every arm, with all of its finished runs."""
    titles = [title for _, _, title in SCORES]
    lines = [f"| model | arm | seeds | {' | '.join(titles)} |", "|---|---|---|" + "---|" * len(titles)]
    for (model, arm), of_arm in _by_arm(out, weight):
        suites = [luab_jax.read_results(results_path(out, run)).suites for run in of_arm]
        values = np.asarray([[float(of[suite].scores[score].value) for suite, score, _ in SCORES] for of in suites])
        deviations = [f" ± {100 * sd:.1f}" for sd in values.std(0, ddof=1)] if len(values) > 1 else [""] * len(titles)
        cells = [f"{100 * mean:.1f}{sd}" for mean, sd in zip(values.mean(0), deviations, strict=True)]
        lines.append(f"| {model} | {arm.name} | {len(values)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_arm(out: Path, weight: float | None) -> Iterator[tuple[tuple[str, Arm], list[Run]]]:
    """All finished runs."""
    runs = [run for run in [*plan.choosing(), *plan.ordered(weight)] if is_finished(out, run)]
    for key, of_arm in itertools.groupby(sorted(runs, key=_place_of), key=lambda run: (run.model, run.arm)):
        yield key, list(of_arm)


def _place_of(run: Run) -> tuple[str, int]:
    return run.model, list(ARMS).index(run.arm.name)


def _in_short(rows: Sequence[Row]) -> str:
    """A row for each comparison; of one that two questions make, that of more seeds under the first's name."""
    compared: dict[tuple[str, tuple[Arm, Arm]], dict[str, Effect]] = {}
    for row in sorted(rows, key=lambda row: row.effect.num_seeds):  # the later replace the earlier
        compared.setdefault((row.model, row.compared), {})[row.score] = row.effect
    names = {(row.model, row.compared): row.name for row in reversed(rows)}
    lines = [
        f"| model | arm less control | seeds | {' | '.join(IN_SHORT.values())} |",
        "|---" * (3 + len(IN_SHORT)) + "|",
    ]
    for key in dict.fromkeys((row.model, row.compared) for row in rows):
        effects = [compared[key].get(title) for title in IN_SHORT]
        cells = [
            f"{100 * e.value:+.1f} [{100 * e.low:+.1f}, {100 * e.high:+.1f}]{' *' * e.is_certain}" if e else "-"
            for e in effects
        ]
        seeds = max(e.num_seeds for e in compared[key].values())
        lines.append(f"| {' | '.join([key[0], names[key], str(seeds), *cells])} |")
    return "\n".join(lines)


def _table(rows: Sequence[Row]) -> str:
    lines = ["| model | arm less control | score | difference | 95 % interval | seeds |", "|---|---|---|---|---|---|"]
    for row in rows:
        e = row.effect
        alone = ", images alone" if e.over == IMAGES_ALONE else ""
        star = " *" if e.is_certain else ""
        lines.append(
            f"| {row.model} | {row.name} | {row.score} | {100 * e.value:+.1f}{star}"
            f" | {100 * e.low:+.1f} to {100 * e.high:+.1f} | {e.num_seeds}{alone} |"
        )
    return "\n".join(lines)


def _figures(rows: Sequence[Row]) -> Iterator[tuple[str, list[tuple[str, Effect]]]]:
    """One for each question and model: scores from top to bottom, arms beside each other."""
    for question in plan.QUESTIONS:
        for model in question.models:
            drawn = [row for row in rows if row.question is question and row.model == model]
            if drawn:
                labelled = [(f"{row.score}: {row.arm.name} - {question.control.name}", row.effect) for row in drawn]
                yield f"{question.title} ({model})", labelled


def _curves(rows: Sequence[Row]) -> Iterator[str]:
    """Over λ, and over the share of photos that have clicks, for every score of both."""
    for name, across, value in (
        ("lambda", "λ", lambda arm: arm.weight),
        ("clicks", "photos with clicks, %", lambda arm: 100 * arm.clicks.share),
    ):
        of_question = [row for row in rows if row.question.name == name]
        for score in dict.fromkeys(row.score for row in of_question):
            points = sorted((value(row.arm), row.effect) for row in of_question if row.score == score)
            if len(points) > 1:
                labelled = [(f"{at:g}", effect) for at, effect in points]
                yield figures.curve(f"{score}: less the baseline, by {across}", across, labelled)
