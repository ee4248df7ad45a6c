"""Every score against an independent computation on random predictions: `python -m tools.proof`.

The references are those of the tests beside this file, which hold them to these scores at every change; this prints by
how much they differ at most. The exit code is 1 if that is more than the tolerance of a row. Needs the extra `test`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from scipy import stats
from sklearn.metrics import accuracy_score, average_precision_score, roc_auc_score, top_k_accuracy_score

from data_prep.datasets.suites import CORRUPTIONS
from luab_jax.data.label_tables import IMAGENET_A, IMAGENET_O, IN9
from luab_jax.evaluation.answers import ARGMAX, Answer, Doubt, in9_superclass, label_set
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.byproduct import byproduct_error
from luab_jax.evaluation.scores.classification import backgrounds, by_group, real, top_k
from luab_jax.evaluation.scores.context import context_violations
from luab_jax.evaluation.scores.corruptions import corruptions
from luab_jax.evaluation.scores.detection import detection_scores
from luab_jax.evaluation.scores.label_sets import map_without_each
from luab_jax.evaluation.scores.localisation import Located, best_ious, max_box_acc_v2
from luab_jax.metrics.average_precision import mean_average_precision
from luab_jax.report.comparison import tango
from tests.evaluation.drawn import guesses, softmax, truth
from tests.evaluation.procedures.test_adversarial_backgrounds import by_brute_force, classify, drawn, find_vulnerable
from tests.evaluation.procedures.test_object_removal import by_definition
from tests.evaluation.test_classification import NUM_CLASSES, calibration_error_by_loop, random_predictions
from tests.evaluation.test_corruptions import by_hand, versions
from tests.evaluation.test_detection import false_positives_at_95
from tests.evaluation.test_localisation import SIDE, drawn_and_looped
from tests.evaluation.test_scores import byproduct_by_loop, random_points
from tools.more_proofs import IN_FLOAT32, ROWS

Pairs = Iterable[tuple[float, float]]
"""Ours, and the reference's."""
IN_FLOAT64 = 1e-12
"""Tolerance of a score that is computed in float64; one that goes through float32 has a larger one."""


class Proof(NamedTuple):
    score: str
    reference: str
    compare: Callable[[int], Pairs]
    """On predictions drawn from a seed."""
    num_seeds: int = 20
    tolerance: float = IN_FLOAT64


def _top_k(seed: int) -> Pairs:
    given = random_predictions(seed, n=300)
    scores = top_k(ARGMAX(given))
    for name, k in (("top1", 1), ("top5", 5)):
        yield scores[name], top_k_accuracy_score(given.labels, given.logits, k=k, labels=range(NUM_CLASSES))


def _real(seed: int) -> Pairs:
    given = random_predictions(seed, n=300)
    rows = [(row.index(max(row)), t.labels) for row, t in zip(given.logits.tolist(), given.truths, strict=True)]
    right = [answer in labels for answer, labels in rows if labels]
    yield real(Answer(right=label_set)(given))["top1"], sum(right) / len(right)


def _subset(seed: int) -> Pairs:
    given = guesses(seed, [truth(IMAGENET_A[i]) for i in np.random.default_rng(seed).integers(200, size=100)], 1000)
    answers = [max(IMAGENET_A, key=lambda i, row=row: row[i]) for row in given.logits]
    yield top_k(Answer(IMAGENET_A)(given))["top1"], accuracy_score(given.labels, answers)


def _nine(seed: int) -> Pairs:
    """Two sets, so that there is a gap."""
    to_nine = {index: i for i, indices in enumerate(IN9.values()) for index in indices}
    rng, given, expected = np.random.default_rng(seed), {}, {}
    for name in ("mixed_same", "mixed_rand"):
        drawn_ = guesses(seed, [truth(int(i)) for i in rng.integers(9, size=90)], 1000)
        for row, of_row in zip(drawn_.logits, drawn_.truths, strict=True):
            row[rng.choice(list(IN9.values())[of_row.label])] += 2.5
        answers = [to_nine.get(int(np.argmax(row)), -1) for row in drawn_.logits]
        given[name], expected[name] = Answer(right=in9_superclass)(drawn_), accuracy_score(drawn_.labels, answers)
    scores = backgrounds(given)
    yield from ((scores[name], value) for name, value in expected.items())
    yield scores["gap"], expected["mixed_same"] - expected["mixed_rand"]


