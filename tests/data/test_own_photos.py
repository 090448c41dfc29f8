"""Folders and CSVs of photographs become a dataset that the reader takes without a warning."""

import errno
import os
import sys

import cv2
import numpy as np
import pandas as pd
import pytest

from lib import data as gldv2
from lib.artifacts import locked
from lib.data import images
from lib.data import own_photos as import_photos_module
from lib.data.own_photos import import_photos, main


def photograph(path, value, *, side=40):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 256, (side, side, 3), dtype=np.uint8)
    cv2.imwrite(str(path), pixels)


@pytest.fixture
def folders(tmp_path):
    """Two landmarks with three and two photographs, and what one finds in such folders."""
    root = tmp_path / "my photos"
    for place, name in enumerate(("a.jpg", "b 2.JPG", "below/c.png")):
        photograph(root / "Qutub Minar, Delhi" / name, place)
    for place, name in enumerate(("1.jpeg", "2.webp")):
        photograph(root / "Théâtre" / name, 10 + place)
    (root / "Théâtre" / "notes.txt").write_text("not a photograph")
    (root / "Théâtre" / "cut.jpg").write_bytes(b"\xff\xd8 not a photograph")
    (root / "Théâtre" / ".hidden.jpg").write_bytes(b"")
    (root / "loose.jpg").write_bytes(b"")
    same = root / "Qutub Minar, Delhi" / "a.jpg"
    (root / "Théâtre" / "copy.jpg").write_bytes(same.read_bytes())
    return root


def test_import_photos_writes_what_the_reader_reads(folders, tmp_path):
    table = import_photos(folders, tmp_path / "data")
    dataset = gldv2.read(tmp_path / "data")
    assert dataset.train["landmark_id"].value_counts().to_dict() == {0: 3, 1: 2}
    assert dataset.landmarks["category"].tolist() == ["Qutub_Minar,_Delhi", "Théâtre"]
    assert len(dataset.clean) == 5
    assert len(gldv2.training_list(dataset, "clean")) == 5
    assert [note for note in dataset.warnings if "country" not in note] == []
    assert len(table) == 9


def test_import_photos_keeps_the_bytes_and_the_source(folders, tmp_path):
    before = {path: path.read_bytes() for path in folders.rglob("*") if path.is_file()}
    import_photos(folders, tmp_path / "data")
    assert {path: path.read_bytes() for path in folders.rglob("*") if path.is_file()} == before
    copies = {path.read_bytes() for path in (tmp_path / "data" / "train").rglob("*.jpg")}
    assert len(copies) == 5
    assert copies <= set(before.values())


def test_import_photos_tells_what_it_left_out(folders, tmp_path):
    table = import_photos(folders, tmp_path / "data").set_index("path")["problem"]
    assert table["Théâtre/notes.txt"] == "no image by its name"
    assert table["Théâtre/cut.jpg"].startswith("unreadable (")
    assert table["Théâtre/copy.jpg"] == "the same photograph as Qutub Minar, Delhi/a.jpg"
    assert table["loose.jpg"] == "beside the landmark folders"
    assert (table == "").sum() == 5


def test_import_photos_gives_the_same_ids_again(folders, tmp_path):
    first, second = (import_photos(folders, tmp_path / name)["id"] for name in ("a", "b"))
    assert first.tolist() == second.tolist()


