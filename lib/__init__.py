"""Landmark retrieval: two winning systems, GLR20 and GLR21, as a tested library and six notebooks.

Imports point downwards: root modules < `data`, `models`, `miniworld` < `training`, `retrieval` <
`cleaning`, `reranking` < `ablation`, `plots` < `session`, `pipeline`, `reports`.
"""

import sys
from typing import Any

__version__ = "1.0.0"


def _in_one_sentence(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    """Report a missing package and ^C in one sentence, any other error as usual."""
    if issubclass(kind, ImportError):
        told = f"{error} in {sys.executable}; ./run_all.sh installs all that requirements.txt pins"
        print(f"run_all.sh: {told}, into .venv if no other environment has it", file=sys.stderr)
    elif issubclass(kind, KeyboardInterrupt):
        print("run_all.sh: interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


if sys.argv[:1] == ["-m"]:  # python -m lib.…
    sys.excepthook = _in_one_sentence