def _groups(seed: int) -> Pairs:
    given, found = random_predictions(seed, n=300), []
    for group in ("blur", "noise", "snow"):
        rows = [i for i, t in enumerate(given.truths) if t.group == group]
        found.append(accuracy_score(given.labels[rows], given.logits[rows].argmax(axis=-1)))
    yield by_group(ARGMAX(given))["top1"], float(np.mean(found))


def _corruptions(seed: int) -> Pairs:
    whole = guesses(seed, versions(CORRUPTIONS, 9), 7)
    scores, (accuracy, ratios) = corruptions({"test": ARGMAX(whole)}), by_hand(whole)
    yield from ((scores["top1"], sum(accuracy) / 15), (scores["mce"], sum(ratios) / 15))


def _detection(seed: int) -> Pairs:
    """AUROC, AUPR of the official negative softmax; ours ranks by its logarithm."""
    rng = np.random.default_rng(seed)
    out, known = (guesses(seed + i, [truth(IMAGENET_O[int(k)]) for k in rng.integers(200, size=80)], 1000, help=3.0 * i)
                  for i in range(2))  # fmt: skip
    found = detection_scores(Doubt(IMAGENET_O)(out).values, Doubt(IMAGENET_O)(known).values)
    official = [[-max(softmax(row[list(IMAGENET_O)])) for row in of.logits] for of in (out, known)]
    labels = [1] * 80 + [0] * 80
    yield found["auroc"], roc_auc_score(labels, official[0] + official[1])
    yield found["aupr"], average_precision_score(labels, official[0] + official[1])


def _false_positives(seed: int) -> Pairs:
    out, known = (np.random.default_rng(seed + i).integers(-20, 20, 70).tolist() for i in range(2))
    yield detection_scores(np.asarray(out, float), np.asarray(known, float))["fpr95"], false_positives_at_95(out, known)


def _map(seed: int) -> Pairs:
    scores, labels = _label_sets(seed)
    yield mean_average_precision(scores, labels)["map"], average_precision_score(labels, scores, average="macro")


def _label_sets(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 40, (120, 8)).astype(np.float32), rng.random((120, 8)) < 0.3


def _jackknife(seed: int) -> Pairs:
    scores, labels = _label_sets(seed)
    without = map_without_each(scores, labels)
    for image in np.random.default_rng(seed).choice(120, 5, replace=False):
        others = np.arange(120) != image
        yield float(without[image]), average_precision_score(labels[others], scores[others], average="macro")


def _paired_shares(seed: int) -> Pairs:
    """1 where 0 is outside of Tango's interval, and where McNemar's test rejects."""
    rng = np.random.default_rng(seed)
    first, other = rng.random((2, 200)) < rng.random((2, 1))
    low, high = tango(first, other)
    gained, lost = int(np.sum(other & ~first)), int(np.sum(first & ~other))
    rejects = (gained - lost) ** 2 > stats.chi2.ppf(0.95, 1) * (gained + lost)
    yield float(low > 0 or high < 0), float(rejects)


def _ious(seed: int) -> Pairs:
    found, expected = drawn_and_looped(seed)
    yield from zip(found.tolist(), expected, strict=True)


def _max_box(seed: int) -> Pairs:
    """The choice of the threshold, by a loop over all of them."""
    rng = np.random.default_rng(seed)
    images, ious = [], []
    for i in range(4):
        corners = np.sort(rng.integers(0, SIDE, (2, 2)), axis=0).ravel() / SIDE
        scores = rng.random((SIDE, SIDE)).astype(np.float32)
        images.append(Located(f"{i}", scores, corners[None].astype(np.float32)))
        ious.append(best_ious(images[-1]))
    best = [max(sum(of_image[t] >= iou for of_image in ious) / 4 for t in range(1000)) for iou in (0.3, 0.5, 0.7)]
    yield max_box_acc_v2(images)["max_box_acc_v2"], sum(best) / 3


