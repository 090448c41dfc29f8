"""Tables of trainings that differ in one thing: rows, both papers' tables, runner, statistics."""

from lib.ablation.rows import in_words, unique_rows
from lib.ablation.runner import Bench, run
from lib.ablation.statistics import agreement, table
from lib.ablation.tables import chosen_tables

__all__ = ["Bench", "agreement", "chosen_tables", "in_words", "run", "table", "unique_rows"]
