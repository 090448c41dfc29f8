"""What a run ends with: its page, its notebooks as HTML, and the last lines of the terminal."""

import os
from html.parser import HTMLParser

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib import reports
from lib.artifacts import ROOT, outputs_root, record, write_csv, write_json
from lib.reports import run_page

PRIVATE = {"public": [0.1, 0.3], "private": [0.1, 0.25], "low": [0.05, 0.2], "high": [0.15, 0.3]}
GAIN = {"gain": [None, 0.15], "gain_low": [None, 0.1], "gain_high": [None, 0.2]}
STEPS = pd.DataFrame({"step": ["before", "after"], **PRIVATE, **GAIN})
CELLS = (
    ("markdown", "# 02 · A descriptor\n\nText."),
    ("markdown", "## Look: a batch"),
    ("code", 'run.show(figure, "strips")  # not "steps"'),
    ("markdown", "Text.\n\n## Check: search"),
    ("code", "steps = run.steps(scores)\nrun.show(chart, 'steps')"),
)


def write_run(folder, *, state="done"):
    """A run of notebook 02 on photographs, with the manifest that `lib.pipeline` writes."""
    notebook = nbformat.v4.new_notebook(
        metadata={"papermill": {"parameters": {"DATA_DIR": "/p/q"}}}
    )
    for kind, source in CELLS:
        notebook.cells.append(getattr(nbformat.v4, f"new_{kind}_cell")(source))
    text = f"warning: no countries in /p/q\n{ROOT}/lib/a.py:3: UserWarning: <slow>\nhint: none\n"
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", text=text)]
    notebook.cells[4].outputs = [nbformat.v4.new_output("stream", text=f"{folder}/figures")]
    for name in ("notebooks", "figures"):
        (folder / name).mkdir(parents=True)
    nbformat.write(notebook, folder / "notebooks" / "02_train.ipynb")
    for name in ("02_strips", "02_steps", "02_named_by_a_cell"):
        pixels = np.zeros((10, 2400, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "figures" / f"{name}.png")
    write_csv(STEPS, folder / "tables" / "02_steps.csv")
    queries = {"id": list("abc"), "usage": ["Private", "Private", "Public"], "before": 0.5}
    write_csv(pd.DataFrame(queries), folder / "tables" / "02_queries.csv")
    record(folder, "02_train", images=1234, ari=0.123456, spread=float("nan"), kept="softmax")
    (folder / "submission.csv").write_text("id,images\n")
    entry = {"parameters": {"EPS": 0.4}, "changed": {"clean.eps": 0.4}, "minutes": 1.5}
    entry |= {"state": state, "ended": "2025-01-02 03:04+00:00", "data": "0123abcd"}
    waiting = {"parameters": {}, "changed": {}, "state": "not run"}
    manifest = {
        "notebooks": {"02_train": entry, "03_clean": waiting},
        **{"profile": "photos", "data_dir": "my photos", "recipe": "", "name": folder.name},
        **{"settings": {"clean.eps": 0.0, "top_k": 50}, "commit": "beef", "device": "2 cores"},
        **{"versions": {"python": "3.99"}, "usual_name": "photos-q-000000"},
    }
    write_json(manifest, folder / "run.json")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANDMARK_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        run = write_run(outputs_root() / "mine", state=f"02_train stopped: {ROOT}/lib is <gone>")
        assert reports.write_page(run) == run / "report.html"
        yield run


class Page(HTMLParser):
    """Collects links, sources of images, and words."""

    def __init__(self, text):
        super().__init__()
        self.links, self.images, self.words, self.open = [], [], "", []
        self.feed(text)
        self.words = " ".join(self.words.split())

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.links += [attributes["href"]] if tag == "a" else []
        self.images += [attributes["src"]] if tag == "img" else []

    def handle_data(self, data):
        self.words += f" {data}"


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "report.html").read_text())


def test_page_holds_its_figures_and_links_to_files_of_the_run(folder, page):
    assert len(page.images) == 4  # the steps stand above, too
    assert all(image.startswith("data:image/webp;base64,") for image in page.images)
    assert "notebooks/02_train.html" in page.links
    assert "submission.csv" in page.links
    missing = [link for link in page.links if link[0] != "#" and not (folder / link).is_file()]
    assert missing == []


