"""What a table of ablations says: paired differences, intervals over queries and seeds."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from lib.ablation.statistics import agreement, by_seed, table, two_way_interval, verdict
from lib.ablation.tables import AblationRow
from lib.config import ModelConfig


def scores_of(private, public=((0.5,),)):
    """Scores with the given average precisions (seeds, queries), their rows in disorder."""
    parts = [
        pd.DataFrame(
            {
                "id": [f"{usage}{query}" for query in range(len(values))],
                "usage": usage,
                "average_precision": values,
                "seed": seed,
            }
        )
        for usage, matrix in (("Private", private), ("Public", public))
        for seed, values in enumerate(matrix)
    ]
    return pd.concat(parts).sample(frac=1, random_state=0)


def row_of(name, against="", paper=np.nan):
    return AblationRow(name, ModelConfig(), (), against, paper_private=paper)


def test_by_seed_puts_queries_in_order_whatever_the_order_of_rows():
    private = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]
    scores = scores_of(private, public=[[0.9], [0.7]])
    np.testing.assert_array_equal(by_seed(scores, "Private"), private)
    np.testing.assert_array_equal(by_seed(scores, "Public"), [[0.9], [0.7]])


def test_table_pairs_queries_before_it_takes_the_mean():
    before, after = [[0.1, 0.5], [0.3, 0.3]], [[0.2, 0.6], [0.4, 0.4]]
    rows = [row_of("before", paper=0.5), row_of("after", "before", paper=0.6)]
    found = table(rows, {"before": scores_of(before), "after": scores_of(after)})
    first, second = found.to_dict("records")
    assert first["private"] == pytest.approx(0.3)
    assert second["private"] == pytest.approx(0.4)
    assert first["low"] < 0.3 < first["high"]
    assert first["seeds"] == second["seeds"] == 2
    assert first["public"] == second["public"] == 0.5
    # Every query gains 0.1 under every seed, so nothing is uncertain about the gain.
    gain = [second[name] for name in ("difference", "difference_low", "difference_high")]
    assert gain == pytest.approx([0.1] * 3)
    assert second["paper"] == pytest.approx(0.1)
    assert second["verdict"] == "agrees with the paper"
    assert np.isnan([first["paper"], first["difference"]]).all()
    assert first["verdict"] == ""


def test_table_judges_by_the_paired_interval():
    before, generator = np.full((1, 200), 0.5), np.random.default_rng(0)
    noise = generator.normal(0, 0.05, (1, 200))
    rows = [
        row_of("before", paper=0.5),
        *(row_of(name, "before", paper=0.6) for name in ("worse", "same", "better")),
        row_of("unknown", "before"),
    ]
    gains = {"before": 0.0, "worse": -0.1, "same": 0.0, "better": 0.1, "unknown": 0.1}
    results = {name: scores_of(before + gain + noise * (gain != 0)) for name, gain in gains.items()}
    assert table(rows, results)["verdict"].tolist() == [
        "",
        "contradicts it",
        "not separable",
        "agrees with the paper",
        "helps",
    ]


def test_table_has_a_column_of_notes_where_a_row_has_one():
    rows = [row_of("a"), dataclasses.replace(row_of("b", "a"), note="shorter")]
    assert table(rows, {})["note"].tolist() == ["", "shorter"]
    assert "note" not in table(rows[:1], {})


def test_table_says_what_was_not_run():
    rows = [row_of("a", paper=0.1), row_of("b", "a", paper=0.2), row_of("c", "b", paper=0.4)]
    found = table(rows, {"a": scores_of([[0.5]]), "c": scores_of([[0.5]])})
    assert found["verdict"].tolist() == ["", "not run", ""]
    assert found[["private", "difference"]].isna().to_numpy().tolist() == [
        [False, True],
        [True, True],
        [False, True],
    ]
    np.testing.assert_allclose(found["paper"], [np.nan, 0.1, 0.2])
    nothing = table(rows, {})
    assert nothing.columns.tolist() == found.columns.tolist()
    assert nothing["verdict"].eq("not run").all()


def test_table_reads_private_and_public_queries_apart():
    scores = scores_of([[0.1, 0.3]], public=[[0.6, 0.8]])
    found = table([row_of("a")], {"a": scores})
    assert (found["private"][0], found["public"][0]) == pytest.approx((0.2, 0.7))
    assert found["low"][0] < 0.2 < found["high"][0]
    assert found["public_low"][0] < 0.7 < found["public_high"][0]


@pytest.mark.parametrize(
    ("paper", "low", "high", "expected"),
    [
        (0.01, 0.002, 0.03, "agrees with the paper"),
        (-0.01, -0.03, -0.002, "agrees with the paper"),
        (0.01, -0.03, -0.002, "contradicts it"),
        (-0.01, 0.002, 0.03, "contradicts it"),
        (0.01, -0.001, 0.03, "not separable"),
        (0.01, 0.0, 0.03, "not separable"),
        (np.nan, -0.01, 0.01, "not separable"),
        (np.nan, 0.01, 0.02, "helps"),
        (np.nan, -0.02, -0.01, "harms"),
    ],
)
def test_verdict_compares_signs(paper, low, high, expected):
    assert verdict(paper, low, high) == expected


def naive_means(values, generator, resamples):
    """The bootstrap over seeds and queries, one draw at a time."""
    seeds, queries = values.shape
    means = []
    for _ in range(resamples):
        chosen_seeds = [generator.integers(seeds) for _ in range(seeds)]
        chosen_queries = [generator.integers(queries) for _ in range(queries)]
        cells = [values[seed, query] for seed in chosen_seeds for query in chosen_queries]
        means.append(sum(cells) / len(cells))
    return means


@pytest.mark.parametrize(("seeds", "queries"), [(1, 30), (3, 12), (4, 1)])
def test_two_way_interval_agrees_with_drawing_one_by_one(seeds, queries):
    generator = np.random.default_rng(seeds)
    values = generator.normal(0.4, 0.2, (seeds, queries)) + generator.normal(0, 0.1, (seeds, 1))
    mean, low, high = two_way_interval(values, np.random.default_rng(0))
    means = naive_means(values, generator, 2000)
    assert mean == pytest.approx(values.mean())
    spread = np.std(means)
    assert [low, high] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.25 * spread)
    assert low < mean < high


def test_two_way_interval_of_equal_values_has_no_width():
    found = two_way_interval(np.full((3, 7), 0.3), np.random.default_rng(0))
    assert found == pytest.approx((0.3, 0.3, 0.3), abs=1e-12)


def test_two_way_interval_counts_seeds_as_uncertain():
    spread = np.linspace(0.2, 0.6, 50)
    alike = np.tile(spread, (3, 1))
    apart = alike + np.array([[-0.1], [0.0], [0.1]])
    widths = [
        high - low
        for _, low, high in (
            two_way_interval(values, np.random.default_rng(0)) for values in (alike, apart)
        )
    ]
    assert widths[1] > 1.5 * widths[0]


def test_two_way_interval_repeats_with_its_generator():
    values = np.random.default_rng(0).random((2, 9))
    first, second, other = (
        two_way_interval(values, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first == second != other


def test_table_has_a_column_of_times_where_there_are_some():
    rows = [dataclasses.replace(row_of("a"), paper_milliseconds=26.3), row_of("b", "a")]
    found = table(rows, {"a": scores_of([[0.5]])}, times={"a": 3.5})
    assert (found["paper_milliseconds"][0], found["milliseconds"][0]) == (26.3, 3.5)
    assert np.isnan(found["milliseconds"][1])
    assert "milliseconds" not in table(rows, {})


def test_table_gives_a_leaked_row_no_verdict():
    rows = [row_of("a"), AblationRow("b", against="a", is_leaked=True)]
    found = table(rows, {"a": scores_of([[0.1, 0.2]]), "b": scores_of([[0.8, 0.9]])})
    assert found["verdict"].tolist() == ["", "leaked"]


def test_agreement_counts_each_direction_of_the_papers_once():
    columns = ["name", "against", "paper", "verdict"]
    first = [
        ("a", "", np.nan, ""),
        ("b", "a", 0.1, "agrees with the paper"),
        ("c", "a", -0.1, "contradicts it"),
    ]
    second = [
        ("b", "a", 0.1, "agrees with the paper"),
        ("d", "a", 0.1, "not separable"),
        ("e", "a", 0.1, "not run"),
        ("f", "a", np.nan, "helps"),
        ("g", "a", 0.0001, "not separable"),
    ]
    found = agreement([pd.DataFrame(rows, columns=columns) for rows in (first, second)])
    assert found == {
        "directions": 4, "agree": 1, "contradict": 1, "unclear": 1, "not_run": 1
    }  # fmt: skip


def test_two_way_interval_of_no_query_is_not_known():
    assert np.isnan(two_way_interval(np.empty((0, 0)), np.random.default_rng(0))).all()
