"""Strict reading of one CSV file."""

import numpy as np
import pandas as pd
import pytest

from lib.data.tables import category_name, explode_ids, first_of, read_header, read_table

COLUMNS = {"id": str, "landmark_id": int}


def write(tmp_path, text):
    path = tmp_path / "train.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_read_table_keeps_text_that_looks_missing_and_drops_other_columns(tmp_path):
    path = write(tmp_path, '\ufefflandmark_id,url,id\n5,"a,b",NaN\n6,,NULL\n')
    table = read_table(path, COLUMNS, key="id")
    assert table.columns.tolist() == ["id", "landmark_id"]
    assert table["id"].tolist() == ["NaN", "NULL"]
    assert table["landmark_id"].dtype == np.int64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("id,label\nabc,1\n", "columns id,landmark_id, found id,label; check where"),
        (
            "id,landmark_id\nabc,1\ndef,2\nabc,3\n",
            "row 3: expected every id once, found id 'abc'",
        ),
        (
            "id,landmark_id\nabc,1\ndef,\n",
            "row 2: expected a whole number .*landmark_id ''",
        ),
        (
            "id,landmark_id\nabc,1.5\n",
            "row 1: expected a whole number .*landmark_id '1.5'",
        ),
        ("id,landmark_id\nabc,-3\n", "expected a whole number from 0, found landmark_id .*-3"),
        (
            "id,landmark_id\nabc," + "9" * 30 + "\n",
            "expected a whole number from 0, .*9999",
        ),
        ("id,landmark_id\n../x,1\n", "data row 1: expected an image id .*, found id '../x'"),
        ("id,landmark_id\n1.2E+15,1\nabc,1\n", "1.2E\\+15.*rows like it: 1"),
        (b"id,landmark_id\n\xff\xfe\x00,1\n", "expected a CSV table"),
        ("id,landmark_id\nabc,1\n".encode("utf-16"), "expected a CSV table"),
        ("id;landmark_id\nabc;1\n", "id;landmark_id; write commas between them"),
        ("id\tlandmark_id\nabc\t1\n", "write commas between them"),
        ("id, landmark_id\nabc, 1\n", "remove the spaces around their names"),
        ("id,landmark_id\na\0bc,1\n", "expected an image id"),
        ("\0" * 40, "expected the columns id,landmark_id"),
        ("\n\n", "is empty"),
    ],
)
def test_read_table_names_the_file_and_the_fault(tmp_path, text, message):
    with pytest.raises(ValueError, match=rf"train\.csv.*{message}"):
        read_table(write(tmp_path, text), COLUMNS, key="id")


@pytest.mark.parametrize(
    "text",
    [
        '"id","url","landmark_id"\r\n"0012","a,b","7"\r\n',
        "\ufeffid,landmark_id\n0012,7\n",
        '\n"landmark_id",id\n7,0012\n',
        "id,landmark_id\r0012,7",
    ],
)
def test_read_table_reads_every_spelling_of_csv(tmp_path, text):
    table = read_table(write(tmp_path, text), COLUMNS, key="id")
    assert table.to_numpy().tolist() == [["0012", 7]]
    assert set(read_header(tmp_path / "train.csv")) - {"url"} == set(COLUMNS)


@pytest.mark.parametrize("rows", ["7,a,b\n", "7,a,b,c\n8,d\n", "7,d\n8,a,b\n", '7,"x\n8,c\n'])
def test_read_table_refuses_lists_of_ids_with_commas(tmp_path, rows):
    path = write(tmp_path, f"landmark_id,images\n{rows}")
    with pytest.raises(ValueError, match=r"train\.csv: expected a CSV table, .*, write spaces"):
        read_table(path, {"landmark_id": int, "images": str})


def test_read_table_tells_of_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"index\.csv is missing"):
        read_table(tmp_path / "index.csv", {"id": str})


def test_explode_ids_gives_each_image_the_row_it_was_listed_in(tmp_path):
    table = pd.DataFrame({"landmark_id": [9, 2], "images": ["c  a", "b "]})
    listed = explode_ids(table, ["landmark_id"], tmp_path)
    assert listed.to_dict("list") == {"id": ["c", "a", "b"], "landmark_id": [9, 9, 2]}


def test_explode_ids_refuses_an_image_listed_twice(tmp_path):
    table = pd.DataFrame({"landmark_id": [9, 2], "images": ["c a", "b c"]})
    with pytest.raises(ValueError, match=r"found 1 images more than once \(c\)"):
        explode_ids(table, ["landmark_id"], tmp_path / "train_clean.csv")


@pytest.mark.parametrize("images", ["a,b", "c.jpg", "0/1/2/c", "['c',", "c;d"])
def test_explode_ids_refuses_what_is_no_id(tmp_path, images):
    table = pd.DataFrame({"landmark_id": [9, 2], "images": ["a b", f"{images} d"]})
    with pytest.raises(ValueError, match=r"clean\.csv, data row 2: expected image ids alone"):
        explode_ids(table, ["landmark_id"], tmp_path / "clean.csv")


def test_category_name_is_the_same_for_every_spelling():
    spellings = ("X:Y", "a/Category:X%3AY", "http://b/Category:X:Y")
    assert {category_name(text) for text in spellings} == {"X:Y"}
    assert category_name("Eiffel Tower") == "Eiffel_Tower"
    assert category_name("http://b/Category:Marb%C3%A4cks_kyrka,_Sweden").startswith("Marbäcks_k")


def test_first_of_marks_what_it_leaves_out():
    assert first_of(pd.Series(["a", "b"])) == "a, b"
    assert first_of(pd.Series(range(9)), 2) == "0, 1 ..."