def _context(seed: int) -> Pairs:
    rng = np.random.default_rng(seed)
    pairs = sorted({(int(i), int(c)) for i, c in zip(rng.integers(0, 8, 40), rng.integers(0, 5, 40), strict=True)})
    images, removed = (list(column) for column in zip(*pairs, strict=True))
    scores = rng.integers(0, 9, (len(pairs), 5)).astype(np.float32)
    found = context_violations(np.asarray(images), np.asarray(removed), scores)
    for name, by_class in by_definition(images, removed, scores).items():
        yield found[name], float(np.mean(np.concatenate(by_class)))
        yield found[f"{name}_by_class"], float(np.mean([np.mean(values) for values in by_class]))


def _bgc(seed: int) -> Pairs:
    images = drawn(30, 6, seed)
    found = find_vulnerable(classify, images, 16)
    yield float(np.mean(~found.vulnerable)), float(np.mean(~by_brute_force(images)))


def _byproduct(seed: int) -> Pairs:
    found = byproduct_error(random_points(seed))
    yield from ((found[name], value) for name, value in byproduct_by_loop(random_points(seed)).items())


def _wilson(seed: int) -> Pairs:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 5000))
    right = int(rng.integers(0, n + 1))
    expected = stats.binomtest(right, n).proportion_ci(method="wilson")
    yield from zip(intervals.wilson(np.arange(n) < right), (expected.low, expected.high), strict=True)


PROOFS = (
    Proof("top-1, top-5", "scikit-learn top_k_accuracy_score", _top_k),
    Proof("calibration error (ece)", "loop over 15 bins", lambda seed: [
        (top_k(ARGMAX(given))["ece"], calibration_error_by_loop(given)) for given in [random_predictions(seed, n=300)]
    ], tolerance=1e-7),
    Proof("ReaL top-1", "loop over the definition", _real),
    Proof("top-1 in the subset of 200", "loop, scikit-learn accuracy_score", _subset),
    Proof("backgrounds: sets, gap", "argmax by loop mapped to nine, accuracy_score", _nine),
    Proof("mean over groups", "scikit-learn accuracy_score by group", _groups),
    Proof("ImageNet-C top-1, mCE", "loops over kinds and severities, AlexNet's errors", _corruptions),
    Proof("AUROC, AUPR", "scikit-learn roc_auc_score, average_precision_score", _detection),
    Proof("FPR at 95 %", "loop over thresholds", _false_positives),
    Proof("COCO mAP", "scikit-learn average_precision_score, ties included", _map),
    Proof("IoU at 1,000 thresholds", "sets of pixels of drawn rectangles", _ious, 5),
    Proof("MaxBoxAccV2", "loop over thresholds for each IoU", _max_box, 5),
    Proof("V_min, V_avg, over pairs, by class", "loops over images and classes", _context),
    Proof("BGC-acc", "every foreground on every background", _bgc, 5),
    Proof("byproduct distance, inside box", "loop, statistics.median", _byproduct, tolerance=1e-6),
    Proof("Wilson interval", "scipy.stats binomtest.proportion_ci", _wilson, 200),
    Proof("jackknife of mAP", "scikit-learn on the other images", _jackknife),
    Proof("paired accuracies: 0 excluded", "McNemar's test, scipy.stats chi2", _paired_shares, 200),
    *(Proof(*row) for row in ROWS),
    *(Proof(*row, tolerance=1e-6) for row in IN_FLOAT32),
)  # fmt: skip


def main() -> int:
    print(f"{'score':<36}{'independent reference':<54}{'values':>7}{'largest difference':>20}{'tolerance':>11}")
    beyond = []
    for proof in PROOFS:
        pairs = [pair for seed in range(proof.num_seeds) for pair in proof.compare(seed)]
        largest = np.max([abs(ours - theirs) for ours, theirs in pairs])  # NaN, if one is: `max` may pass over it
        print(
            f"{proof.score:<36}{proof.reference:<54}{len(pairs):>7,}{largest:>20.1e}{proof.tolerance:>11.0e}",
            flush=True,
        )
        if not largest <= proof.tolerance:
            beyond.append(proof.score)
    if beyond:
        print(f"beyond the tolerance: {'; '.join(beyond)}")
    return int(bool(beyond))


if __name__ == "__main__":
    sys.exit(main())
