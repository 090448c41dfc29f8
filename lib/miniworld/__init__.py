"""The renderer of the embedded dataset: a synthetic GLDv2 folder, drawn from a seed in a minute.

`generate` draws it. `make_plan` decides its places and photographs without drawing anything, and so
tells whether a configuration is possible. Other packages import from here, not from the modules.
"""

from lib.miniworld.gldv2_folder import generate
from lib.miniworld.plan import make_plan
