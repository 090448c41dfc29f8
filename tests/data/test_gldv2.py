"""Reading a dataset folder: what agrees, what is an error, what is a counted warning."""

import shutil

import pytest

from lib.data.gldv2 import read
from tests.dataset import (
    LANDMARK_OF,
    default_rows,
    ids,
    image_id,
    write_gldv2,
    write_image,
    write_table,
)


@pytest.fixture
def root(tmp_path):
    return write_gldv2(tmp_path)


def test_read_gives_every_table_of_gldv2_without_a_warning(root):
    dataset = read(root)
    assert dataset.warnings == ()
    assert dict(zip(dataset.train["id"], dataset.train["landmark_id"], strict=True)) == {
        image_id(number): landmark for number, landmark in LANDMARK_OF.items()
    }
    assert dataset.clean["id"].tolist() == ids(2, 5, 1, 3).split()
    assert dataset.clean_landmarks.tolist() == [7, 50]
    assert dataset.test.tolist() == ids(201, 202, 203, 204).split()
    assert len(dataset.solution) == 4
    assert dataset.sample is None


def test_read_tags_landmarks_and_index_images(root):
    dataset = read(root)
    landmarks = dataset.landmarks.set_index("landmark_id")
    assert landmarks.loc[50].tolist() == ["Marbäcks_kyrka,_Småland", "SE", "Europe"]
    assert landmarks.loc[7].tolist() == ["Windhoek", "NA", "Africa"]
    assert landmarks.loc[3].tolist() == ["NA", "RU", "Europe"]
    assert landmarks.loc[9].tolist() == ["Nowhere", "OTHER", "OTHER"]
    index = dataset.index.set_index("id")
    assert index.loc[image_id(103)].tolist() == [1, "Windhoek", "NA", "Africa"]
    assert index.loc[image_id(104)].tolist() == [2, "Unseen", "OTHER", "OTHER"]
    assert index.loc[image_id(105)].tolist() == [-1, "", "OTHER", "OTHER"]


def test_read_finds_tables_in_the_folders_they_are_downloaded_from(root):
    before = read(root)
    (root / "metadata").mkdir()
    (root / "ground_truth").mkdir()
    for path in [*root.glob("*.csv"), root / "country", root / "country_codes.json"]:
        folder = "ground_truth" if "solution" in path.name else "metadata"
        shutil.move(path, root / folder / path.name)
    after = read(root)
    assert after.warnings == ()
    assert after.landmarks.equals(before.landmarks)
    assert after.solution.equals(before.solution)


def kaggle(root, year):
    rows = [f"{image_id(number)},{landmark}" for number, landmark in LANDMARK_OF.items()]
    for number in LANDMARK_OF:
        write_image(root, "train", image_id(number))
    (root / "train.csv").write_text("\n".join(["id,landmark_id", *rows]))
    if year == 2021:
        for split, numbers in (("index", (102, 101)), ("test", (203, 201, 202))):
            for number in numbers:
                write_image(root, split, image_id(number))
        text = f"id,images\n{image_id(203)},{ids(101, 102)}\n{image_id(201)},\n"
        (root / "sample_submission.csv").write_text(text)
    return root


def test_read_takes_kaggle_2020_as_a_clean_set_without_evaluation(tmp_path):
    dataset = read(kaggle(tmp_path, 2020))
    assert dataset.clean["id"].tolist() == dataset.train["id"].tolist()
    assert dataset.clean_landmarks.tolist() == [50, 7, 3, 9]
    assert (len(dataset.index), len(dataset.test), dataset.solution) == (0, 0, None)
    assert len(dataset.warnings) == 1  # no country files


def test_read_takes_ids_of_kaggle_2021_from_its_folders(tmp_path):
    dataset = read(kaggle(tmp_path, 2021))
    assert dataset.index["id"].tolist() == ids(101, 102).split()
    assert dataset.test.tolist() == ids(201, 202, 203).split()
    assert dataset.sample.tolist() == ids(203, 201).split()


def replace_row(root, name, position, row):
    rows = default_rows()[name]
    rows[position] = row
    write_table(root, name, rows)


@pytest.mark.parametrize(
    ("name", "position", "row", "message"),
    [
        ("train.csv", 1, f"{image_id(1)},,7", "train.csv.*every id once"),
        ("train.csv", 0, f"{image_id(1)},,x", "train.csv.*landmark_id 'x'"),
        ("train.csv", 1, f"{image_id(2)},,3", "train_clean.csv gives 1 images another landmark"),
        ("train_clean.csv", 0, f"8,{ids(2)}", r"train_clean.csv has 1 landmarks.*lacks \(8\)"),
        (
            "train_clean.csv",
            0,
            f"50,{ids(2)}",
            "train_clean.csv.*every landmark_id once.*50",
        ),
        (
            "train_clean.csv",
            0,
            f"7,{ids(2, 1)}",
            "train_clean.csv: .*1 images more than once",
        ),
        (
            "train_label_to_category.csv",
            1,
            "50,x",
            "train_label_to_c.*every landmark_id once",
        ),
        ("index.csv", 0, image_id(102), "index.csv.*every id once"),
        ("index_image_to_landmark.csv", 0, image_id(101), "data row 1: .*landmark_id ''"),
        ("retrieval_solution_v2.1.csv", 0, f"{image_id(201)},a,Secret", "Usage 'Secret'"),
    ],
)
def test_read_refuses_what_would_train_wrongly(root, name, position, row, message):
    replace_row(root, name, position, row)
    with pytest.raises(ValueError, match=message):
        read(root)


