"""Two models' embeddings of the numbered evaluation, for the tests of whole comparisons."""

import numpy as np

from lib.data.evaluation_set import Evaluation
from lib.reranking.data import RetrievalData
from tests.numbered import numbered_evaluation


def small_evaluation() -> Evaluation:
    """30 queries and 90 gallery images of three landmarks; a landmark per continent."""
    return numbered_evaluation(queries=30, gallery=90)


def small_data(
    evaluation: Evaluation, seed: int = 0, *, noise: float = 0.6, two: bool = True
) -> RetrievalData:
    """Noisy unit rows around a centre per landmark, 60 references, perhaps a second model."""
    generator = np.random.default_rng(seed)
    centres = np.eye(3, 8) + 0.3 * generator.normal(size=(3, 8))

    def rows_near(landmarks: np.ndarray) -> np.ndarray:
        rows = centres[landmarks] + noise * generator.normal(size=(len(landmarks), 8))
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)

    codes = {"NA": 0, "FR": 1, "JP": 2}
    asked = evaluation.queries["country"].map(codes).to_numpy()
    shown = evaluation.gallery["landmark_id"].to_numpy()
    landmarks = np.arange(60) % 3
    return RetrievalData(
        rows_near(asked),
        rows_near(shown),
        rows_near(landmarks),
        landmarks,
        np.array(list(codes))[landmarks],
        query_ids=evaluation.queries["id"].to_numpy(dtype=str),
        gallery_ids=evaluation.gallery["id"].to_numpy(dtype=str),
        k=20,
        second=small_data(evaluation, seed + 1, noise=noise, two=False) if two else None,
    )
