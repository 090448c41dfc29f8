"""Embedding folders as `lib.retrieval.embedding` leaves them, of rows that a test made up."""

from pathlib import Path

import numpy as np
import pandas as pd

from lib.artifacts import fingerprint, mark_complete, write_csv
from lib.retrieval.embedding_table import IDS, ROWS


def write_folder(folder: Path, ids: list[str], rows: np.ndarray) -> Path:
    """Write ids and float16 rows, and sign the folder."""
    folder.mkdir(parents=True)
    np.save(folder / ROWS, np.asarray(rows, dtype=np.float16))
    write_csv(pd.DataFrame({"id": ids}), folder / IDS)
    mark_complete(folder, fingerprint(ids, np.asarray(rows)))
    return folder
