"""Write every notebook as a static HTML page, with what is stored and without live runs.

python scripts/export_notebooks.py --out site
python scripts/export_notebooks.py 04_gating --out site
"""

import argparse
import subprocess
import sys
from pathlib import Path

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def main() -> None:
    names = sorted(path.stem for path in NOTEBOOKS.glob("*.py"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", metavar="notebook", help=f"of {', '.join(names)}; none: all")
    parser.add_argument("--out", type=Path, required=True, help="a folder")
    arguments = parser.parse_args()
    for name in arguments.notebooks or names:
        if name not in names:
            sys.exit(f"notebook must be one of {names}, got {name!r}")
        page = arguments.out / f"{name}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        source = NOTEBOOKS / f"{name}.py"
        command = [sys.executable, "-m", "marimo", "export", "html", str(source), "-o", str(page)]
        command += ["--no-include-code", "-f"]
        done = subprocess.run(command, check=False)
        if done.returncode:
            sys.exit(f"{name} could not be exported")
        print(page)


if __name__ == "__main__":
    main()
