"""Is our descriptor better than what a short script gives, or another library?

Trains the rivals on the same lists with the same number of images seen, from the same weights, and
scores them on the same queries as a finished run of this repository:

    python -m tests.benchmarks.bench_rivals DATA_DIR RUN --weights tf_efficientnet_lite0.safetensors

The rivals: the pretrained network with GeM pooling, its embeddings plain and with half and full PCA
whitening; a plain script (cosine softmax, AdamW, one cycle, random resized crops); ArcFace as the
documentation of pytorch-metric-learning shows it. None of them uses this package but for reading
lists and for scoring. Every row is the mean over seeds of each query's average precision; intervals
are of queries. The table is printed and written to outputs/reference/photos_rivals.csv.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from pytorch_metric_learning.losses import ArcFaceLoss
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

from lib import data, retrieval
from lib.artifacts import rng, write_csv
from lib.reports import REFERENCE

MEAN = STD = (0.5, 0.5, 0.5)
JITTER = 0.2  # of brightness, contrast and saturation
OURS = ("ours", "cleaned list")


class Photographs(Dataset):
    """Images by path, decoded once, with a label each."""

    def __init__(self, root: Path, paths: list[str], labels: np.ndarray, transform: T.Compose):
        self.images = [Image.open(root / path).convert("RGB") for path in paths]
        self.labels, self.transform = labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[row]), int(self.labels[row])


class Network(nn.Module):
    """A timm backbone with GeM pooling (p = 3) and nothing after it."""

    def __init__(self, name: str, weights: str) -> None:
        super().__init__()
        self.backbone = timm.create_model(name, num_classes=0)
        self.backbone.load_state_dict(load_file(weights), strict=False)
        self.dim = self.backbone.num_features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.backbone.forward_features(images.to(memory_format=torch.channels_last))
        return features.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)


@torch.inference_mode()
def embed(network: Network, root: Path, paths: list[str], size: int) -> np.ndarray:
    """Unit rows, the sum over the image and its mirror image."""
    transform = T.Compose([T.Resize((size, size)), T.ToTensor(), T.Normalize(MEAN, STD)])
    images = Photographs(root, paths, np.zeros(len(paths)), transform)
    network.eval()
    rows = [
        F.normalize(network(batch)) + F.normalize(network(batch.flip(3)))
        for batch, _ in DataLoader(images, 64)
    ]
    return F.normalize(torch.cat(rows)).numpy()


def batches(root: Path, table: pd.DataFrame, args: argparse.Namespace, seed: int) -> DataLoader:
    """Random resized crops of 0.6 to 1, mirrored, with a mild change of colour."""
    crop = T.RandomResizedCrop(args.size, scale=(0.6, 1.0))
    colour = T.ColorJitter(JITTER, JITTER, JITTER)
    steps = [crop, T.RandomHorizontalFlip(), colour, T.ToTensor(), T.Normalize(MEAN, STD)]
    images = Photographs(root, table["path"].tolist(), table["label"].to_numpy(), T.Compose(steps))
    torch.manual_seed(seed)
    return DataLoader(images, args.batch_size, shuffle=True, drop_last=True, num_workers=1)


def train(
    network: Network,
    loader: DataLoader,
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    optimizers: list[torch.optim.Optimizer],
    schedule: torch.optim.lr_scheduler.LRScheduler | None,
    steps: int,
) -> None:
    """Train for so many steps, as many epochs as they take."""
    network.train()
    while steps:
        for images, labels in loader:
            loss = loss_of(network(images), labels)
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
            if schedule is not None:
                schedule.step()
            steps -= 1
            if not steps:
                return


def plain_script(network: Network, loader: DataLoader, classes: int, steps: int) -> None:
    """Cosine softmax of scale 30, AdamW of 1e-4 and 1e-3, one cycle."""
    head = nn.Parameter(nn.init.xavier_uniform_(torch.empty(classes, network.dim)))
    groups = [{"params": network.parameters(), "lr": 1e-4}, {"params": [head], "lr": 1e-3}]
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [1e-4, 1e-3], total_steps=steps)

    def loss_of(rows: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(30 * F.normalize(rows) @ F.normalize(head).T, labels)

    train(network, loader, loss_of, [optimizer], schedule, steps)


def metric_learning(network: Network, loader: DataLoader, classes: int, steps: int) -> None:
    """pytorch-metric-learning's example: ArcFaceLoss as it comes, an optimiser of its own."""
    loss_of = ArcFaceLoss(classes, network.dim)
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=1e-4),
        torch.optim.SGD(loss_of.parameters(), lr=0.01),
    ]
    train(network, loader, loss_of, optimizers, None, steps)


