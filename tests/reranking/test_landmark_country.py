import numpy as np
import pandas as pd
import pytest

from lib.reranking.data import RetrievalData
from lib.reranking.k_reciprocal import (
    ReciprocalSettings,
    k_reciprocal_rerank,
    reciprocal_neighbours,
)
from lib.reranking.landmark_country import (
    explain,
    gallery_votes,
    k_reciprocal_landmark_country,
    landmark_country_rerank,
    query_votes,
    reference_tags,
    tag_gallery,
    vote_scores,
)
from lib.retrieval.knn import search
from lib.retrieval.metrics import mean_average_precision
from tests.made_up import unit_rows


def vote(queries, references, landmarks, countries, **voting):
    return query_votes(RetrievalData(queries, queries, references, landmarks, countries), **voting)


def tags_of(gallery, references, landmarks, countries):
    return tag_gallery(RetrievalData(gallery, gallery, references, landmarks, countries))


def at_cosines(*cosines):
    """Unit rows with these cosines to the query (1, 0)."""
    return np.array([[c, np.sqrt(1 - c * c)] for c in cosines])


QUERY = np.array([[1.0, 0.0]])


def naive_votes(query, references, landmarks, countries, top, normalise):
    """Sums per tag in dictionaries."""
    similarities = references.astype(np.float64) @ query.astype(np.float64)
    labelled = [i for i in range(len(references)) if landmarks[i] != -1]
    voters = sorted(labelled, key=lambda i: (-similarities[i], i))[:top]
    both = []
    for tags, missing in ((landmarks, -1), (countries, "")):
        scores = {}
        for i in voters:
            if tags[i] != missing and similarities[i] > 0:
                scores[tags[i]] = scores.get(tags[i], 0.0) + similarities[i]
        total = sum(scores.values()) if normalise else 1.0
        both.append({tag: score / total for tag, score in scores.items()})
    return both


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("top", [1, 3, 6, 200])
def test_vote_agrees_with_naive_reference(normalise, top):
    generator = np.random.default_rng(top)
    queries, references = unit_rows(generator, 25, 5), unit_rows(generator, 120, 5)
    landmarks = generator.integers(-1, 8, 120)
    countries = generator.choice(["", "CN", "IN", "NA", "OTHER"], 120)
    votes = vote(queries, references, landmarks, countries, top=top, normalise=normalise)
    for row, query in enumerate(queries):
        expected = naive_votes(query, references, landmarks, countries, top, normalise)
        tallies = [
            (votes.landmarks, votes.landmark_scores, -1),
            (votes.countries, votes.country_scores, ""),
        ]
        for (tags, scores, missing), wanted in zip(tallies, expected, strict=True):
            kept = tags[row] != missing
            assert (scores[row][~kept] == 0).all()
            assert (np.diff(scores[row]) <= 0).all()
            found = dict(zip(tags[row][kept].tolist(), scores[row][kept].tolist(), strict=True))
            assert found == pytest.approx(wanted, abs=1e-6)


def test_vote_adds_up_the_slides_scores():
    references = at_cosines(0.4, 0.3, 0.2, 0.1)
    landmarks, countries = [7, 7, 10, 11], ["CN", "CN", "CN", "IN"]
    raw = vote(QUERY, references, landmarks, countries, normalise=False)
    assert raw.landmarks.tolist() == [[7, 10, -1]]
    assert raw.landmark_scores[0].tolist() == pytest.approx([0.7, 0.2, 0.0])
    assert raw.countries.tolist() == [["CN", "", ""]]
    assert raw.country_scores[0].tolist() == pytest.approx([0.9, 0.0, 0.0])
    shares = vote(QUERY, references, landmarks, countries)
    assert shares.landmark_scores[0].tolist() == pytest.approx([7 / 9, 2 / 9, 0.0])
    assert shares.country_scores[0].tolist() == pytest.approx([1.0, 0.0, 0.0])


