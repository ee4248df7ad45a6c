"""Rows of `python -m tools.proof` for the suites beyond the paper's tables and those of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image
from sklearn.metrics import accuracy_score, cohen_kappa_score, recall_score
from sklearn.neighbors import NearestNeighbors

from data_prep.datasets.tiles import tiled
from luab_jax.data.label_tables import SIXTEEN
from luab_jax.data.watermark import laid_on
from luab_jax.evaluation.answers import ARGMAX, Answer, label_set
from luab_jax.evaluation.decisions import decide
from luab_jax.evaluation.procedures.neighbours import distances, of_length_1
from luab_jax.evaluation.procedures.perturbations import flip_rate, top5_distance
from luab_jax.evaluation.scores.foreground import object_reliance
from luab_jax.evaluation.scores.groups import worst_group
from luab_jax.evaluation.scores.shape_bias import shape_bias
from luab_jax.evaluation.scores.shift import counter_drop, of_origins, under_shift
from luab_jax.evaluation.scores.watermark import watermark_gap
from tests.data_prep.test_tiles import by_coordinates
from tests.evaluation.drawn import guesses, softmax, truth
from tests.evaluation.test_perturbations import by_rankings

Pairs = Iterable[tuple[float, float]]


def _flips(seed: int) -> Pairs:
    """A video whose logits drift, so that some answers stay."""
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(1, 1000)) + 0.1 * rng.normal(size=(31, 1000)).cumsum(axis=0)).astype(np.float32)
    top = np.argsort(-logits, axis=-1, kind="stable")[:, :5]
    for noise in (False, True):
        flips, distance = by_rankings(logits, noise=noise)
        yield flip_rate(top[:, 0], noise=noise), flips
        yield top5_distance(top, noise=noise), distance


def _neighbours(seed: int) -> Pairs:
    rng = np.random.default_rng(seed)
    bank, asked = (of_length_1(rng.normal(size=(n, 16))) for n in (200, 20))
    found = NearestNeighbors(n_neighbors=7).fit(bank).kneighbors(asked)[0][:, -1]
    yield from zip(distances(asked, bank, 7).tolist(), (found**2).tolist(), strict=True)


def _cue_conflict(seed: int) -> Pairs:
    """With people, of whom some did not see all images."""
    rng, names, truths = np.random.default_rng(seed), list(SIXTEEN), []
    said = [{s: rng.choice([*names, "na"]) for s in "abc" if rng.random() < 0.8} for _ in range(120)]
    shapes, textures = rng.integers(16, size=120), rng.integers(16, size=120)
    for i, of_people in enumerate(said):
        of_people.update({s: names[shapes[i]] for s in of_people if rng.random() < 0.5})
        name = f"{names[shapes[i]]}/{names[shapes[i]]}{i}-{names[textures[i]]}1.png"
        group = "+".join(f"{subject}={answer}" for subject, answer in of_people.items())
        truths.append(truth(int(shapes[i]), file_name=name, group=group))
    given = guesses(seed, truths, 1000, help=0.0)
    for row, shape, texture in zip(given.logits, shapes, textures, strict=True):
        row[list(SIXTEEN[names[shape if rng.random() < 0.5 else texture]])] += 2
    scores = shape_bias(decide(given))
    decided = []
    for row in given.logits.tolist():
        shares = softmax(row)
        decided.append(max(range(16), key=lambda c, shares=shares: np.mean([shares[k] for k in SIXTEEN[names[c]]])))
    pairs = [(d, s, t) for d, s, t in zip(decided, shapes, textures, strict=True) if s != t]
    by_shape, by_texture = sum(d == s for d, s, _ in pairs), sum(d == t for d, _, t in pairs)
    yield scores["shape_bias"], by_shape / (by_shape + by_texture)
    kappas = []
    for subject in "abc":
        seen = [i for i, of_people in enumerate(said) if subject in of_people]
        model = [decided[i] == shapes[i] for i in seen]
        kappas.append(cohen_kappa_score(model, [said[i][subject] == names[shapes[i]] for i in seen]))
    yield scores["error_consistency"], float(np.mean(kappas))


def _hard_imagenet(seed: int) -> Pairs:
    rng = np.random.default_rng(seed)
    splits = ("original", "grey", "grey_box", "tile", "noisy_object", "noisy_background")
    labels = rng.integers(6, size=80)
    truths = [truth(int(c), file_name=f"n{c}/{i}.JPEG") for i, c in enumerate(labels)]
    given = {name: guesses(seed + k, truths, 6, help=1.0 + 0.4 * k) for k, name in enumerate(splits)}
    scores = object_reliance({name: ARGMAX(of) for name, of in given.items()})
    answers = {name: of.logits.argmax(axis=1) for name, of in given.items()}
    for score, name in (("top1", "original"), ("top1_grey", "grey"), ("top1_tile", "tile")):
        yield scores[score], accuracy_score(labels, answers[name])
    # The mean over classes is scikit-learn's recall with equal weights; then rfs.py's formula.
    on, around = (recall_score(labels, answers[n], average="macro") for n in ("noisy_object", "noisy_background"))
    yield scores["rfs"], (around - on) / (2 * min((on + around) / 2, 1 - (on + around) / 2))


def _tiles(seed: int) -> Pairs:
    rng, mask = np.random.default_rng(seed), np.zeros((32, 32), bool)
    for _ in range(3):
        (top, left), (height, width) = rng.integers(0, 30, 2), rng.integers(3, 12, 2)
        mask[top : top + height, left : left + width] = True
    pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
    yield from zip(tiled(pixels, mask).ravel().tolist(), by_coordinates(pixels, mask).ravel().tolist(), strict=True)


def _counteranimal(seed: int) -> Pairs:
    rng, given, labels = np.random.default_rng(seed), {}, {}
    for k, name in enumerate(("common", "counter")):
        labels[name] = rng.permutation([c % 5 for c in range(60 + k)])
        truths = [truth(int(c), file_name=f"n{c}/{i}.jpeg") for i, c in enumerate(labels[name])]
        given[name] = guesses(seed + k, truths, 5, help=2.0 - k)
    scores = counter_drop({name: ARGMAX(of) for name, of in given.items()})
    answers = {name: of.logits.argmax(axis=1) for name, of in given.items()}
    common, counter = (accuracy_score(labels[name], answers[name]) for name in given)
    yield scores["drop"], common - counter
    common, counter = (recall_score(labels[name], answers[name], average="macro") for name in given)
    yield scores["drop_of_classes"], common - counter


def _imagenet_hard(seed: int) -> Pairs:
    rng = np.random.default_rng(seed)
    sets = [tuple(sorted({int(c) for c in rng.integers(9, size=rng.integers(1, 4))})) for _ in range(90)]
    truths = [truth(-1, labels=of, group=f"set {i % 3}") for i, of in enumerate(sets)]
    given = guesses(seed, truths, 9)
    scores = of_origins(Answer(right=label_set)(given))
    right = [row.index(max(row)) in of for row, of in zip(given.logits.tolist(), sets, strict=True)]
    yield scores["top1"], sum(right) / 90
    for k in range(3):
        yield scores["groups"][f"set {k}"], sum(right[k::3]) / 30


def _watermark(seed: int) -> Pairs:
    truths = [truth(i % 7, file_name=f"n/{i}") for i in range(70)]
    given = {name: guesses(seed + k, truths, 7, help=2.0 - k) for k, name in enumerate(("clean", "watermark"))}
    labels = [t.label for t in truths]
    clean, marked = (accuracy_score(labels, of.logits.argmax(axis=1)) for of in given.values())
    yield watermark_gap({name: ARGMAX(of) for name, of in given.items()})["in_w_gap"], marked - clean
    rng = np.random.default_rng(seed)
    pixels, alpha = rng.integers(0, 256, (16, 16, 3), np.uint8), rng.integers(0, 129, (16, 16, 1), np.uint8)
    white = Image.fromarray(np.concatenate([np.full_like(pixels, 255), alpha], axis=-1))
    expected = np.asarray(Image.alpha_composite(Image.fromarray(pixels).convert("RGBA"), white))[..., :3]
    yield from zip(laid_on(pixels, alpha).ravel().tolist(), expected.ravel().tolist(), strict=True)


def _groups(seed: int) -> Pairs:
    rng = np.random.default_rng(seed)
    names = [f"place={p},class={c}" for p in "ab" for c in "xyz"]
    truths = [truth(i % 4, group=names[k], file_name=f"{i}") for i, k in enumerate(rng.integers(6, size=200))]
    given = guesses(seed, truths, 4)
    by_group = {n: [] for n in names}
    for row, of in zip(given.logits, truths, strict=True):
        by_group[of.group].append(int(row.argmax()) == of.label)
    means = {n: sum(right) / len(right) for n, right in by_group.items()}
    of_place = [np.mean([means[n] for n in names if f"place={p}" in n]) for p in "ab"]
    scores = worst_group(ARGMAX(given))
    yield scores["worst_group"], min(means.values())
    yield scores["top1_of_groups"], float(np.mean(list(means.values())))
    yield scores["gap_place"], float(max(of_place) - min(of_place))


def _own_corruptions(seed: int) -> Pairs:
    clean = [truth(i % 5, file_name=f"{i}") for i in range(40)]
    kinds = [(kind, severity) for kind in ("fog", "snow") for severity in (1, 3)]
    test = [truth(t.label, file_name=t.file_name, group=f"{k},severity={s}") for k, s in kinds for t in clean]
    given = {"clean": guesses(seed, clean, 5, help=2.5), "test": guesses(seed + 1, test, 5)}
    scores = under_shift({name: ARGMAX(of) for name, of in given.items()})
    right = [int(row.argmax()) == of.label for row, of in zip(given["test"].logits, test, strict=True)]
    by_kind = [np.mean(right[40 * k : 40 * (k + 1)]) for k in range(4)]
    of_clean = accuracy_score([t.label for t in clean], given["clean"].logits.argmax(axis=1))
    yield scores["top1"], float(np.mean(by_kind))
    yield scores["loss"], of_clean - float(np.mean(by_kind))
    yield scores["top1_severity_3"], float((by_kind[1] + by_kind[3]) / 2)


ROWS: tuple[tuple[str, str, Callable[[int], Pairs]], ...] = (
    ("ImageNet-P flips, top-5 distance", "ranks of all classes, as ImageNet-P/test.py", _flips),
    ("shape bias, consistency with people", "loop over categories, cohen_kappa_score", _cue_conflict),
    ("Hard ImageNet: top-1, rfs", "accuracy_score, recall_score, rfs.py's formula", _hard_imagenet),
    ("Hard ImageNet: tiles (levels)", "the authors' definition by coordinates", _tiles),
    ("CounterAnimal drop", "accuracy_score, recall_score", _counteranimal),
    ("ImageNet-Hard top-1, by origin", "loop over the definition", _imagenet_hard),
    ("ImageNet-W gap, watermark (levels)", "accuracy_score, Pillow's alpha_composite", _watermark),
    ("worst group, gap of an attribute", "loops over groups", _groups),
    ("own corruptions: top-1, loss", "loops over kinds and severities", _own_corruptions),
)
"""Score, reference, and pairs of ours and the reference's from a seed."""
IN_FLOAT32: tuple[tuple[str, str, Callable[[int], Pairs]], ...] = (
    ("distance to the k-th neighbour", "scikit-learn NearestNeighbors", _neighbours),
)
"""The same of scores that are computed in float32."""
