import numpy as np
import pandas as pd
import pytest

from lib.reranking.data import RetrievalData
from lib.reranking.k_reciprocal import ReciprocalSettings, reciprocal_neighbours
from lib.reranking.votes import Tags, gallery_votes, query_votes, tag_gallery
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
    assert len(vote(nobody, np.eye(2), [1, 2], ["CN", "IN"])) == 0
    assert len(tags_of(nobody, np.eye(2), [1, 2], ["CN", "IN"])) == 0


def test_tags_read_table_columns_and_keep_namibia():
    table = pd.DataFrame({"landmark_id": [3, -1, 4], "country": ["NA", None, float("nan")]})
    tags = Tags(table["landmark_id"], table["country"])
    assert tags.countries.tolist() == ["NA", "", ""]
    assert tags.landmarks.dtype == np.int64


@pytest.mark.parametrize(
    ("references", "landmarks", "countries", "message"),
    [
        (np.eye(2), [1], ["CN"], "found 1 for 2 references"),
        (np.eye(2), [1, 2], ["CN"], r"found \(2,\) and 1"),
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
