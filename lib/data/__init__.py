"""Tables, lists and images of a dataset folder in GLDv2's layout.

`read` opens a folder, `training_list` makes one of its training lists, and `evaluation` its
queries, gallery and solution.
"""

from lib.data.evaluation_set import Evaluation, evaluation, query_names
from lib.data.geography import CONTINENTS, OTHER, country_name
from lib.data.gldv2 import Dataset, find_file, ids_of_split, image_paths, read
from lib.data.images import (
    ImageSource,
    SquareImages,
    check_readable,
    decode,
    images_key,
    load_batches,
    mark_stage_complete,
    report_unreadable,
    stretch,
    work_left,
)
from lib.data.tables import (
    first_of,
    read_groups,
    read_ignored,
    read_labels,
    read_solution,
    read_submission,
    read_table,
)
from lib.data.tar_images import ImageStore, as_bytes
from lib.data.training_lists import (
    is_leaked,
    pack_list,
    refuse_leak,
    training_list,
    unpack_list,
)
