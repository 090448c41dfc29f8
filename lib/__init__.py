"""The landmark retrieval laboratory: a small tested library that the notebooks call.

Floors, each importing only from below: `paths`, `runs`, `config` · `gldv2`, `geography`,
`images`, `ranking` · models and arrays · `train`, `embed` · whole experiments and pictures.
"""

__version__ = "1.0.0"
