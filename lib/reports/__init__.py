"""What runs tell: the page and last lines of a run, two runs compared, the committed reference.

`./run_all.sh reference` and `python -m lib.reports --help` are the commands.
"""

from lib.environment import lazily
from lib.reports.manifest import ABLATION, MANIFEST, describe_data, describe_place, read_manifest

# With nbconvert and figures, which take a second to import.
__getattr__ = lazily(
    __name__,
    {
        "comparison": ("compare",),
        "reference": ("REFERENCE", "write_reference"),
        "run_page": ("summarise", "write_page"),
    },
)
