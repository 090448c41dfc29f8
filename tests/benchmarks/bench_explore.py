"""How fast the reranking explorer follows its sliders: `python -m tests.benchmarks.bench_explore`.

Compares a step of a slider, which ranks the shown query alone, with one before which every query is
ranked anew, on the same made-up evaluation of 600 queries. A step feels immediate below 100 ms.
"""

import time
from collections.abc import Callable

import numpy as np

from lib.plots.explorers import RerankingExplorer
from lib.reranking import landmark_country_rerank
from tests.made_up import NumberedSource, numbered_evaluation, small_data

QUERIES, GALLERY, STEPS, COLUMNS = 600, 4_000, 20, 8


def main() -> None:
    evaluation = numbered_evaluation(queries=QUERIES, gallery=GALLERY)
    data = small_data(evaluation)
    explorer = RerankingExplorer(NumberedSource(), evaluation, data, columns=COLUMNS)

    def rank_all_first(alpha: float) -> None:
        landmark_country_rerank(data, alpha=alpha)
        explorer.still("q3", [(alpha, 0.1)])

    one = median_step(lambda alpha: explorer.still("q3", [(alpha, 0.1)]))
    every = median_step(rank_all_first)
    print(f"a step that ranks the shown query: {one:.0f} ms")
    print(f"after ranking all {QUERIES}: {every:.0f} ms, {every / one:.1f} times as long")


def median_step(step: Callable[[float], object]) -> float:
    """The median time of a step in milliseconds; the first, in which fonts are read, left out."""
    step(0.0)
    took = []
    for place in range(STEPS):
        began = time.perf_counter()
        step(place / STEPS)
        took.append(1000 * (time.perf_counter() - began))
    return float(np.median(took))


if __name__ == "__main__":
    main()
