"""The reference is copied from finished runs alone."""

from lib import reference
from lib.runs import record


def test_copy_run_refuses_an_unfinished_run(tmp_path, monkeypatch):
    monkeypatch.setenv("LANDMARK_OUTPUTS", str(tmp_path))
    assert not reference.copy_run("mini", figures=True)
    record(tmp_path / "mini", "01_eda", images_raw=3)
    assert not reference.copy_run("mini", figures=True)
