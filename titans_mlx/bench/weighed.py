"""One work of the section ``peak`` in a process of its own: ``weighed.py NAME DEVICE``."""

import sys

from titans_mlx.bench.peaks import PEAKS
from titans_mlx.bench.sections import use

if __name__ == "__main__":
    name, device = sys.argv[1:]
    use(device)
    PEAKS[name](device)()