@pytest.mark.parametrize("content", ["nothing", "only files", "no images"])
def test_import_photos_refuses_folders_without_images(tmp_path, content):
    root = tmp_path / "folders"
    root.mkdir()
    if content == "only files":
        photograph(root / "a.jpg", 0)
    if content == "no images":
        (root / "Place").mkdir()
        (root / "Place" / "a.txt").write_text("x")
    with pytest.raises(ValueError, match="no readable image; give a folder that holds one folder"):
        import_photos(root, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_import_photos_refuses_a_folder_that_another_import_writes(folders, tmp_path):
    with locked(tmp_path / "data"), pytest.raises(ValueError, match=r"another run .* in .*data"):
        import_photos(folders, tmp_path / "data")
    assert len(import_photos(folders, tmp_path / "data"))


def test_import_photos_refuses_a_folder_that_is_taken(folders, tmp_path):
    with pytest.raises(ValueError, match="a folder of landmark folders or a CSV, found none at"):
        import_photos(tmp_path / "missing", tmp_path / "data")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match="expected a new folder to write into"):
        import_photos(folders, tmp_path / "data")
    assert (tmp_path / "data" / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize("name", ["data", "sub/data"])
def test_import_photos_refuses_a_place_among_the_photographs(folders, name):
    before = sorted(folders.rglob("*"))
    with pytest.raises(ValueError, match="expected a data folder outside"):
        import_photos(folders, folders / name)
    assert sorted(folders.rglob("*")) == before


def test_import_photos_names_a_file_in_the_way(folders, tmp_path):
    (tmp_path / "note.txt").write_text("x")
    with pytest.raises(ValueError, match=r"note\.txt is a file"):
        import_photos(folders, tmp_path / "note.txt" / "data")


def test_main_takes_the_callers_paths(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LANDMARK_CALLER", str(tmp_path))
    main(["my photos", "my data"])
    out = capsys.readouterr()
    assert "5 images of 2 landmarks" in out.out
    assert out.out.endswith("next: ./run_all.sh photos --data-dir 'my data'\n")
    assert "left out 4 of 9 files" in out.err
    with pytest.raises(SystemExit, match="error: expected a new folder"):
        main(["my photos", "my data"])


def test_import_photos_follows_links_but_not_in_circles(folders, tmp_path):
    for name, value in (("1.jpg", 20), ("deep/2.jpg", 21)):
        photograph(tmp_path / "disk" / name, value)
    (tmp_path / "disk" / "deep" / "circle").symlink_to(tmp_path / "disk")
    (folders / "Eiffel").mkdir()
    (folders / "Eiffel" / "2019").symlink_to(tmp_path / "disk")
    (folders / "Eiffel" / "all").symlink_to(folders)
    photograph(tmp_path / "other" / "3.jpg", 22)
    (folders / "Louvre").symlink_to(tmp_path / "other")
    (folders / "A").symlink_to(folders)
    table = import_photos(folders, tmp_path / "data")
    taken = table[table["id"] != ""].groupby("landmark").size().to_dict()
    assert taken == {"Qutub Minar, Delhi": 3, "Théâtre": 2, "Eiffel": 2, "Louvre": 1}
    assert table.set_index("path").loc["A", "problem"] == "no file in this folder"


def test_import_photos_lists_what_it_cannot_name_read_or_trust(folders, tmp_path, monkeypatch):
    os.mkfifo(folders / "Théâtre" / "pipe.jpg")
    (folders / "Théâtre" / "gone.jpg").symlink_to("nowhere")
    (folders / "Empty").mkdir()
    (folders / "caf\udce9").mkdir()  # as Python reads a name that is no UTF-8
    monkeypatch.setattr(images, "MOST_PIXELS", 1600)
    photograph(folders / "Large" / "a.png", 31, side=41)
    problems = import_photos(folders, tmp_path / "data").set_index("path")["problem"].to_dict()
    assert problems["Théâtre/pipe.jpg"].endswith("is no regular file)")
    assert problems["Théâtre/gone.jpg"] == "unreadable (No such file or directory)"
    assert problems["Empty"] == "no file in this folder"
    assert problems["caf\\xe9"] == "the folder's name is no UTF-8"
    assert problems["Large/a.png"] == "unreadable (41 x 41 pixels, more than 1,600)"


def test_import_photos_goes_on_where_reading_is_forbidden(folders, tmp_path, monkeypatch):
    forbidden = PermissionError(errno.EACCES, "Permission denied", str(folders / "Théâtre"))
    read, walk = import_photos_module.read_file, os.walk

    def read_but_one(path):
        if path.name == "a.jpg":
            raise forbidden
        return read(path)

    def walk_but_one(top, **options):
        if top.name == "Théâtre":
            options["onerror"](forbidden)
            return iter(())
        return walk(top, **options)

    monkeypatch.setattr(import_photos_module, "read_file", read_but_one)
    monkeypatch.setattr(os, "walk", walk_but_one)
    problems = import_photos(folders, tmp_path / "data").set_index("path")["problem"].to_dict()
    assert problems["Théâtre"] == "unreadable (Permission denied)"
    assert problems["Qutub Minar, Delhi/a.jpg"] == "unreadable (Permission denied)"


def test_import_photos_writes_names_in_one_form_and_any_characters(folders, tmp_path):
    for value, name in enumerate(("e\u0301glise", "\u00e9glise", "$$", "C$\\frac$ %41"), 40):
        photograph(folders / name / "a.jpg", value)
    import_photos(folders, tmp_path / "data")
    categories = gldv2.read(tmp_path / "data").landmarks["category"].tolist()
    assert categories[:2] == ["$$", "C$\\frac$_%41"]
    assert categories.count("église") == 1


def test_main_names_the_landmarks_that_are_left_out(folders, tmp_path, capsys):
    (folders / "Empty").mkdir()
    main([str(folders), str(tmp_path / "data")])
    assert "left out 1 landmarks: Empty" in capsys.readouterr().err


def test_import_photos_links_on_request(folders, tmp_path):
    import_photos(folders, tmp_path / "data", link=True)
    links = list((tmp_path / "data" / "train").rglob("*.jpg"))
    assert len(links) == 5
    assert all(path.is_symlink() and path.resolve().parent.parent for path in links)
    assert {path.resolve() for path in links} <= set(folders.rglob("*"))
    assert gldv2.read(tmp_path / "data").warnings[1:] == ()


@pytest.fixture
def listed(tmp_path):
    """A CSV with the names of open-metric-learning: two landmarks to train on, three to search."""
    rows = []
    for label in range(5):
        for number in range(6):
            path = f"files/{label}{number}.jpg"
            photograph(tmp_path / path, 10 * label + number)
            rows.append((label, path, "train" if label < 2 else "validation", f"Tower {label}"))
    table = pd.DataFrame(rows, columns=["label", "path", "split", "category"])
    is_asked = (table["split"] == "validation").map({True: "True", False: ""})
    return tmp_path, table.assign(is_query=is_asked, is_gallery=is_asked)


def write(listed, **columns):
    folder, table = listed
    table.assign(**columns).to_csv(folder / "list.csv", index=False)
    return folder / "list.csv", folder / "data"


def test_import_photos_makes_queries_and_gallery_of_a_csv(listed):
    source, data_dir = write(listed)
    table = import_photos(source, data_dir)
    dataset = gldv2.read(data_dir)
    assert dataset.landmarks["category"].tolist() == ["Tower_0", "Tower_1"]
    assert set(dataset.index["category"]) == {"Tower_2", "Tower_3", "Tower_4"}
    assert [len(part) for part in (dataset.train, dataset.index, dataset.test)] == [12, 12, 6]
    assert table["split"].value_counts().to_dict() == {"train": 12, "index": 12, "test": 6}
    evaluation = gldv2.evaluation(dataset)
    assert {usage: len(part) for usage, part in evaluation.solution.items()} == {
        "Private": 4,
        "Public": 2,
    }
    landmark = table.set_index("id")["landmark"]
    for part in evaluation.solution.values():
        for query, answers in part.items():
            assert answers == set(landmark[(landmark == landmark[query])].index) - set(
                dataset.test[dataset.test.map(landmark) == landmark[query]]
            )
    assert not evaluation.queries["is_seen"].any()


def test_import_photos_obeys_flags_splits_and_countries(listed):
    is_query = ["0", "0", "0", "0", "0", "0"] * 2 + ["1", "0", "0", "0", "0", "0"] * 3
    is_gallery = ["0"] * 12 + ["0", "1", "1", "1", "0", "1"] * 2 + ["0"] * 6
    split = ["train"] * 12 + ["val"] * 6 + ["test"] * 12
    country = ["IN"] * 6 + [""] * 6 + ["India"] * 18
    columns = {"is_query": is_query, "is_gallery": is_gallery, "split": split, "country": country}
    source, data_dir = write(listed, **columns)
    table = import_photos(source, data_dir).set_index("path")
    dataset = gldv2.read(data_dir)
    solution = dataset.solution.set_index("id")["Usage"]
    usage = {
        path: solution[table.loc[path, "id"]] for path in table.index[table["split"] == "test"]
    }
    assert usage == {
        "files/20.jpg": "Public",
        "files/30.jpg": "Private",
        "files/40.jpg": "Ignored",  # without a gallery image
    }
    assert table.loc["files/24.jpg", "problem"] == "no query, no gallery"
    assert dataset.landmarks["country"].tolist() == ["IN", "OTHER"]
    assert set(dataset.index["country"]) == {"IN"}


def test_import_photos_keeps_an_evaluation_clear_of_its_training_images(listed):
    source, data_dir = write(listed)
    files = source.parent / "files"
    queries = import_photos(source, source.parent / "first").set_index("split").loc["test", "path"]
    (files / "00.jpg").write_bytes((source.parent / queries.iloc[0]).read_bytes())
    again = cv2.imread(str(source.parent / queries.iloc[1]))
    cv2.imwrite(str(files / "01.jpg"), again // 2 + 20, [cv2.IMWRITE_JPEG_QUALITY, 95])
    table = import_photos(source, data_dir).set_index("path")
    assert table.loc["files/00.jpg", "problem"] == f"the same photograph as {queries.iloc[0]}"
    similar = table.loc[table["similar"] != "", "similar"]
    assert similar.to_dict() == {queries.iloc[1]: "files/01.jpg"}


def test_similar_compares_every_pair(monkeypatch):
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(30, 8))
    rows[20:] = rows[:10] + 0.1 * generator.normal(size=(10, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    table = pd.DataFrame({"path": [f"p{i}" for i in range(30)], "landmark": "x", "split": "train"})
    table.loc[:14, "split"] = "test"
    monkeypatch.setattr(import_photos_module, "_BLOCK", 4)
    found = import_photos_module._similar(table, rows)
    for query in range(30):
        best = max(range(15, 30), key=lambda other: rows[query] @ rows[other])
        is_near = query < 15 and rows[query] @ rows[best] >= import_photos_module.NEARLY_THE_SAME
        assert found[query] == (f"p{best}" if is_near else "")
    assert (found != "").sum() > 5
    of_landmark = table.assign(split="train", landmark=["a"] * 25 + ["b"] * 5)
    found = import_photos_module._similar(of_landmark, rows)
    near = rows @ rows.T >= import_photos_module.NEARLY_THE_SAME
    assert (found != "").tolist() == [*near[:25, 25:].any(1), *near[25:, :25].any(1)]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"split": "holdout"}, "row 1: expected train, validation or test, found split 'holdout'"),
        ({"is_query": "maybe"}, "expected true or false, found is_query 'maybe'"),
        ({"is_query": "1"}, "expected no query or gallery image in train"),
        ({"country": "Atlantis"}, "a country as code or English name, or none, found country"),
        ({"path": "files/00.jpg"}, "expected every path once"),
        ({"split": "test"}, "expected training images in .*, found queries and gallery images"),
        ({"split": "train", "is_query": "", "is_gallery": "", "path": "gone"}, "every path once"),
        ({"is_gallery": ""}, "none of which answers a query; give both, or neither"),
    ],
)
def test_import_photos_refuses_a_csv_in_one_sentence(listed, columns, message):
    source, data_dir = write(listed, **columns)
    with pytest.raises(ValueError, match=message) as refused:
        import_photos(source, data_dir)
    assert "\n" not in str(refused.value)
    assert not data_dir.exists()


