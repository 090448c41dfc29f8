"""Figures for the notebooks: functions from what other packages computed to figures."""

from lib.plots import charts, cleaning, explorers, reranking, sheets