def test_vote_leaves_out_references_without_landmark():
    votes = vote(QUERY, at_cosines(0.9, 0.8, 0.7), [-1, 5, 6], ["FR", "CN", "CN"], top=2)
    assert votes.references.tolist() == [[1, 2]]
    assert votes.countries[0].tolist() == ["CN", ""]


def test_vote_without_country_counts_for_the_landmark_only():
    votes = vote(QUERY, at_cosines(0.9, 0.8), [5, 6], ["", ""], top=2)
    assert set(votes.landmarks[0]) == {5, 6}
    assert votes.countries.tolist() == [["", ""]]
    assert votes.country_scores.tolist() == [[0.0, 0.0]]


def test_vote_gives_no_weight_to_negative_similarity():
    for normalise in (True, False):
        votes = vote(QUERY, at_cosines(-0.2, -0.5), [5, 6], ["CN", "IN"], normalise=normalise)
        assert votes.landmark_scores.tolist() == [[0.0, 0.0]]
        assert votes.landmarks.tolist() == [[-1, -1]]
    mixed = vote(QUERY, at_cosines(0.5, -0.5), [5, 6], ["CN", "IN"])
    assert mixed.landmark_scores.tolist() == [[1.0, 0.0]]


def test_vote_tabulates_who_voted():
    votes = vote(QUERY, at_cosines(0.1, 0.9, 0.5), [4, 5, 6], ["CN", "IN", None], top=2)
    table = votes.of(0)
    assert table["position"].tolist() == [1, 2]
    assert table["similarity"].tolist() == pytest.approx([0.9, 0.5])
    assert table["landmark"].tolist() == [5, 6]
    assert table["country"].tolist() == ["IN", ""]


@pytest.mark.parametrize("settings", [True, ReciprocalSettings(8, 4, 2)])
def test_vote_can_choose_voters_by_reciprocal_similarity(settings):
    generator = np.random.default_rng(0)
    queries, references = unit_rows(generator, 6, 4), unit_rows(generator, 80, 4)
    landmarks = generator.integers(0, 5, 80)
    votes = vote(queries, references, landmarks, ["CN"] * 80, reciprocal=settings)
    chosen = settings if isinstance(settings, ReciprocalSettings) else ReciprocalSettings()
    similarities, positions = reciprocal_neighbours(queries, references, 3, chosen)
    np.testing.assert_array_equal(votes.references, positions)
    np.testing.assert_array_equal(votes.similarities, similarities)
    plain = vote(queries, references, landmarks, ["CN"] * 80)
    assert (plain.similarities != votes.similarities).any()


def test_vote_reads_a_float16_memory_map(tmp_path):
    generator = np.random.default_rng(1)
    references = unit_rows(generator, 900, 8).astype(np.float16)
    np.save(tmp_path / "references.npy", references)
    mapped = np.load(tmp_path / "references.npy", mmap_mode="r")
    landmarks = generator.integers(-1, 50, 900)
    queries = unit_rows(generator, 5, 8)
    votes = vote(queries, mapped, landmarks, [""] * 900)
    expected = vote(queries, references.astype(np.float32), landmarks, [""] * 900)
    np.testing.assert_array_equal(votes.references, expected.references)
    np.testing.assert_array_equal(votes.landmark_scores, expected.landmark_scores)


def test_tag_gallery_takes_the_nearest_labelled_reference():
    gallery = at_cosines(1.0, 0.5, 0.0)
    references = at_cosines(0.99, 0.9, 0.1)
    tags = tags_of(gallery, references, [-1, 5, 6], ["FR", "CN", ""])
    assert tags.landmarks.tolist() == [5, 6, 6]
    assert tags.countries.tolist() == ["CN", "", ""]