def test_import_photos_refuses_what_is_no_list(tmp_path):
    source = tmp_path / "list.csv"
    source.write_text("file,landmark\na.jpg,A\n")
    with pytest.raises(ValueError, match="expected the columns path,landmark, found file,landm"):
        import_photos(source, tmp_path / "data")
    source.write_text("path,landmark\na.jpg,A\nb.jpg,\n")
    with pytest.raises(ValueError, match=r"first: a\.jpg: unreadable \(No such file or directory"):
        import_photos(source, tmp_path / "data")


def test_import_photos_recognises_a_tree_of_splits(tmp_path):
    for value, name in enumerate(["train/A", "train/B", "val/C", "val/A"]):
        for number in range(4):
            photograph(tmp_path / "tree" / name / f"{number}.jpg", 10 * value + number)
    photograph(tmp_path / "tree" / "train" / "loose.jpg", 90)
    (tmp_path / "tree" / "classes.txt").write_text("A B C")
    with pytest.raises(ValueError, match=r"found train, val and, beside them or without .*, train"):
        import_photos(tmp_path / "tree", tmp_path / "data")  # an image directly in train
    (tmp_path / "tree" / "train" / "loose.jpg").rename(tmp_path / "tree" / "loose.jpg")
    table = import_photos(tmp_path / "tree", tmp_path / "data").set_index("path")
    assert table.loc[["classes.txt", "loose.jpg"], "problem"].unique() == [
        "beside the landmark folders"
    ]
    assert table["split"].value_counts().to_dict() == {"train": 8, "index": 6, "test": 2, "": 2}
    queries = gldv2.evaluation(gldv2.read(tmp_path / "data")).queries
    assert sorted(queries["is_seen"]) == [False, True]


