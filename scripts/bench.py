"""Measure the memory and the models, beside titans-pytorch where it is installed (extra `peers`).

    python scripts/bench.py memory            # forward and forward+backward against the peer
    python scripts/bench.py all --out bench.json

Everything timed is first checked equal to its definition; what is compared is run by turns; times are medians.
"""

import argparse
import os
from pathlib import Path

from titans_mlx.bench.sections import SECTIONS, default_device, line, use
from titans_mlx.training import provenance
from titans_mlx.training.files import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*SECTIONS, "all"])
    parser.add_argument("--device", choices=["cpu", "gpu"], default=default_device())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="a JSON file for the rows, with provenance")
    arguments = parser.parse_args()
    use(arguments.device)
    origin, rows = provenance(), []
    for name in SECTIONS if arguments.what == "all" else [arguments.what]:
        for row in SECTIONS[name](arguments.device, arguments.repeats):
            rows.append({"section": name, **row})
            print(line(row), flush=True)
    if arguments.out:
        threads = os.environ.get("OPENBLAS_NUM_THREADS", "as the library chooses")
        write_json(arguments.out, {"provenance": {**origin, "blas_threads": threads}, "rows": rows})


if __name__ == "__main__":
    main()