@pytest.mark.parametrize("landmarks", [[], [-1, -1]])
def test_nothing_labelled_means_no_votes_and_no_tags(landmarks):
    references, countries = np.ones((len(landmarks), 2)), ["CN"] * len(landmarks)
    for reciprocal in (False, True):
        votes = vote(QUERY, references, landmarks, countries, reciprocal=reciprocal)
        assert votes.landmarks.shape == votes.countries.shape == (1, 0)
        assert len(votes.of(0)) == 0
    tags = tags_of(np.eye(2), references, landmarks, countries)
    assert tags.landmarks.tolist() == [-1, -1]
    assert tags.countries.tolist() == ["", ""]


def test_no_queries_and_no_gallery_are_no_votes_and_no_tags():
    nobody = np.zeros((0, 2))
    assert len(vote(nobody, np.eye(2), [1, 2], ["CN", "IN"]).landmarks) == 0
    assert len(tags_of(nobody, np.eye(2), [1, 2], ["CN", "IN"]).landmarks) == 0


def test_tags_read_table_columns_and_keep_namibia():
    table = pd.DataFrame({"landmark_id": [3, -1, 4], "country": ["NA", None, float("nan")]})
    labels = table["landmark_id"], table["country"]
    tags = reference_tags(RetrievalData(np.eye(3), np.eye(3), np.eye(3), *labels))
    assert tags.countries.tolist() == ["NA", "", ""]
    assert tags.landmarks.dtype == np.int64


@pytest.mark.parametrize(
    ("references", "landmarks", "countries", "message"),
    [
        (np.eye(2), [1], ["CN"], "2 references, found 1 and 1"),
        (np.eye(2), [1, 2], ["CN"], "2 references, found 2 and 1"),
        (np.eye(2), [1.5, 2.0], ["CN", "CN"], "integer landmarks, found float64"),
        (np.eye(3), [1, 2, 3], ["CN"] * 3, "references of one width, found 2 and 3"),
        (np.full((2, 2), np.nan), [1, 2], ["CN"] * 2, "finite references.* row 0"),
        (np.array([[1, 0], [1, 0], [np.inf, 0]]), [1, -1, 2], ["CN"] * 3, "references.* row 2"),
    ],
)
def test_vote_and_tag_gallery_refuse_bad_input(references, landmarks, countries, message):
    for stage in (vote, tags_of):
        with pytest.raises(ValueError, match=message):
            stage(QUERY, references, landmarks, countries)


def test_gallery_votes_are_raw_sums():
    generator = np.random.default_rng(2)
    gallery, references = unit_rows(generator, 5, 4), unit_rows(generator, 40, 4)
    labels = generator.integers(0, 6, 40), ["CN"] * 40
    found = gallery_votes(RetrievalData(gallery[:1], gallery, references, *labels), top=4)
    expected = vote(gallery, references, *labels, top=4, normalise=False)
    np.testing.assert_array_equal(found.landmarks, expected.landmarks)
    np.testing.assert_array_equal(found.landmark_scores, expected.landmark_scores)


def random_case(seed, queries=12, images=700, references=150, width=6):
    """Embeddings and tags, some of which are missing."""
    generator = np.random.default_rng(seed)
    return dict(
        queries=unit_rows(generator, queries, width),
        gallery=unit_rows(generator, images, width),
        references=unit_rows(generator, references, width),
        reference_landmarks=generator.integers(-1, 30, references),
        reference_countries=generator.choice(["", "CN", "IN", "FR", "OTHER"], references),
    )