def test_import_photos_takes_a_landmark_called_like_a_split(folders, tmp_path):
    photograph(folders / "Train" / "a.jpg", 70)
    table = import_photos(folders, tmp_path / "data")
    assert set(table.loc[table["id"] != "", "landmark"]) >= {"Train", "Théâtre"}
    (folders / "Train" / "a.jpg").rename(folders / "Théâtre" / "z.jpg")
    photograph(folders / "Train" / "below" / "a.jpg", 70)
    with pytest.raises(ValueError, match="found Train and, beside them"):
        import_photos(folders, tmp_path / "again")


def test_import_photos_says_what_heic_needs(folders, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (folders / "Théâtre" / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    photograph(folders / "Théâtre" / "a.jfif.jpg", 80)
    (folders / "Théâtre" / "a.jfif.jpg").rename(folders / "Théâtre" / "a.JFIF")
    table = import_photos(folders, tmp_path / "data").set_index("path")
    expected = "unreadable (HEIC, which needs another package: pip install pillow-heif)"
    assert table.loc["Théâtre/IMG_1.HEIC", "problem"] == expected
    assert table.loc["Théâtre/a.JFIF", "problem"] == ""


def test_main_tells_what_became_of_a_csv(listed, capsys):
    source, data_dir = write(listed, mood="fine")
    main([str(source), str(data_dir), "--link"])
    said = capsys.readouterr()
    assert "columns that are not used: mood" in said.err
    assert "18 images are query and gallery at once" in said.err
    assert "30 images of 5 landmarks\n12 for training, 6 queries, 12 in the gallery" in said.out
    assert len(pd.read_csv(data_dir / "photographs.csv")) == 30
