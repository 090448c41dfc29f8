import numpy as np
import pytest

from lib.reranking.landmark_country import add_votes, apply_votes, explain, landmark_country_rerank
from lib.reranking.votes import Tags, Votes, tag_gallery, vote
from lib.retrieval.knn import search
from lib.retrieval.metrics import mean_average_precision
from lib.retrieval.ranking import Ranking


def unit_rows(generator, count, width):
    rows = generator.standard_normal((count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


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


SLIDE_QUERY = np.array([[1.0, 0.0]])
SLIDE_GALLERY = np.array([[c, np.sqrt(1 - c * c)] for c in (0.7, 0.6, 0.5, 0.1)])
SLIDE_VOTES = Votes(
    landmarks=np.array([[7]]),
    landmark_scores=np.array([[0.7]]),
    countries=np.array([["CN"]]),
    country_scores=np.array([[0.9]]),
    references=np.array([[0]]),
    similarities=np.array([[0.7]]),
    voters=Tags([7], ["CN"]),
)
SLIDE_TAGS = Tags([7, 8, 9, 7], ["CN", "IN", "CN", "CN"])


@pytest.mark.parametrize(
    ("alpha", "beta", "order"),
    [
        (0.0, 0.0, [0, 1, 2, 3]),
        (1.0, 0.0, [0, 3, 1, 2]),  # slide 7: the landmark alone
        (1.0, 0.1, [0, 3, 1, 2]),  # the published weights
        (1.0, 0.2, [0, 3, 2, 1]),  # slide 8 draws the country ahead: that needs beta > 1/9
    ],
)
def test_apply_votes_gives_the_slides_numbers(alpha, beta, order):
    ranking = apply_votes(
        SLIDE_QUERY, SLIDE_GALLERY, SLIDE_VOTES, SLIDE_TAGS, alpha=alpha, beta=beta
    )
    final = [
        0.7 + alpha * 0.7 + beta * 0.9,
        0.6,
        0.5 + beta * 0.9,
        0.1 + alpha * 0.7 + beta * 0.9,
    ]
    assert ranking.positions[0].tolist() == order
    assert ranking.scores[0].tolist() == pytest.approx([final[i] for i in order], abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(("alpha", "beta", "top"), [(1.0, 0.1, 3), (0.3, 0.5, 1), (0.0, 0.0, 5)])
def test_landmark_country_rerank_agrees_with_the_dense_formula(seed, normalise, alpha, beta, top):
    case = random_case(seed)
    ranking = landmark_country_rerank(
        **case, k=100, alpha=alpha, beta=beta, top=top, normalise=normalise, block=64 + 37 * seed
    )
    expected = naive_rerank(case, 100, alpha, beta, top, normalise)
    for row, (order, final) in enumerate(expected):
        assert ranking.positions[row].tolist() == order
        np.testing.assert_allclose(ranking.scores[row], final, atol=1e-6)


def test_landmark_country_rerank_does_not_depend_on_blocks():
    case = random_case(5, images=3000)
    rankings = [landmark_country_rerank(**case, k=20, block=block) for block in (131, 65_536)]
    np.testing.assert_array_equal(rankings[0].positions, rankings[1].positions)
    np.testing.assert_array_equal(rankings[0].scores, rankings[1].scores)


def test_landmark_country_rerank_breaks_ties_by_position():
    # Few different images: every score occurs dozens of times.
    case = random_case(6)
    case["gallery"] = np.eye(6, dtype=np.float32)[np.arange(700) % 6]
    case["queries"] = np.eye(6, dtype=np.float32)
    ranking = landmark_country_rerank(**case, k=150, block=53)
    for scores, positions in zip(ranking.scores, ranking.positions, strict=True):
        assert (np.diff(positions)[np.diff(scores) == 0] > 0).all()
        assert positions[0] == np.flatnonzero(np.arange(700) % 6 == positions[0] % 6)[0]


def test_landmark_country_rerank_without_weights_or_labels_is_search():
    case = random_case(7)
    plain = search(case["queries"], case["gallery"], 40)
    unlabelled = case | dict(reference_landmarks=np.full(150, -1))
    for ranking in (
        landmark_country_rerank(**case, k=40, alpha=0.0, beta=0.0),
        landmark_country_rerank(**unlabelled, k=40),
        landmark_country_rerank(**unlabelled, k=40, reciprocal=True),
    ):
        np.testing.assert_array_equal(ranking.positions, plain.positions)
        np.testing.assert_array_equal(ranking.scores, plain.scores)


def test_landmark_country_rerank_adds_no_country_where_none_is_known():
    case = random_case(8) | dict(reference_countries=np.full(150, ""))
    with_beta = landmark_country_rerank(**case, k=30, beta=5.0)
    without = landmark_country_rerank(**case, k=30, beta=0.0)
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
    before = search(queries, gallery, 20, **ids)
    after = landmark_country_rerank(
        queries, gallery, references, landmarks, ["CN"] * 360, k=20, **ids
    )
    gained = mean_average_precision(after, solution) - mean_average_precision(before, solution)
    assert gained > 0.1


def test_landmark_country_rerank_ranks_an_image_identical_to_the_query_by_the_formula():
    # Copies of the query share its nearest reference, hence its best landmark: nothing beats them.
    case = random_case(10, width=24)
    case["reference_landmarks"] = np.arange(150)
    case["gallery"][[3, 500]] = case["queries"][0]
    ranking = landmark_country_rerank(**case, k=5)
    assert ranking.positions[0, :2].tolist() == [3, 500]
    assert ranking.scores[0, 0] == ranking.scores[0, 1]


@pytest.mark.parametrize(("queries", "images"), [(0, 5), (5, 0), (0, 0)])
def test_landmark_country_rerank_of_nothing_is_an_empty_ranking(queries, images):
    ranking = landmark_country_rerank(**random_case(11, queries=queries, images=images), k=3)
    assert ranking.positions.shape == (queries, min(3, images))


def test_landmark_country_rerank_keeps_ids_in_step():
    case = random_case(12, queries=2, images=5)
    ids = dict(query_ids=["x", "y"], gallery_ids=list("abcde"))
    ranking = landmark_country_rerank(**case, k=100, **ids)
    assert all(sorted(found) == list("abcde") for found in ranking.predictions().values())
    with pytest.raises(ValueError, match="one gallery id per row, found 4 ids for 5 rows"):
        landmark_country_rerank(**case, gallery_ids=list("abcd"))
    with pytest.raises(ValueError, match="one query id per row, found 1 ids for 2 rows"):
        landmark_country_rerank(**case, query_ids=["x"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(gallery=np.ones((700, 5))), "one width, found 5 and 6"),
        (dict(queries=np.ones((12, 7))), "one width, found 7 and 6"),
        (dict(reference_landmarks=[1, 2]), r"found \(2,\) and 150"),
        (dict(references=np.ones((149, 6))), "found 150 for 149 references"),
        (dict(gallery=np.full((700, 6), np.nan)), "finite gallery.* row 0"),
        (dict(alpha=np.nan), "finite alpha and beta"),
        (dict(top=0), "at least 1, found 0"),
        (dict(k=0), "at least 1, found 0"),
    ],
)
def test_landmark_country_rerank_refuses_bad_input(changes, message):
    with pytest.raises(ValueError, match=message):
        landmark_country_rerank(**(random_case(13) | changes))


def test_apply_votes_refuses_votes_and_tags_of_something_else():
    with pytest.raises(ValueError, match="one vote per row of embeddings, found 1 for 2"):
        apply_votes(np.eye(2), SLIDE_GALLERY, SLIDE_VOTES, SLIDE_TAGS)
    with pytest.raises(ValueError, match="one tag per row of embeddings, found 4 for 3"):
        apply_votes(SLIDE_QUERY, SLIDE_GALLERY[:3], SLIDE_VOTES, SLIDE_TAGS)


def test_explain_takes_the_slides_scores_apart():
    ids = dict(query_ids=["q"], gallery_ids=["same", "india", "china", "side"])
    weights = dict(alpha=1.0, beta=0.1)
    ranking = apply_votes(SLIDE_QUERY, SLIDE_GALLERY, SLIDE_VOTES, SLIDE_TAGS, **weights, **ids)
    table = explain(ranking, SLIDE_VOTES, SLIDE_TAGS, "q", **weights).set_index("id")
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
    labelled = [case[name] for name in ("references", "reference_landmarks", "reference_countries")]
    votes = vote(case["queries"], *labelled)
    tags = tag_gallery(case["gallery"], *labelled)
    ranking = apply_votes(case["queries"], case["gallery"], votes, tags, alpha=0.7, beta=0.2)
    similarities = case["queries"] @ case["gallery"].T
    for row in range(len(ranking)):
        table = explain(ranking, votes, tags, row, alpha=0.7, beta=0.2)
        raw = similarities[row, table["position"]]
        np.testing.assert_allclose(table["raw"], raw, atol=1e-6)


def test_explain_refuses_what_it_does_not_know():
    ranking = apply_votes(SLIDE_QUERY, SLIDE_GALLERY, SLIDE_VOTES, SLIDE_TAGS)
    with pytest.raises(ValueError, match="expected one of the 1 ranked queries"):
        explain(ranking, SLIDE_VOTES, SLIDE_TAGS, 3)
    with pytest.raises(ValueError, match="votes and tags of this ranking"):
        explain(ranking, SLIDE_VOTES, Tags([7], ["CN"]), 0)


def test_explain_tells_what_the_rerank_moved():
    ids = dict(query_ids=["q"], gallery_ids=["same", "india", "china", "side"])
    plain = search(SLIDE_QUERY, SLIDE_GALLERY, 2, **ids)
    ranking = apply_votes(SLIDE_QUERY, SLIDE_GALLERY, SLIDE_VOTES, SLIDE_TAGS, **ids)
    table = explain(ranking, SLIDE_VOTES, SLIDE_TAGS, "q", before=plain).set_index("id")
    assert table["rank_before"].fillna(0).tolist() == [1, 0, 2, 0]
    assert table["moved"].tolist() == [
        "stayed",
        "not among the 2 before",
        "fell from rank 2",
        "not among the 2 before",
    ]
    full = search(SLIDE_QUERY, SLIDE_GALLERY, 4, **ids)
    table = explain(ranking, SLIDE_VOTES, SLIDE_TAGS, "q", before=full)
    assert table["rank_before"].tolist() == [1, 4, 2, 3]
    assert table["moved"].iloc[1] == "came from rank 4"
    with pytest.raises(ValueError, match="one of the 1 ranked queries, found 'q'"):
        explain(ranking, SLIDE_VOTES, SLIDE_TAGS, "q", before=Ranking([[0.9]], [[0]], ["p"]))


@pytest.mark.parametrize("seed", range(3))
def test_add_votes_to_the_whole_gallery_is_apply_votes(seed):
    case = random_case(seed)
    labelled = [case[name] for name in ("references", "reference_landmarks", "reference_countries")]
    votes, tags = vote(case["queries"], *labelled), tag_gallery(case["gallery"], *labelled)
    whole = search(case["queries"], case["gallery"], 700)
    found = add_votes(whole, votes, tags, alpha=0.7, beta=0.2)
    expected = apply_votes(
        case["queries"], case["gallery"], votes, tags, k=700, alpha=0.7, beta=0.2
    )
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    np.testing.assert_array_equal(found.positions[:, :50], expected.positions[:, :50])


def test_add_votes_reorders_a_list_and_brings_nothing_in():
    ids = dict(query_ids=["q"], gallery_ids=["same", "india", "china", "side"])
    plain = search(SLIDE_QUERY, SLIDE_GALLERY, 3, **ids)
    found = add_votes(plain, SLIDE_VOTES, SLIDE_TAGS, alpha=1.0, beta=0.2)
    assert found.predictions() == {"q": ["same", "china", "india"]}
    assert found.scores[0].tolist() == pytest.approx([1.58, 0.68, 0.6])
    with pytest.raises(ValueError, match="tags of the 4 gallery images, found 1"):
        add_votes(plain, SLIDE_VOTES, Tags([7], ["CN"]))
    with pytest.raises(ValueError, match="finite alpha and beta"):
        add_votes(plain, SLIDE_VOTES, SLIDE_TAGS, alpha=np.inf)