def naive_rerank(case, k, alpha, beta, top, normalise):
    """The dense formula, tag by tag, in double precision."""
    case = {name: value.tolist() for name, value in case.items()}
    landmarks, countries = case["reference_landmarks"], case["reference_countries"]
    references = np.array(case["references"])
    labelled = [i for i in range(len(landmarks)) if landmarks[i] != -1]

    def nearest(vector, count):
        similarities = references @ np.array(vector)
        return [
            (i, similarities[i]) for i in sorted(labelled, key=lambda i: -similarities[i])[:count]
        ]

    tags = [nearest(image, 1)[0][0] for image in case["gallery"]]
    rankings = []
    for query in case["queries"]:
        scores = ({}, {})
        for i, similarity in nearest(query, top):
            for tally, tag in zip(scores, (landmarks[i], countries[i]), strict=True):
                if tag != "":
                    tally[tag] = tally.get(tag, 0.0) + max(similarity, 0.0)
        if normalise:
            scores = [{t: s / sum(tally.values()) for t, s in tally.items()} for tally in scores]
        final = np.array(case["gallery"]) @ np.array(query)
        for i, tag in enumerate(tags):
            final[i] += alpha * scores[0].get(landmarks[tag], 0.0)
            final[i] += beta * scores[1].get(countries[tag], 0.0)
        order = sorted(range(len(final)), key=lambda i: (-final[i], i))[:k]
        rankings.append((order, final[order]))
    return rankings


RAW = {"normalise": False}


def slide_data(k=100):
    """The example of the slides: raw votes of 0.7 for the query's landmark, 0.9 for its country.

    Three references vote. Four others, orthogonal to the query, tag the gallery.
    """
    axes = np.eye(8)

    def at_cosine(cosine, axis):
        return cosine * axes[0] + np.sqrt(1 - cosine**2) * axes[axis]

    gallery = [at_cosine(cosine, 1 + i) for i, cosine in enumerate((0.7, 0.6, 0.5, 0.1))]
    voters = [at_cosine(cosine, 5 + i) for i, cosine in enumerate((0.4, 0.3, 0.2))]
    return RetrievalData(
        axes[:1],
        np.array(gallery),
        np.array([*axes[1:5], *voters]),
        [7, 8, 9, 7, 7, 7, 10],
        ["CN", "IN", "CN", "CN", "CN", "CN", "CN"],
        query_ids=["q"],
        gallery_ids=["same", "india", "china", "side"],
        k=k,
    )


