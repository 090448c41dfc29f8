"""Small sound inputs of every kind, made once, which the parts then damage or work on."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from PIL import Image

from lib import data as gldv2
from lib.artifacts import record
from lib.cleaning import make_cluster_list
from lib.config import CleanConfig, InferenceConfig, ModelConfig, StageConfig
from lib.models import network as models
from lib.retrieval.ann_index import build_index
from lib.retrieval.embedding import embed
from lib.retrieval.embedding_table import read_embeddings
from lib.retrieval.knn import search
from lib.retrieval.submission import write_submission
from lib.training.stage import train
from tests.dataset import write_stripes
from tests.torture.tars import END, members

MODEL = ModelConfig(
    backbone="resnet10t", backbone_options={"channels": (8, 16, 16, 32)}, embedding_dim=32
)
STAGE = StageConfig(
    name="tiny", loss="softmax", epochs=2, size=32, batch_size=12, learning_rate=0.1
)
INFERENCE = InferenceConfig(size=32)
CLEAN = CleanConfig(eps=0.5, min_samples=2)


def write_samples(folder: Path) -> Path:
    """Everything that a run reads and writes, of 48 striped squares; returns `folder`."""
    data = write_stripes(folder / "data")
    dataset = gldv2.read(data)
    table = gldv2.training_list(dataset, "clean")
    checkpoint = train(STAGE, MODEL, table, data, folder / "stage")
    interrupt_training(table, data, folder / "interrupted")
    evaluation = gldv2.evaluation(dataset)
    rows = {
        name: read_embeddings(embed(checkpoint, part, data, folder / name, INFERENCE))
        for name, part in {
            "raw": table, "query": evaluation.queries, "gallery": evaluation.gallery
        }.items()
    }  # fmt: skip
    make_cluster_list(folder / "raw", table, CLEAN, folder / "cleaning", jobs=1)
    ids = {"query_ids": rows["query"].ids, "gallery_ids": rows["gallery"].ids}
    ranking = search(rows["query"].rows, rows["gallery"].rows, 10, **ids)
    ranking.save(folder / "ranking.npz")
    write_submission(ranking, folder / "submission.csv", **ids, k=10)
    build_index(index_rows(), folder / "index")
    record(folder, "01_eda", images=48, share=0.5)
    weights = models.build_model(MODEL).backbone.state_dict()
    torch.save({"state_dict": weights}, folder / "weights.pth")
    (folder / "groups.csv").write_text("id,group\n" + "".join(f"{i},A\n" for i in ids["query_ids"]))
    (folder / "truth.csv").write_text(
        "id,split,planted,shows,view\n" + "".join(f"{i},train,,0,0\n" for i in table["id"])
    )
    write_packed(folder / "packed", {path.stem: path for path in data.glob("train/?/?/?/*.jpg")})
    write_loose(folder / "loose")
    return folder


def index_rows() -> np.ndarray:
    """(128, 16) unit rows, enough for an approximate index."""
    rows = np.random.default_rng(5).standard_normal((128, 16), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def interrupt_training(table: pd.DataFrame, data: Path, folder: Path) -> None:
    """Leave what a training that was killed before its checkpoint leaves: its state."""
    with patch("lib.training.stage.models.save", side_effect=KeyboardInterrupt):
        try:
            train(STAGE, MODEL, table, data, folder)
        except KeyboardInterrupt:
            return
    raise AssertionError("expected the training to stop at its checkpoint")


def write_packed(root: Path, images: dict[str, Path]) -> None:
    """Two archives of the given images, as GLDv2's."""
    (root / "train").mkdir(parents=True)
    content = {name: path.read_bytes() for name, path in sorted(images.items())}
    for place in (0, 1):
        part = dict(list(content.items())[place::2])
        (root / "train" / f"images_{place:03}.tar").write_bytes(members(part) + END)


def write_loose(root: Path) -> None:
    """Photographs in folders named after their landmark."""
    generator = np.random.default_rng(3)
    for name in ("Louvre", "Eiffel", "塔"):
        (root / name).mkdir(parents=True)
        for place in range(5):
            pixels = generator.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{place}.jpg")
