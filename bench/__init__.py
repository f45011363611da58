"""`bench`: which way of fine-tuning and which way of merging give the best multi-task model, and is it real?"""

import os

from bench.ground import versions

__version__ = versions.BENCH

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# Read by torch at its first tensor: large ones get pages of 2 MiB where the kernel has them (Linux). Without it, the
# first touch of new memory, page by page, takes some percent of a training step and half of a task arithmetic.
