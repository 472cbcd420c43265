"""Draw the README's picture from stored results: recall against distance, one panel per setting.

python scripts/picture.py
"""

import argparse
import sys
from pathlib import Path

from titans_mlx import plots
from titans_mlx.claims import recall_distance
from titans_mlx.claims.store import stored_rows

RESULTS = Path(__file__).resolve().parents[1] / "notebooks" / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path, help="default: recall_distance.png among the results")
    arguments = parser.parse_args()
    rows = recall_distance.summarise(stored_rows(arguments.results, recall_distance.CLAIM))
    if not rows:
        sys.exit(f"no stored results; first run: python scripts/claims.py run {recall_distance.CLAIM.id}")
    out = arguments.out or arguments.results / "recall_distance.png"
    plots.use_theme()
    plots.recall_picture(rows).save(out, scale_factor=2)
    print(out)


if __name__ == "__main__":
    main()
