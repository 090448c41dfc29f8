"""How good suggested radii are: `python -m tests.benchmarks.bench_radii [RUN]` from the root.

Takes every descriptor of a finished run in the miniature world by which raw images were embedded
(the chain's, and those of its ablations, a seed each), cleans by it as the profile does, at the
radius that `lib.cleaning.eps` suggests and at half to one and a half times as much, and prints both
against the truth. No training decides alone how good the suggestion is.
"""

import argparse

import numpy as np
import pandas as pd

from lib import data as gldv2
from lib import recipes as profiles
from lib.artifacts import outputs_root, world_root
from lib.cleaning.eps import suggest_eps
from lib.cleaning.evaluate import read_truth, score_radii, true_classes
from lib.cleaning.label_noise import estimate_label_noise
from lib.retrieval.embedding_table import Embeddings, read_embeddings

AROUND = np.arange(0.5, 1.6, 0.1)  # times the suggestion, as in notebook 03


World = tuple[pd.DataFrame, pd.DataFrame]
"""The raw images of a world, and the truth about all of its images."""


def home(found: Embeddings, worlds: list[World]) -> World | None:
    """The world whose raw images were embedded, all of them, in the order of the embeddings.

    Raises:
        ValueError: if several worlds have them, under other labels.
    """
    ids = list(found.ids)
    fits = [
        (raw.set_index("id").loc[ids].reset_index(), truth)
        for raw, truth in worlds
        if len(raw) == len(ids) and raw["id"].isin(ids).all()
    ]
    if any((raw["landmark_id"] != fits[0][0]["landmark_id"]).any() for raw, _ in fits):
        raise ValueError(
            f"expected one world of {len(ids)} raw images with these ids, found {len(fits)} with "
            "different labels; remove those that are not used any more"
        )
    return fits[0] if fits else None


def judge(found: Embeddings, raw: pd.DataFrame, truth: pd.DataFrame, name: str) -> dict:
    """The suggestion for one descriptor beside the best radius around it."""
    config = profiles.profile(name).clean
    ids = raw["landmark_id"].to_numpy()
    options = {"odds": config.mislabel_odds, "whitening": config.mislabel_whitening}
    label_noise = estimate_label_noise(found.rows, ids, **options)
    suspected = label_noise.suspected_mislabels
    eps = suggest_eps(found.rows, ids, min_samples=config.min_samples, without=suspected).eps
    classes, radii = true_classes(raw, truth), eps * AROUND
    scores = score_radii(found.rows, ids, classes, config, radii, suspected_mislabels=suspected)
    own, best = scores.iloc[np.abs(AROUND - 1).argmin()], scores.loc[scores["ari"].idxmax()]
    return {
        "images": len(raw),
        "eps": eps,
        "ari": own["ari"],
        "best_eps": best["eps"],
        "best_ari": best["ari"],
        "lost": best["ari"] - own["ari"],
        "precision": own["noise_precision"],
        "recall": own["noise_recall"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", default="mini", help="a profile's run in its world")
    name = parser.parse_args().run
    folders = sorted((outputs_root() / name).glob("**/embeddings/raw"))
    roots = sorted(world_root(name).parent.glob(f"{name}*"))
    worlds = [(gldv2.read(root).train, read_truth(root)) for root in roots]
    rows = []
    for folder in folders:
        if folder.parts[-3] == "untrained":  # noise precision of 0.3: there is nothing to suggest
            continue
        found = read_embeddings(folder)
        if (known := home(found, worlds)) is not None:
            rows.append({"descriptor": folder.parts[-3], **judge(found, *known, name)})
            print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1))
    if not rows:
        parser.error(
            f"expected raw images embedded in {outputs_root() / name}; run that chain first"
        )
    lost = pd.DataFrame(rows)["lost"]
    print(
        f"\nARI lost to the best radius: {lost.mean():.3f} on average of {len(rows)} trainings, "
        f"{lost.max():.3f} at most, within 0.02 in {(lost <= 0.02).sum()}"
    )


if __name__ == "__main__":
    main()
