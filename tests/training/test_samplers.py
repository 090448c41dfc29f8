from collections import Counter

import numpy as np
import pandas as pd
import pytest

from lib.config import StageConfig
from lib.training.samplers import (
    CONTINENT_SHARES,
    SAMPLERS,
    AtLeastSampler,
    ClassUniformSampler,
    ContinentSampler,
    ShuffledSampler,
    apportion,
)


def random_table(seed):
    """A training list of random size, class sizes, continents and cleanness."""
    rng = np.random.default_rng(seed)
    count, classes = rng.integers(40, 200), rng.integers(2, 30)
    names = rng.permutation(list(CONTINENT_SHARES))[: rng.integers(1, 9)]
    return pd.DataFrame(
        {
            "label": rng.integers(0, classes, count) ** 2,  # ids with gaps
            "is_clean": rng.random(count) < rng.random(),
            "continent": rng.choice(names, count),
        }
    )


def images(label=0, continent="Asia", is_clean=True):
    """A training list of these columns, of which some may be single values."""
    return pd.DataFrame({"label": label, "continent": continent, "is_clean": is_clean})


def every_sampler(table, seed=0, size=0, world_size=1):
    stage = StageConfig(epoch_images=size, batch_size=6 * world_size, images_per_class=3)
    options = {"seed": seed, "world_size": world_size}
    return [sampler(stage, table, **options) for sampler in SAMPLERS.values()]


@pytest.mark.parametrize("size", [0, 30, 500])
@pytest.mark.parametrize("seed", range(10))
def test_samplers_yield_their_length_of_valid_rows(seed, size):
    table = random_table(seed)
    for sampler in every_sampler(table, seed, size):
        rows = sampler.rows_of(0)
        assert len(rows) == len(sampler)
        assert all(type(row) is int and 0 <= row < len(table) for row in rows)
        if size:
            assert len(sampler) == size - size % sampler.unit


@pytest.mark.parametrize("seed", range(10))
def test_samplers_depend_on_seed_and_epoch_alone(seed):
    table = random_table(seed)
    pairs = zip(every_sampler(table, seed), every_sampler(table, seed), strict=True)
    others = every_sampler(table, seed + 1)
    for (sampler, twin), other in zip(pairs, others, strict=True):
        first = sampler.rows_of(0)
        assert first == sampler.rows_of(0) == twin.rows_of(0)
        assert first != other.rows_of(0)
        assert first != sampler.rows_of(1)


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("seed", range(10))
def test_ranks_share_one_epoch_in_equal_parts(seed, world_size):
    table = random_table(seed)
    pairs = zip(every_sampler(table, seed), every_sampler(table, seed, 0, world_size), strict=True)
    for sampler, parted in pairs:
        shares = [parted.rows_of(0, rank) for rank in range(world_size)]
        assert {len(share) for share in shares} == {len(parted)}
        together, epoch = Counter(np.concatenate(shares).tolist()), Counter(sampler.rows_of(0))
        assert together <= epoch
        assert (epoch - together).total() < world_size * sampler.unit


@pytest.mark.parametrize("seed", range(20))
def test_shuffled_sampler_shows_every_image_once(seed):
    table = random_table(seed)
    count = len(table)
    assert sorted(ShuffledSampler(StageConfig(), table, seed=seed).rows_of(0)) == list(range(count))
    longer = StageConfig(epoch_images=3 * count + 7)
    counts = Counter(ShuffledSampler(longer, table, seed=seed).rows_of(0))
    assert sorted(Counter(counts.values()).items()) == [(3, count - 7), (4, 7)]
    least = StageConfig(least_images=2 * count)
    assert len(ShuffledSampler(least, table, seed=seed)) == 2 * count
    assert len(ShuffledSampler(StageConfig(least_images=1), table, seed=seed)) == count


@pytest.mark.parametrize("seed", range(50))
def test_at_least_sampler_repeats_rare_classes_evenly(seed):
    table = random_table(seed)
    at_least = 1 + seed % 8
    seen = Counter(AtLeastSampler(StageConfig(at_least=at_least), table, seed=seed).rows_of(0))
    for _, rows in table.groupby("label").groups.items():
        counts = [seen[row] for row in rows]
        assert sum(counts) == max(len(rows), at_least)
        assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("seed", range(50))
