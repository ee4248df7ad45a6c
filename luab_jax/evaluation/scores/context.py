"""How much a class's score hangs on its context: V_min and V_avg (Shetty, Schiele and Fritz 2019; LUAB's COCO table).

Where classes c and o are both in an image, o is context of c. The context is *violated* if taking o away costs c more
than taking c itself away: S_c(image without o) < S_c(image without c). The authors' formulas could not be had; V_avg
has two readings, and both are given.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from jaxtyping import Float, Int

from luab_jax.errors import DataError


def context_violations(
    images: Int[np.ndarray, " e"], removed: Int[np.ndarray, " e"], scores: Float[np.ndarray, "e c"]
) -> dict[str, float | int]:
    """V_min and V_avg, in fractions; lower is better.

    Row e is image `images[e]` without class `removed[e]`, with the scores of all C classes. A pair (image, c) counts
    if c was removed there and so was another class. Per pair
        V_min            1 if the worst context violates: min over o of S_c(without o) < S_c(without c)
        V_avg            the share of contexts o that violate
        V_avg_of_scores  1 if the mean over o of S_c(without o) < S_c(without c)
    and the scores are means over all pairs; `*_by_class` are means over classes of the means over their pairs.
    """
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, image in enumerate(images.tolist()):
        rows_of[image].append(row)
    by_class: dict[int, list[tuple[float, float, float]]] = defaultdict(list)
    for rows in rows_of.values():
        for row in rows:
            label = int(removed[row])
            context = np.asarray([scores[other, label] for other in rows if other != row])
            if context.size:
                own = scores[row, label]
                by_class[label].append(
                    (float(context.min() < own), float(np.mean(context < own)), float(context.mean() < own))
                )
    if not by_class:
        raise DataError("no image has two classes that could be removed, so there is no context to judge")
    pairs = np.asarray([pair for of_class in by_class.values() for pair in of_class])
    macro = np.mean([np.mean(of_class, axis=0) for of_class in by_class.values()], axis=0)
    names = ("v_min", "v_avg", "v_avg_of_scores")
    return {
        **dict(zip(names, pairs.mean(axis=0).tolist(), strict=True)),
        **dict(zip((f"{name}_by_class" for name in names), macro.tolist(), strict=True)),
        "n": len(pairs),
        "n_images": sum(len(rows) > 1 for rows in rows_of.values()),
        "n_classes": len(by_class),
    }
