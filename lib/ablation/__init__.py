"""Tables of trainings that differ in one thing: rows, both papers' tables, runner, statistics."""

from lib.ablation.runner import AblationRunner, run
from lib.ablation.statistics import agreement, table
from lib.ablation.tables import TITLES, chosen_tables, describe_stages, unique_rows