def test_class_uniform_sampler_makes_batches_of_p_classes_with_k_images(seed):
    table = random_table(seed)
    labels, classes = table["label"].to_numpy(), table["label"].nunique()
    p, k = min(classes, 1 + seed % 5), 1 + seed % 4
    stage = StageConfig(epoch_images=10 * p * k, batch_size=p * k, images_per_class=k)
    sampler = ClassUniformSampler(stage, table, seed=seed)
    batches = np.array(sampler.rows_of(0)).reshape(10, p * k)
    for batch in batches:
        assert set(Counter(labels[batch].tolist()).values()) == {k}
        assert len(set(labels[batch])) == p
        for label in set(labels[batch]):
            of_class = Counter(batch[labels[batch] == label].tolist())
            assert len(of_class) == min(k, (labels == label).sum())


def test_class_uniform_sampler_fills_a_batch_evenly_where_classes_are_few():
    labels = np.repeat([0, 1, 2], [1, 5, 20])
    stage = StageConfig(epoch_images=80, batch_size=8, images_per_class=1)
    sampler = ClassUniformSampler(stage, images(labels))
    for batch in np.array(sampler.rows_of(0)).reshape(10, 8):
        assert sorted(np.bincount(labels[batch])) == [2, 3, 3]


def test_class_uniform_sampler_shows_classes_equally_often():
    labels = np.repeat([0, 1, 2, 3], [2, 10, 50, 200])
    stage = StageConfig(epoch_images=4000, batch_size=4, images_per_class=2)
    sampler = ClassUniformSampler(stage, images(labels))
    assert set(Counter(labels[sampler.rows_of(0)].tolist()).values()) == {1000}


def test_continent_sampler_counts_as_the_slides_do():
    table = pd.DataFrame(
        [(name, clean) for name in CONTINENT_SHARES for clean in (True, False) for _ in range(9)],
        columns=["continent", "is_clean"],
    )
    sampler = ContinentSampler(StageConfig(epoch_images=100), table)
    seen = Counter(table.iloc[sampler.rows_of(0)].itertuples(index=False, name=None))
    assert (seen["Asia", True], seen["Asia", False]) == (33, 17)
    assert (seen["Europe", True], seen["Europe", False]) == (13, 7)
    assert (seen["Africa", True], seen["Africa", False]) == (9, 6)
    assert (seen["North America", True], seen["North America", False]) == (6, 4)


@pytest.mark.parametrize("seed", range(50))
def test_continent_sampler_keeps_shares_whatever_pools_are_empty(seed):
    table, size = random_table(seed), 3000
    sampler = ContinentSampler(StageConfig(epoch_images=size), table, seed=seed)
    seen = table.iloc[sampler.rows_of(0)]
    present = {name: CONTINENT_SHARES[name] for name in set(table["continent"])}
    for name, share in present.items():
        here = seen[seen["continent"] == name]
        assert len(here) == pytest.approx(size * share / sum(present.values()), abs=1)
        kinds = set(table[table["continent"] == name]["is_clean"])
        clean_share = {True: 1.0, False: 0.0}[kinds.pop()] if len(kinds) == 1 else 0.66
        assert here["is_clean"].sum() == pytest.approx(len(here) * clean_share, abs=1)


def test_continent_sampler_is_uniform_within_a_pool():
    stage = StageConfig(epoch_images=60_000, clean_share=0.5)
    sampler = ContinentSampler(stage, images(is_clean=np.arange(30) < 10))
    counts = np.bincount(sampler.rows_of(0), minlength=30)
    assert abs(counts[:10] - 3000).max() < 300
    assert abs(counts[10:] - 1500).max() < 220


def test_continent_sampler_refuses_unknown_names():
    with pytest.raises(ValueError, match="found Atlantis"):
        ContinentSampler(StageConfig(), images(continent=["Asia", "Atlantis"]))


@pytest.mark.parametrize("seed", range(50))
def test_apportion_is_exact_and_within_one_of_the_share(seed):
    rng = np.random.default_rng(seed)
    shares, total = rng.random(rng.integers(1, 9)) + 0.01, int(rng.integers(0, 1000))
    counts = apportion(total, shares.tolist())
    assert counts.sum() == total
    assert (abs(counts - total * shares / shares.sum()) < 1).all()


def test_samplers_refuse_what_cannot_work():
    uneven = StageConfig(sampler="class_uniform", batch_size=144)
    with pytest.raises(ValueError, match="that 4 images per class divide"):
        ClassUniformSampler(uneven, random_table(0), world_size=8)
