"""Measure the memory and the models, beside titans-pytorch where it is installed (extra `peers`).

    python scripts/bench.py run memory        # forward and forward+backward against the peer
    python scripts/bench.py run all
    python scripts/bench.py report            # write the stored figures into notebooks/SPEED.md

A memory's reads and their gradient, and a model's logits, are checked against their definition before they are timed;
what is compared is run by turns; times are medians. Each section is stored when it ends, with its provenance, and
replaces what was stored of it before.
"""

import argparse
from pathlib import Path

from titans_mlx.bench.sections import SECTIONS, default_device, line, use
from titans_mlx.bench.store import origin, store, write_page

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure one section, or all")
    run.add_argument("what", choices=[*SECTIONS, "all"])
    run.add_argument("--device", choices=["cpu", "gpu"], default=default_device())
    run.add_argument("--repeats", type=int, default=5)
    run.add_argument("--out", type=Path, default=NOTEBOOKS / "results" / "bench.json")
    commands.add_parser("report", help="write the stored figures into notebooks/SPEED.md")
    arguments = parser.parse_args()
    if arguments.command == "report":
        write_page(NOTEBOOKS / "SPEED.md", NOTEBOOKS / "results" / "bench.json")
        return
    use(arguments.device)
    began = origin(arguments.device, arguments.repeats)
    for name in SECTIONS if arguments.what == "all" else [arguments.what]:
        rows = []
        for row in SECTIONS[name](arguments.device, arguments.repeats):
            rows.append(row)
            print(line(row), flush=True)
        store(arguments.out, name, rows, began)


if __name__ == "__main__":
    main()