def test_page_tells_scores_settings_warnings_and_how_to_repeat_the_run(folder, page):
    for told in (
        "mAP@50 over 2 Private queries, 95 % intervals",
        "0.250 (0.200 to 0.300) +0.150 (+0.100 to +0.200)",
        "images 1,234 ari 0.1235 spread – kept softmax",
        "02: no countries in my photos",
        "02: UserWarning: <slow>",
        "EPS = 0.4",
        "clean.eps 0.4 (changed)",
        "top_k 50",
        "02_train 1.5",
        "python 3.99",
        "0123abcd",
        f"./run_all.sh --again {os.path.relpath(folder, ROOT)}/run.json --name mine-again",
    ):
        assert told in page.words
    assert "hint: none" not in page.words


def test_page_tells_what_is_missing(page):
    assert "This run is not complete. 02_train stopped: lib is <gone>" in page.words
    assert "Did not start: 03_clean." in page.words
    assert "Not run: 01_eda, 02_stage_one_train," in page.words


def test_page_has_figures_and_tables_under_the_headings_of_their_cells(folder):
    notebook = nbformat.read(folder / "notebooks" / "02_train.ipynb", as_version=4)
    groups = run_page._groups(folder, "02_", notebook)
    files = {heading: [item["file"] for item in items] for heading, items in groups.items()}
    assert files == {
        "Look: a batch": ["figures/02_strips.png"],
        "Check: search": ["tables/02_steps.csv", "figures/02_steps.png"],
        "More": ["figures/02_named_by_a_cell.png"],
    }


def test_pages_name_no_place_of_this_machine(folder):
    for name in ("report.html", "notebooks/02_train.html"):
        text = (folder / name).read_text()
        text = text.replace(os.path.relpath(folder, ROOT), "")
        assert [place for place in (str(ROOT), str(folder), "/p/q") if place in text] == []
        assert "<script" not in text


def test_write_page_makes_do_with_damaged_files_and_no_manifest(tmp_path):
    folder = write_run(tmp_path / "mine")
    for name in ("figures/02_steps.png", "tables/02_steps.csv", "notebooks/02_train.ipynb"):
        (folder / name).write_bytes(b"\x89PNG")
    (folder / "run.json").unlink()
    page = Page(reports.write_page(folder).read_text())
    assert "settings and times are not known" in page.words
    assert "02_train.ipynb cannot be read; run the notebook again." in page.words
    with pytest.raises(ValueError, match="expected a run folder with executed notebooks"):
        reports.write_page(tmp_path)


def test_readable_puts_intervals_beside_their_value_and_tells_what_it_leaves_out():
    table = STEPS.assign(queries=[1234.0, None], share=[0.5, 0.25], note=["a", None])
    head, rows, left_out = run_page._readable(table)
    assert head == ["step", "public", "private", "gain", "queries", "share", "note"]
    assert rows[0] == ["before", "0.100", "0.100 (0.050 to 0.150)", "", "1,234", "0.500", "a"]
    assert rows[1][3:] == ["+0.150 (+0.100 to +0.200)", "", "0.250", ""]
    assert left_out == 0
    long = pd.DataFrame({"row": range(run_page.LONGEST + 3)})
    head, rows, left_out = run_page._readable(long)
    assert (len(rows), rows[-1], left_out) == (run_page.LONGEST, [str(run_page.LONGEST - 1)], 3)
    assert run_page._readable(table.head(0))[1:] == ([], 0)


def test_summarise_ends_with_the_steps_and_what_to_open(folder, monkeypatch):
    monkeypatch.setenv("LANDMARK_CALLER", str(folder.parent))
    assert reports.summarise(folder).splitlines() == [
        "mAP@50 over 2 Private queries, 95 % intervals",
        "step    score                   gain over the step above",
        "before  0.100 (0.050 to 0.150)",
        "after   0.250 (0.200 to 0.300)  +0.150 (+0.100 to +0.200)",
        "",
        "submission  mine/submission.csv",
        "report      mine/report.html",
    ]


def test_summarise_leaves_out_what_an_earlier_run_made(folder, monkeypatch):
    monkeypatch.setenv("LANDMARK_CALLER", str(folder.parent))
    now = (folder / "report.html").stat().st_mtime + 10
    assert reports.summarise(folder, since=now) == "results in mine"
    table = {"name": ["a", "b"], "private": [0.5, 0.6], "low": [0.4, 0.5], "high": [0.6, 0.7]}
    path = write_csv(pd.DataFrame(table), folder / "tables" / "05_mixing.csv")
    os.utime(path, (now, now))
    told = reports.summarise(folder, since=now).splitlines()
    path.unlink()
    assert told[:2] == ["05_mixing", "name  private"]
    assert told[3] == "b     0.600 (0.500 to 0.700)"
