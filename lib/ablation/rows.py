"""The rows of an ablation table as plain data: what to train, and what to compare it with."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from lib.config import InferenceConfig, ModelConfig, StageConfig


@dataclass(frozen=True)
class AblationRow:
    """One line of a table: how to train it, what it is compared with, what the paper reports."""

    name: str  # unique over all tables that are run together
    model: ModelConfig = field(default_factory=ModelConfig)
    stages: tuple[StageConfig, ...] = ()  # trained one after the other
    # The reference row, from which it differs in one thing, and the paper's mAP@100 (0 to 1) and
    # test time of one image, NaN where it has none. Tables that share a row may differ in these.
    against: str = field(default="", compare=False)
    paper_public: float = field(default=np.nan, compare=False)
    paper_private: float = field(default=np.nan, compare=False)
    paper_milliseconds: float = field(default=np.nan, compare=False)
    cleaning: str = ""  # how its cluster list is made, a name in `lib.ablation.runner.CLEANINGS`
    # The list whose number of images an epoch of the last stage has, so that rows on different
    # lists see equally many images; empty for its own list.
    budget: str = ""
    members: tuple[str, ...] = ()  # rows whose embeddings are concatenated, instead of stages
    inference: InferenceConfig | None = None  # None for the profile's
    is_leaked: bool = False  # whether it trains on the queries, so that its numbers mean nothing
    note: str = ""  # in what it departs from the paper


@dataclass(frozen=True)
class AblationTable:
    """Rows that belong together."""

    name: str  # of files
    title: str
    rows: tuple[AblationRow, ...]
    has_times: bool = False  # whether the test time per image is a column
    note: str = ""  # printed above the table


def unique_rows(tables: Iterable[AblationTable]) -> dict[str, AblationRow]:
    """All rows by name, shared ones once; ValueError if two different rows have one name."""
    rows: dict[str, AblationRow] = {}
    for row in (row for table in tables for row in table.rows):
        if rows.setdefault(row.name, row) != row:
            raise ValueError(
                f"expected one row called {row.name!r}, found two that differ; rename one"
            )
    return rows


def describe_stages(row: AblationRow) -> str:
    """The stages of a row with their epochs (`a (4), b (24)`), or the members of an ensemble."""
    return ", ".join(row.members or [f"{stage.name} ({stage.epochs})" for stage in row.stages])
