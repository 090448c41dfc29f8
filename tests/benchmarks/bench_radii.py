"""How good suggested radii are: `python -m tests.benchmarks.bench_radii [RUN]` from the root.

Takes every descriptor of a finished run in the miniature world by which raw images were embedded
(the chain's, and those of its ablations, a seed each), cleans by it as the profile does, at the
radius that `lib.choose_eps` suggests and at half to one and a half times as much, and prints both
against the truth. No training decides alone how good the suggestion is.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from lib import gldv2, profiles
from lib.choose_eps import suggest
from lib.cleaning_score import read_truth, score_radii, true_classes
from lib.embed import Embeddings, read_embeddings
from lib.paths import outputs_root, world_root
from lib.rivals import find_rivals

AROUND = np.arange(0.5, 1.6, 0.1)  # times the suggestion, as in notebook 03


def labelled(found: Embeddings, roots: list[Path]) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """The raw images that were embedded, and the truth, of the world that has them and no others.

    Raises:
        ValueError: if several worlds have them, under other labels.
    """
    fits = []
    for root in roots:
        raw = gldv2.read(root).train.set_index("id")
        if len(raw) == len(found) and raw.index.isin(found.ids).all():
            fits.append((raw.loc[list(found.ids)].reset_index(), read_truth(root)))
    if any((raw["landmark_id"] != fits[0][0]["landmark_id"]).any() for raw, _ in fits[1:]):
        raise ValueError(
            f"expected one world of {len(found)} images with these ids, found several among "
            f"{', '.join(root.name for root in roots)}; remove those that are not used any more"
        )
    return fits[0] if fits else None


def judge(found: Embeddings, raw: pd.DataFrame, truth: pd.DataFrame, name: str) -> dict:
    """The suggestion for one descriptor beside the best radius around it."""
    config = profiles.profile(name).clean
    ids = raw["landmark_id"].to_numpy()
    suspects = find_rivals(found.rows, ids, odds=config.odds).suspects
    eps = suggest(found.rows, ids, min_samples=config.min_samples, without=suspects).eps
    scores = score_radii(
        found.rows, ids, true_classes(raw, truth), config, eps * AROUND, suspects=suspects
    )
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
    rows = []
    for folder in folders:
        if folder.parts[-3] == "untrained":  # noise precision of 0.3: there is nothing to suggest
            continue
        found = read_embeddings(folder)
        if (known := labelled(found, roots)) is not None:
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
