"""The one door to a dataset: everything in GLDv2's own layout comes in here.

`read` gives the checked tables of a folder (`lib.dataset`), `training_list` the images to train on
(`lib.lists`), `evaluation` what to validate on (`lib.evaluation`). Pixels are `lib.images`' part.
"""

from lib.dataset import Dataset, missing_images, read
from lib.evaluation import Evaluation, evaluation
from lib.layout import find_file, image_paths
from lib.lists import class_count, is_leaked, refuse_leak, training_list

__all__ = [
    "Dataset",
    "Evaluation",
    "class_count",
    "evaluation",
    "find_file",
    "image_paths",
    "is_leaked",
    "missing_images",
    "read",
    "refuse_leak",
    "training_list",
]
