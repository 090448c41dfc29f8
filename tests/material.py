"""Two models' rows of the numbered evaluation, for the tests of whole comparisons."""

import numpy as np
import pandas as pd

from lib.data.evaluation_set import Evaluation
from lib.reranking.data import RetrievalData
from lib.retrieval.embedding_table import Embeddings
from tests.numbered import numbered_evaluation


def small_evaluation() -> Evaluation:
    """30 queries and 90 gallery images of three landmarks; a landmark per continent."""
    return numbered_evaluation(queries=30, gallery=90)


def small_material(
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
    labels = pd.DataFrame({"landmark_id": landmarks, "country": np.array(list(codes))[landmarks]})
    ids = [table["id"].to_numpy(dtype=str) for table in (evaluation.queries, evaluation.gallery)]
    return RetrievalData(
        Embeddings(ids[0], rows_near(asked)),
        Embeddings(ids[1], rows_near(shown)),
        rows_near(landmarks),
        labels,
        k=20,
        second=small_material(evaluation, seed + 1, noise=noise, two=False) if two else None,
    )
