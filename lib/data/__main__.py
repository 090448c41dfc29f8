"""`./run_all.sh import FOLDERS DATA_DIR`: see `lib.data.own_photos`."""

from lib.data.own_photos import main

main()
