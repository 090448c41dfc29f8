"""The rows of an ablation table, as plain data: what to train, and what to compare it with."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from lib.config import InferenceConfig, ModelConfig, StageConfig


@dataclass(frozen=True)
class AblationRow:
    """One line of a table: how to train it, what it is compared with, what the paper reports.

    Attributes:
        name: unique over all tables that are run together.
        model: the network.
        stages: trained one after the other.
        against: name of the reference row, from which it differs in one thing.
        paper_public, paper_private: mAP@100 as a share, NaN where there is none.
        paper_milliseconds: test time of one image, NaN where there is none.
        cleaning: which cluster list its stages train on, a name of `lib.bench.CLEANINGS`.
        budget: name of the list whose number of images an epoch of the last stage has, so that rows
            on different lists see equally many; each its own by default.
        members: names of the rows whose descriptors are concatenated instead of training one.
        inference: how it looks at images; the bench's way by default.
        is_leaked: whether it trains on the queries, so that its numbers mean nothing.
        note: in what it departs from the paper, for the reader of its table.
    """

    name: str
    model: ModelConfig = field(default_factory=ModelConfig)
    stages: tuple[StageConfig, ...] = ()
    against: str = ""
    paper_public: float = np.nan
    paper_private: float = np.nan
    paper_milliseconds: float = field(default=np.nan, kw_only=True)
    cleaning: str = ""
    budget: str = ""
    members: tuple[str, ...] = ()
    inference: InferenceConfig | None = None
    is_leaked: bool = False
    note: str = ""


# What a row may differ in from table to table: with what it is compared.
_COMPARED = {"against": "", "paper_public": 0.0, "paper_private": 0.0, "paper_milliseconds": 0.0}


@dataclass(frozen=True)
class AblationTable:
    """Rows that belong together, and where the paper has them."""

    name: str  # of files
    title: str
    rows: tuple[AblationRow, ...]
    has_times: bool = False  # whether the test time per image is a column
    note: str = ""  # why it stands here, where that is not plain


def unique_rows(tables: Iterable[AblationTable]) -> dict[str, AblationRow]:
    """All rows by name, a row that several tables share once.

    Raises:
        ValueError: if two different rows have one name.
    """
    rows: dict[str, AblationRow] = {}
    for row in (row for table in tables for row in table.rows):
        known = rows.setdefault(row.name, row)
        if dataclasses.replace(known, **_COMPARED) != dataclasses.replace(row, **_COMPARED):
            raise ValueError(
                f"expected one row called {row.name!r}, found two that differ; rename one"
            )
    return rows


def in_words(row: AblationRow) -> str:
    """The stages of a row, or its members, for a reader.

    >>> in_words(AblationRow("a", stages=(StageConfig("softmax", epochs=4), StageConfig("on"))))
    'softmax (4), on (24)'
    """
    return ", ".join(row.members or [f"{stage.name} ({stage.epochs})" for stage in row.stages])
