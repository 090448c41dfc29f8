"""`python -m lib.cleaning EMBEDDINGS LABELS.csv --out FOLDER`: see `lib.cleaning.stage`."""

import sys

from lib.cleaning.stage import main

sys.exit(main(sys.argv[1:]))
