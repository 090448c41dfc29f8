"""Tables, lists and images of a dataset folder in GLDv2's own layout; everything reads data through
here.

`read` opens a folder, `training_list` makes one of its training lists and `evaluation` its queries,
gallery and answers. Images lie in files or in tar archives. Own photographs are imported into the
same layout.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lib.data.evaluation_set import Evaluation, evaluation
from lib.data.geography import CONTINENTS, OTHER, country_name
from lib.data.gldv2 import (
    Dataset,
    find_file,
    ids_of_split,
    image_paths,
    missing_images,
    read,
    read_if_there,
)
from lib.data.images import ImageSource
from lib.data.own_photos import import_photos
from lib.data.stage_images import check_readable, images_key, sign, work_left
from lib.data.tables import (
    COMMONS,
    category_url,
    first_of,
    read_groups,
    read_ignored,
    read_solution,
    read_submission,
    read_table,
)
from lib.data.tar_images import ImageStore
from lib.data.training_lists import class_count, is_leaked, refuse_leak, training_list

if TYPE_CHECKING:
    from lib.data.batches import SquareImages, loader, report_bad

__all__ = [
    "COMMONS",
    "CONTINENTS",
    "OTHER",
    "Dataset",
    "Evaluation",
    "ImageSource",
    "ImageStore",
    "SquareImages",
    "category_url",
    "check_readable",
    "class_count",
    "country_name",
    "evaluation",
    "find_file",
    "first_of",
    "ids_of_split",
    "image_paths",
    "images_key",
    "import_photos",
    "is_leaked",
    "loader",
    "missing_images",
    "read",
    "read_groups",
    "read_if_there",
    "read_ignored",
    "read_solution",
    "read_submission",
    "read_table",
    "refuse_leak",
    "report_bad",
    "sign",
    "training_list",
    "work_left",
]

_NEED_TORCH = {
    "SquareImages": "lib.data.batches",
    "loader": "lib.data.batches",
    "report_bad": "lib.data.batches",
}


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is asked for: torch takes seconds to import."""
    if name not in _NEED_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_NEED_TORCH[name]), name)
