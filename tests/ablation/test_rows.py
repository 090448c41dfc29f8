"""Rows of ablation tables as data: one row of a name, and stages in words."""

import dataclasses

import pytest

from lib.ablation.rows import AblationRow, AblationTable, describe_stages, unique_rows
from lib.config import StageConfig

STAGES = (StageConfig("softmax", epochs=2), StageConfig("arcface", epochs=3))
ROW = AblationRow("a", stages=STAGES)


def test_unique_rows_shares_a_row_that_is_compared_with_another():
    again = dataclasses.replace(ROW, against="b", paper_private=0.9)
    assert unique_rows([AblationTable("t", "T", (ROW, again))]) == {"a": ROW}


def test_unique_rows_refuses_two_rows_of_one_name():
    other = dataclasses.replace(ROW, stages=STAGES[:1])
    with pytest.raises(ValueError, match="one row called 'a', found two that differ"):
        unique_rows([AblationTable("t", "T", (ROW, other))])


def test_describe_stages_names_stages_or_members():
    assert describe_stages(ROW) == "softmax (2), arcface (3)"
    assert describe_stages(AblationRow("e", members=("a", "b"))) == "a, b"
