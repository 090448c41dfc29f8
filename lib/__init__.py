"""Landmark retrieval: two winning systems, GLR20 and GLR21, as a tested library and six notebooks.

Imports point downwards: root modules < `data`, `models`, `miniworld` < `training`, `retrieval` <
`cleaning`, `reranking` < `ablation`, `plots` < `session`, `pipeline`, `reports`.
"""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path
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


class _Torchvision(MetaPathFinder):
    """Lets timm import a torchvision that was built for CUDA beside a CPU build of torch.

    Its operators cannot be loaded then, and its import fails where it describes two of them that
    nothing here uses: they are declared beforehand.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name != "torchvision" or not (found := PathFinder.find_spec(name, path)):
            return
        sys.meta_path.remove(self)
        import torch

        try:
            for library in Path(found.origin).parent.glob("_C.*"):
                torch.ops.load_library(library)
        except OSError:
            for name in ("nms", "qnms"):
                schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                torch.library.define(f"torchvision::{name}", schema)


sys.meta_path.insert(0, _Torchvision())
# nbformat's jsonschema would compile grammars of URLs for seconds; no notebook needs them.
sys.modules.setdefault("rfc3987_syntax", None)
if sys.argv[:1] == ["-m"]:  # python -m lib.…
    sys.excepthook = _in_one_sentence