@pytest.mark.parametrize(
    ("alpha", "beta", "order"),
    [
        (0.0, 0.0, [0, 1, 2, 3]),
        (1.0, 0.0, [0, 3, 1, 2]),  # slide 7: the landmark alone
        (1.0, 0.1, [0, 3, 1, 2]),  # the published weights
        (1.0, 0.2, [0, 3, 2, 1]),  # slide 8 draws the country ahead: that needs beta > 1/9
    ],
)
def test_landmark_country_rerank_gives_the_slides_numbers(alpha, beta, order):
    ranking = landmark_country_rerank(slide_data(), alpha=alpha, beta=beta, **RAW)
    final = [0.7 + alpha * 0.7 + beta * 0.9, 0.6, 0.5 + beta * 0.9, 0.1 + alpha * 0.7 + beta * 0.9]
    assert ranking.positions[0].tolist() == order
    assert ranking.scores[0].tolist() == pytest.approx([final[i] for i in order], abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(("alpha", "beta", "top"), [(1.0, 0.1, 3), (0.3, 0.5, 1), (0.0, 0.0, 5)])
def test_landmark_country_rerank_agrees_with_the_dense_formula(seed, normalise, alpha, beta, top):
    case = random_case(seed)
    data = RetrievalData(**case)
    ranking = landmark_country_rerank(data, alpha=alpha, beta=beta, top=top, normalise=normalise)
    expected = naive_rerank(case, 100, alpha, beta, top, normalise)
    for row, (order, final) in enumerate(expected):
        assert ranking.positions[row].tolist() == order
        np.testing.assert_allclose(ranking.scores[row], final, atol=1e-6)


def test_landmark_country_rerank_breaks_ties_by_position():
    # Few different images: every score occurs dozens of times.
    case = random_case(6)
    case["gallery"] = np.eye(6, dtype=np.float32)[np.arange(700) % 6]
    case["queries"] = np.eye(6, dtype=np.float32)
    ranking = landmark_country_rerank(RetrievalData(**case, k=150))
    for scores, positions in zip(ranking.scores, ranking.positions, strict=True):
        assert (np.diff(positions)[np.diff(scores) == 0] > 0).all()
        assert positions[0] == np.flatnonzero(np.arange(700) % 6 == positions[0] % 6)[0]


def test_landmark_country_rerank_without_weights_or_labels_is_search():
    case = random_case(7)
    plain = search(case["queries"], case["gallery"], 40)
    unlabelled = case | dict(reference_landmarks=np.full(150, -1))
    for ranking in (
        landmark_country_rerank(RetrievalData(**case, k=40), alpha=0.0, beta=0.0),
        landmark_country_rerank(RetrievalData(**unlabelled, k=40)),
        landmark_country_rerank(RetrievalData(**unlabelled, k=40), reciprocal=True),
    ):
        np.testing.assert_array_equal(ranking.positions, plain.positions)
        np.testing.assert_array_equal(ranking.scores, plain.scores)


def test_landmark_country_rerank_adds_no_country_where_none_is_known():
    case = random_case(8) | dict(reference_countries=np.full(150, ""))
    with_beta = landmark_country_rerank(RetrievalData(**case, k=30), beta=5.0)
    without = landmark_country_rerank(RetrievalData(**case, k=30), beta=0.0)
    np.testing.assert_array_equal(with_beta.positions, without.positions)
    np.testing.assert_array_equal(with_beta.scores, without.scores)


def test_landmark_country_rerank_brings_in_what_search_never_retrieved():
    # Many views of each landmark, so far apart that plain search mixes landmarks; references lie
    # between them.
    generator = np.random.default_rng(9)
    landmarks = np.repeat(np.arange(30), 12)
    centres = unit_rows(generator, 30, 24)

    def around(labels, spread):
        rows = centres[labels] + spread * unit_rows(generator, len(labels), 24)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    queries, gallery = around(np.arange(30), 1.0), around(landmarks, 1.0)
    references = around(landmarks, 0.5)
    names = [f"g{i}" for i in range(len(landmarks))]
    solution = {f"q{q}": {names[i] for i in np.flatnonzero(landmarks == q)} for q in range(30)}
    ids = dict(query_ids=list(solution), gallery_ids=names)
    data = RetrievalData(queries, gallery, references, landmarks, ["CN"] * 360, k=20, **ids)
    after = mean_average_precision(landmark_country_rerank(data), solution)
    gained = after - mean_average_precision(data.plain, solution)
    assert gained > 0.1


def test_landmark_country_rerank_ranks_an_image_identical_to_the_query_by_the_formula():
    # Copies of the query share its nearest reference, hence its best landmark: nothing beats them.
    case = random_case(10, width=24)
    case["reference_landmarks"] = np.arange(150)
    case["gallery"][[3, 500]] = case["queries"][0]
    ranking = landmark_country_rerank(RetrievalData(**case, k=5))
    assert ranking.positions[0, :2].tolist() == [3, 500]
    assert ranking.scores[0, 0] == ranking.scores[0, 1]


@pytest.mark.parametrize(("queries", "images"), [(0, 5), (5, 0), (0, 0)])
def test_landmark_country_rerank_of_nothing_is_an_empty_ranking(queries, images):
    case = random_case(11, queries=queries, images=images)
    ranking = landmark_country_rerank(RetrievalData(**case, k=3))
    assert ranking.positions.shape == (queries, min(3, images))


def test_landmark_country_rerank_keeps_ids_in_step():
    case = random_case(12, queries=2, images=5)
    data = RetrievalData(**case, query_ids=["x", "y"], gallery_ids=list("abcde"))
    ranking = landmark_country_rerank(data)
    assert all(sorted(found) == list("abcde") for found in ranking.predictions().values())


def test_landmark_country_rerank_of_one_query_is_its_row_of_all():
    data = RetrievalData(**random_case(3), query_ids=[f"q{i}" for i in range(12)])
    every = landmark_country_rerank(data)
    alone = landmark_country_rerank(data, query="q7")
    assert alone.query_ids.tolist() == ["q7"]
    np.testing.assert_array_equal(alone.positions[0], every.positions[7])
    np.testing.assert_array_equal(alone.scores[0], every.scores[7])
    with pytest.raises(ValueError, match="one of the 12 ranked queries, found 'nobody'"):
        landmark_country_rerank(data, query="nobody")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(gallery=np.ones((700, 5))), "one width, found 5 and 6"),
        (dict(queries=np.ones((12, 7))), "one width, found 7 and 6"),
        (dict(reference_landmarks=[1, 2]), "150 references, found 2 and 150"),
        (dict(references=np.ones((149, 6))), "149 references, found 150 and 150"),
        (dict(gallery=np.full((700, 6), np.nan)), "finite gallery.* row 0"),
        (dict(alpha=np.nan), "finite weight"),
        (dict(top=0), "at least 1, found 0"),
        (dict(k=0), "at least 1, found 0"),
    ],
)
def test_landmark_country_rerank_refuses_bad_input(changes, message):
    case = random_case(13) | changes
    settings = {name: case.pop(name) for name in ("alpha", "top") if name in case}
    with pytest.raises(ValueError, match=message):
        landmark_country_rerank(RetrievalData(**case), **settings)


