"""Run claims and judge them.

    python scripts/claims.py list
    python scripts/claims.py list gating                # one claim, with its figures
    python scripts/claims.py run recall_distance gating --jobs 2
    python scripts/claims.py report
    python scripts/claims.py report --check     # fails if README.md does not say what the stored data say

Results already stored are kept: after a stop, the jobs that were under way go on from the last checkpoints of their
trainings, where nothing has changed since, and no other is run. `list` says how many results are stored, and how many
of them come from an older source than this one: they stay evidence, until `run CLAIM --older` runs them again.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "notebooks" / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    listed = commands.add_parser("list", help="the claims and the state of their evidence; of those named, the figures")
    listed.add_argument("claims", nargs="*", metavar="claim")
    run = commands.add_parser("run", help="run what is not stored yet")
    run.add_argument("claims", nargs="+", metavar="claim")
    run.add_argument("--profile", default="full", choices=["smoke", "quick", "full"])
    run.add_argument("--jobs", type=_count, default=1, help="parallel processes, one BLAS thread each")
    run.add_argument("--match", default="", help="only jobs whose id contains this")
    run.add_argument("--older", action="store_true", help="run again, too, what is stored from an older source")
    run.add_argument("--only", help=argparse.SUPPRESS)
    run.add_argument("--results", type=Path, default=RESULTS)
    report_ = commands.add_parser("report", help="write the claims table into README.md")
    report_.add_argument("--check", action="store_true", help="write nothing; fail if the table is another")
    arguments = parser.parse_args()
    if arguments.command == "run" and arguments.profile != "full" and not arguments.only:
        # Kept apart, so that a try never counts as evidence.
        arguments.results /= arguments.profile
    {"list": show, "run": run_claim, "report": report}[arguments.command](arguments)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer >= 1, got {text!r}")
    return int(text)


def _check_names(names: list[str]) -> None:
    from titans_mlx.claims import CLAIMS

    for name in names:
        if name not in CLAIMS:
            sys.exit(f"claims.py: claim must be one of {', '.join(CLAIMS)}; got {name!r}")


def show(arguments: argparse.Namespace) -> None:
    from titans_mlx.claims import CLAIMS
    from titans_mlx.claims.store import stored_results
    from titans_mlx.training.provenance import source_hash

    _check_names(arguments.claims)
    source = source_hash()
    for claim in [CLAIMS[name] for name in arguments.claims] or CLAIMS.values():
        results, jobs = stored_results(RESULTS, claim), len(claim.jobs("full"))
        older = sum(result["provenance"]["source_hash"] != source for result in results)
        verdict = claim.judge([row for result in results for row in result["rows"]])
        stored = f"{len(results)} of {jobs} runs stored, {older} of an older source"
        figures = [verdict.lacking, *verdict.figures] if arguments.claims else []
        print("\n  ".join(filter(None, (f"{claim.id}: {verdict.status} ({stored})", claim.statement, *figures))))


def run_claim(arguments: argparse.Namespace) -> None:
    from titans_mlx.claims import CLAIMS
    from titans_mlx.claims.store import is_stored, result_path, run_and_store
    from titans_mlx.training.provenance import source_hash

    _check_names(arguments.claims)
    jobs = {
        (name, job.id): (CLAIMS[name], job) for name in arguments.claims for job in CLAIMS[name].jobs(arguments.profile)
    }
    if arguments.only:
        run_and_store(arguments.results, *jobs[arguments.claims[0], arguments.only], older=arguments.older)
        return
    chosen = {key: found for key, found in jobs.items() if arguments.match in key[1]}
    if not chosen:
        ids = [job for _, job in jobs]
        sys.exit(f"--match must be part of a job's id, one of {ids}, got {arguments.match!r}")
    # Claims may share results: a job that two of them ask for is run once.
    once = {result_path(arguments.results, *found): key for key, found in reversed(chosen.items())}
    source = source_hash() if arguments.older else ""
    todo = [key for key in chosen if key in once.values() and not is_stored(arguments.results, *chosen[key], source)]
    failed = run_in_processes(todo, arguments)
    print(f"{len(todo) - len(failed)} run, {len(once) - len(todo)} stored before; results in {arguments.results}")
    if failed:
        sys.exit(f"{len(failed)} jobs failed: {', '.join(failed)}")


def run_in_processes(todo: list[tuple[str, str]], arguments: argparse.Namespace) -> list[str]:
    """Each claim's job in a process of its own, ``arguments.jobs`` at a time; the ids of jobs that failed."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "run", "--profile", arguments.profile, "--results", str(arguments.results)]
    command += ["--older"] if arguments.older else []

    def run(key: tuple[str, str]) -> int:
        print(f"{todo.index(key) + 1}/{len(todo)} {': '.join(key)}", flush=True)
        return subprocess.run([*command, key[0], "--only", key[1]], env=environment, check=False).returncode

    with ThreadPoolExecutor(max_workers=arguments.jobs) as pool:
        codes = list(pool.map(run, todo))
    return [job for (_, job), code in zip(todo, codes, strict=True) if code]


def report(arguments: argparse.Namespace) -> None:
    from titans_mlx.claims.report import missing_lines, write_table

    readme = RESULTS.parents[1] / "README.md"
    if not arguments.check:
        write_table(readme, RESULTS)
    elif missing := missing_lines(readme, RESULTS):
        told = "\n".join(missing)
        sys.exit(
            "README.md must hold the tables that follow from the stored results; run: scripts/claims.py report\n"
            f"It lacks:\n{told}"
        )


if __name__ == "__main__":
    main()
