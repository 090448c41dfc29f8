"""Figures for the notebooks: contact sheets, charts and interactive explorers.

Each function takes what other packages computed and returns a figure that no pyplot window owns.
Notebooks name the module too, as in `plots.cleaning.flow(...)`, so that a new figure is one
function and one cell.
"""

from lib.plots import charts, cleaning, explorers, reranking, sheets

__all__ = ["charts", "cleaning", "explorers", "reranking", "sheets"]