def test_explain_takes_the_slides_scores_apart():
    table = explain(slide_data(), "q", alpha=1.0, beta=0.1, **RAW).set_index("id")
    assert table.index.tolist() == ["same", "side", "india", "china"]
    assert table["raw"].tolist() == pytest.approx([0.7, 0.1, 0.6, 0.5], abs=1e-6)
    assert table["landmark"].tolist() == pytest.approx([0.7, 0.7, 0.0, 0.0])
    assert table["country"].tolist() == pytest.approx([0.09, 0.09, 0.0, 0.09])
    assert table["final"].tolist() == pytest.approx([1.49, 0.89, 0.6, 0.59], abs=1e-6)
    assert table["landmark_id"].tolist() == [7, 7, 8, 9]
    assert table["country_code"].tolist() == ["CN", "CN", "IN", "CN"]
    assert table["position"].tolist() == [0, 3, 1, 2]


def test_explain_finds_the_raw_similarities_again():
    case = random_case(14)
    similarities = case["queries"] @ case["gallery"].T
    data = RetrievalData(**case)
    for row in range(12):
        table = explain(data, row, alpha=0.7, beta=0.2)
        raw = similarities[row, table["position"]]
        np.testing.assert_allclose(table["raw"], raw, atol=1e-6)
    with pytest.raises(ValueError, match="expected one of the 12 ranked queries"):
        explain(data, 12)


def test_explain_tells_what_the_rerank_moved():
    table = explain(slide_data(k=2), "q", **RAW).set_index("id")
    assert table["rank_before"].fillna(0).tolist() == [1, 0]
    assert table["moved"].tolist() == ["stayed", "not among the 2 before"]
    table = explain(slide_data(), "q", **RAW)
    assert table["rank_before"].tolist() == [1, 4, 2, 3]
    assert table["moved"].iloc[1] == "came from rank 4"
    assert table["moved"].iloc[2] == "fell from rank 2"


@pytest.mark.parametrize("seed", range(3))
def test_k_reciprocal_landmark_country_adds_votes_within_the_lists(seed):
    data = RetrievalData(**random_case(seed), k=30)
    before, found = k_reciprocal_rerank(data), k_reciprocal_landmark_country(data)
    terms = vote_scores(data, reciprocal=True)
    for row in range(12):
        positions = before.positions[row]
        landmark, country = (term.at(np.array([[row]]), positions[None])[0] for term in terms)
        final = (before.scores[row] + landmark + 0.1 * country).astype(np.float32)
        order = np.lexsort((positions, -final))
        assert found.positions[row].tolist() == positions[order].tolist()
        np.testing.assert_allclose(found.scores[row], final[order], atol=1e-6)
    with pytest.raises(ValueError, match="finite weight"):
        k_reciprocal_landmark_country(data, alpha=np.inf)
