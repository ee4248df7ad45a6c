"""How far annotators agree, from counts that are added up page by page: memory grows with pairs, not with pictures.

Units are yes/no judgements: on an ImageNet page a picture of a class, on a COCO page a class on a picture.

* Cohen's kappa of each pair of annotators (Cohen 1960), and its mean weighted by the units of a pair.
* Fleiss' kappa (Fleiss 1971), for units with different numbers of annotators as the mean over units.
* Krippendorff's alpha for nominal data (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability").

Libraries (statsmodels, krippendorff, scikit-learn) want the whole matrix of judgements; the tests compare with
scikit-learn's Cohen and with the formulas written out over the matrix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Agreement:
    """Counts over units."""

    units: Counter[tuple[int, int]] = field(default_factory=Counter)
    """(annotators, of which yes) to how many units have that."""
    pairs: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """Two annotators, in order, to the units on which they said: no no, no yes, yes no, yes yes."""
    raters: set[str] = field(default_factory=set)
    majority: dict[str, list[int]] = field(default_factory=dict)
    """Annotator to: units with a majority of the others, and those of them on which it agrees."""

    def add(self, judgements: Mapping[str, bool]) -> None:
        """One unit: annotator to judgement."""
        total, yes = len(judgements), sum(judgements.values())
        self.raters.update(judgements)
        self.units[total, yes] += 1
        names = sorted(judgements)
        for i, a in enumerate(names):
            for b in names[i + 1 :]:
                self.pairs.setdefault((a, b), [0, 0, 0, 0])[2 * judgements[a] + judgements[b]] += 1
            others, others_yes = total - 1, yes - judgements[a]
            if 2 * others_yes != others and others:
                seen = self.majority.setdefault(a, [0, 0])
                seen[0] += 1
                seen[1] += judgements[a] == (2 * others_yes > others)

    def cohen(self, pair: tuple[str, str]) -> float | None:
        return cohen(self.pairs[pair])

    @property
    def mean_cohen(self) -> float | None:
        """Weighted by the units of each pair; pairs without variation have no kappa."""
        found = [(kappa, sum(counts)) for counts in self.pairs.values() if (kappa := cohen(counts)) is not None]
        weight = sum(n for _, n in found)
        return sum(kappa * n for kappa, n in found) / weight if weight else None

    @property
    def num_units(self) -> int:
        """Those that at least two judged."""
        return sum(count for (total, _), count in self.units.items() if total > 1)

    @property
    def fleiss(self) -> float | None:
        judged = {key: count for key, count in self.units.items() if key[0] > 1}
        total = sum(judged.values())
        if not total:
            return None
        observed = sum(count * _agreeing_pairs(n, yes) for (n, yes), count in judged.items()) / total
        share = sum(count * yes for (_, yes), count in judged.items()) / sum(
            count * n for (n, _), count in judged.items()
        )
        return _beyond_chance(observed, share * share + (1 - share) * (1 - share))

    @property
    def krippendorff(self) -> float | None:
        judged = {key: count for key, count in self.units.items() if key[0] > 1}
        values = sum(count * n for (n, _), count in judged.items())
        yes = sum(count * y for (_, y), count in judged.items())
        no = values - yes
        if values < 2 or not yes or not no:
            return None
        observed = sum(count * 2 * y * (n - y) / (n - 1) for (n, y), count in judged.items()) / values
        expected = 2 * yes * no / (values * (values - 1))
        return 1 - observed / expected


def cohen(counts: Iterable[int]) -> float | None:
    """Of no no, no yes, yes no, yes yes; `None` where chance alone would agree."""
    nn, ny, yn, yy = counts
    total = nn + ny + yn + yy
    if not total:
        return None
    a, b = (yn + yy) / total, (ny + yy) / total
    return _beyond_chance((nn + yy) / total, a * b + (1 - a) * (1 - b))


def _agreeing_pairs(n: int, yes: int) -> float:
    no = n - yes
    return (yes * (yes - 1) + no * (no - 1)) / (n * (n - 1))


def _beyond_chance(observed: float, expected: float) -> float | None:
    return None if expected >= 1 - 1e-12 else (observed - expected) / (1 - expected)
