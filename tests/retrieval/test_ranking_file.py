import zipfile

import numpy as np
import pytest

from lib.retrieval.ranking import Ranking, read_ranking, write_ranking


@pytest.mark.parametrize("ids", [{}, {"query_ids": ["q"], "gallery_ids": ["ä", "b", "0012"]}])
def test_a_ranking_is_read_back_as_it_was(tmp_path, ids):
    ranking = Ranking([[0.9, 0.1]], [[2, 0]], **ids)
    path = write_ranking(ranking, tmp_path / "new" / "ranking")
    assert path.name == "ranking.npz"
    again = read_ranking(path)
    for name in ("scores", "positions", "query_ids", "gallery_ids"):
        np.testing.assert_array_equal(getattr(again, name), getattr(ranking, name))
    assert [file.name for file in path.parent.iterdir()] == ["ranking.npz"]


def test_read_ranking_refuses_other_files(tmp_path):
    (tmp_path / "text.npz").write_text("id,images\n")
    np.savez(tmp_path / "other.npz", rows=np.eye(2))
    np.savez(tmp_path / "wrong.npz", scores=[[0.1, 0.9]], positions=[[0, 1]])
    for name in ("text", "other"):
        with pytest.raises(ValueError, match=rf"expected a ranking in .*{name}.npz, found"):
            read_ranking(tmp_path / f"{name}.npz")
    with pytest.raises(ValueError, match=r"wrong\.npz: expected scores best first"):
        read_ranking(tmp_path / "wrong.npz")
    with pytest.raises(FileNotFoundError):
        read_ranking(tmp_path / "missing.npz")


@pytest.mark.parametrize("content", [b"", b"cut", b"flipped", b"PK\x03\x04" + b"\xff" * 90])
def test_read_ranking_names_a_damaged_file(tmp_path, content):
    path = write_ranking(Ranking([[0.9, 0.1]] * 50, [[2, 0]] * 50), tmp_path / "ranking.npz")
    whole = path.read_bytes()
    changed = {b"cut": whole[: len(whole) // 2], b"flipped": whole[:200] + b"\xff" * 200}
    path.write_bytes(changed.get(content, content))
    with pytest.raises(ValueError, match=r"expected a ranking in .*ranking\.npz, found"):
        read_ranking(path)


@pytest.mark.parametrize("shape", ["(999999999999999, 2)", "(-1, 2)", "(2,", "(1, 2, 3)"])
def test_read_ranking_refuses_a_header_that_lies(tmp_path, shape):
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    array = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(8)
    with zipfile.ZipFile(tmp_path / "ranking.npz", "w") as file:
        file.writestr("scores.npy", array)
        file.writestr("positions.npy", array)
    with pytest.raises(ValueError, match=r"expected a ranking in .*ranking\.npz, found"):
        read_ranking(tmp_path / "ranking.npz")