def test_read_needs_the_clean_list_of_gldv2(root):
    (root / "train_clean.csv").unlink()
    with pytest.raises(ValueError, match=r"train_clean\.csv is missing"):
        read(root)


def test_read_needs_a_folder_with_training_images(tmp_path):
    with pytest.raises(ValueError, match="is no folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"train\.csv is missing"):
        read(tmp_path)
    write_table(tmp_path, "train.csv", [])
    with pytest.raises(ValueError, match=r"train\.csv has no rows"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "position", "row", "warning"),
    [
        ("train_clean.csv", 0, f"7,{ids(2, 5, 99)}", "1 train_clean.csv images are not in train"),
        ("train_label_to_category.csv", 1, "8,x", "1 landmarks have no category: 7."),
        ("index_image_to_landmark.csv", 0, f"{image_id(99)},0", "1 images of index_image"),
        ("index_image_to_landmark.csv", 0, f"{image_id(101)},9", "1 index landmarks have no"),
        ("retrieval_solution_v2.1.csv", 0, f"{image_id(201)},{ids(99)},Public", "1 images of retr"),
        ("retrieval_solution_v2.1.csv", 0, f"{image_id(99)},{ids(101)},Public", "1 queries of"),
    ],
)
def test_read_counts_what_a_subset_lacks(root, name, position, row, warning):
    replace_row(root, name, position, row)
    dataset = read(root)
    assert len(dataset.warnings) == 1
    assert dataset.warnings[0].startswith(warning)


def test_missing_image_files_are_counted_and_listed(root):
    for number in (3, 12):
        next(root.glob(f"train/?/?/?/{image_id(number)}.jpg")).unlink()
    dataset = read(root)
    assert dataset.warnings == (
        f"2 of 12 train images looked for have no file: {image_id(3)}, {image_id(12)}.",
    )
    shutil.rmtree(root / "train")
    (note,) = read(root).warnings
    assert note.startswith("12 of 12 train images looked for have no file")
    assert f"(the first should be {root / 'train'}" in note


@pytest.mark.parametrize(
    "header", ['"id","url","landmark_id"', "\ufeffid,url,landmark_id", "id, URL,landmark_id"]
)
def test_read_takes_a_raw_table_for_no_clean_set_however_its_header_is_written(root, header):
    (root / "train_clean.csv").unlink()
    text = (root / "train.csv").read_text().split("\n", 1)[1]
    (root / "train.csv").write_text(f"{header}\r\n{text}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"train_clean\.csv is missing"):
        read(root)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("retrieval_solution_v2.1.csv", "retrieval_solution_v2.csv"),
        ("retrieval_solution_v2.1.csv", "retrieval_solution_v2.1 (1).csv"),
        ("retrieval_solution_v2.1.csv", "retrieval_solution_v2.1.CSV"),
        ("retrieval_solution_v2.1.csv", "retrieval_solution_v2.1.csv.zip"),
        ("retrieval_solution_v2.1.csv", "solution/a/retrieval_solution_v2.1.csv"),
        ("retrieval_solution_v2.1.csv", "my_solution.csv"),
        ("index_image_to_landmark.csv", "index_images_to_landmarks.csv"),
        ("train_label_to_category.csv", "metadata/train_label_to_category.txt"),
        ("country_codes.json", "country_code.json"),
    ],
)
def test_read_names_files_that_are_called_nearly_as_a_table(root, name, other):
    (root / other).parent.mkdir(parents=True, exist_ok=True)
    (root / name).rename(root / other)
    assert f"{other} is not read: if it is {name}, put it under that name into {root}." in (
        read(root).warnings
    )


def test_read_names_a_second_file_of_a_table_and_no_other_file(root):
    for name in ("recognition_solution_v2.1.csv", "train_attribution.csv", "notes.csv"):
        (root / name).write_text("id\n")
    shutil.copy(root / "train.csv", root / "train (1).csv")
    assert [note.split(" is not")[0] for note in read(root).warnings] == ["train (1).csv"]


def test_read_names_what_a_missing_table_may_be(root):
    (root / "train_clean.csv").rename(root / "train-clean.csv")
    with pytest.raises(ValueError, match=r"is missing: .* train-clean\.csv is not read: if it is"):
        read(root)


@pytest.mark.parametrize("row", ["7,0020000000000002,0050000000000005", f"7,{ids(2)}.jpg"])
def test_read_refuses_a_clean_list_whose_ids_are_no_ids(root, row):
    replace_row(root, "train_clean.csv", 0, row)
    with pytest.raises(
        ValueError, match=r"train_clean\.csv.* (write spaces|expected image ids alone)"
    ):
        read(root)


def test_read_refuses_a_clean_list_of_other_images(root):
    write_table(root, "train_clean.csv", [f"7,{ids(99)}"])
    with pytest.raises(ValueError, match=r"train_clean\.csv has no image that train\.csv has"):
        read(root)


def test_read_counts_files_of_kaggle_that_are_no_image_called_by_an_id(tmp_path):
    kaggle(tmp_path, 2021)
    before = read(tmp_path)
    place = next((tmp_path / "index").rglob("*.jpg"))
    for name in ("x.jpg", "ab 1.jpg", place.name + ".json", place.stem + ".png"):
        (place.parent / name).write_bytes(b"x")
    dataset = read(tmp_path)
    assert dataset.index.equals(before.index)
    (note,) = set(dataset.warnings) - set(before.warnings)
    assert note.startswith("4 files of index are left out")