def whitened(rows: list[np.ndarray], fitted_on: np.ndarray, power: float, dim: int) -> list:
    """Rows in the `dim` main axes of `fitted_on`, divided by singular values to a `power`."""
    mean = fitted_on.mean(axis=0)
    _, values, axes = np.linalg.svd(fitted_on - mean, full_matrices=False)
    projection = (axes[:dim] / values[:dim, None] ** power).T
    projected = [(part - mean) @ projection for part in rows]
    return [part / np.linalg.norm(part, axis=1, keepdims=True) for part in projected]


class Table:
    """Collects average precisions of Public and Private queries, by method, list and seed."""

    def __init__(self, evaluation: data.Evaluation) -> None:
        self.evaluation = evaluation
        self.precision: dict[tuple[str, str], list[pd.Series]] = {}

    def add(self, method: str, name: str, queries: np.ndarray, gallery: np.ndarray) -> None:
        ids = {
            "query_ids": self.evaluation.queries["id"].to_numpy(),
            "gallery_ids": self.evaluation.gallery["id"].to_numpy(),
        }
        ranking = retrieval.search(queries, gallery, 100, **ids)
        scores = retrieval.score_queries(ranking, self.evaluation).set_index("id")
        found = self.precision.setdefault((method, name), [])
        found.append(scores["average_precision"])
        private = self.evaluation.queries.set_index("id")["usage"] == "Private"
        print(f"{method}, {name}: {found[-1][private].mean():.3f}", flush=True)

    def rows(self) -> pd.DataFrame:
        """A row per method and list; `gain` is ours minus it, paired."""
        private = self.evaluation.queries.set_index("id")["usage"] == "Private"
        means = {
            key: pd.concat(found, axis=1).mean(axis=1) for key, found in self.precision.items()
        }
        ours = means[OURS][private]
        rows = []
        for (method, name), mean in means.items():
            interval = retrieval.bootstrap_interval(mean[private], generator=rng(0, "interval"))
            gain = retrieval.paired_gain(ours, mean[private], generator=rng(0, "difference"))
            row = {"method": method, "list": name, "seeds": len(self.precision[method, name])}
            row |= {"public": mean[~private].mean(), "private": interval.mean}
            row |= {"low": interval.low, "high": interval.high}
            scores = self.evaluation.queries.set_index("id").assign(average_precision=mean)
            row |= retrieval.map_by_seen(scores, prefix="private_")
            row |= dict(zip(("gain", "gain_low", "gain_high"), gain, strict=True))
            rows.append(row)
        return pd.DataFrame(rows)


def main() -> None:
    """Train and score the rivals, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("run", type=Path, help="a run folder with cleaning/ and stages")
    parser.add_argument("--weights", required=True, help="safetensors of the backbone")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--stage", default="cluster", help="of the run: ours")
    parser.add_argument("--images", type=int, default=4448, help="seen in each training")
    parser.add_argument("--size", type=int, default=128, help="pixels in training")
    parser.add_argument("--test-sizes", type=int, nargs="+", default=[160, 224])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=REFERENCE / "photos_rivals.csv")
    args = parser.parse_args()
    root = args.data_dir
    dataset = data.read(root)
    evaluation = data.evaluation(dataset)
    clusters = args.run / "cleaning" / "train_cluster.csv"
    raw = data.training_list(dataset, "full", without=evaluation)
    cleaned = data.training_list(dataset, "cluster", clusters=clusters, without=evaluation)
    lists = {"raw labels": raw, "cleaned list": cleaned}
    paths = [part["path"].tolist() for part in (evaluation.queries, evaluation.gallery)]
    table = Table(evaluation)
    folder = args.run / args.stage / "embeddings"
    rows = [retrieval.read_embeddings(folder / part).rows for part in ("query", "gallery")]
    table.add(*OURS, *rows)
    for size in args.test_sizes:
        network = Network(args.backbone, args.weights)
        rows = [embed(network, root, part, size) for part in paths]
        table.add(f"pretrained, {size} px", "none", *rows)
        fitted_on = embed(network, root, raw["path"].tolist(), size)
        for what, power in (("PCA", 0.0), ("half whitening", 0.5), ("whitening", 1.0)):
            found = whitened(rows, fitted_on, power, 512)
            table.add(f"pretrained, {what}, {size} px", "none", *found)
    methods = {"plain script": plain_script, "pytorch-metric-learning": metric_learning}
    for seed in range(args.seeds):
        for method, fit in methods.items():
            for name, images in lists.items():
                network = Network(args.backbone, args.weights)
                network = network.to(memory_format=torch.channels_last)
                loader = batches(root, images, args, seed)
                classes = int(images["label"].max()) + 1
                fit(network, loader, classes, args.images // args.batch_size)
                for size in args.test_sizes:
                    rows = [embed(network, root, part, size) for part in paths]
                    table.add(f"{method}, {size} px", name, *rows)
        found = table.rows()
        print(found.round(3).to_string(index=False))
        write_csv(found, args.out)  # a killed run leaves the seeds so far


if __name__ == "__main__":
    main()
