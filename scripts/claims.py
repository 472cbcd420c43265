"""Run claims and judge them.

    python scripts/claims.py list
    python scripts/claims.py run recall_distance --profile full --jobs 2
    python scripts/claims.py report

Results already stored are kept: after a stop, the jobs that were under way begin again, and no other.
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
    commands.add_parser("list", help="the claims and the state of their evidence")
    run = commands.add_parser("run", help="run what is not stored yet")
    run.add_argument("claim")
    run.add_argument("--profile", default="full", choices=["smoke", "quick", "full"])
    run.add_argument("--jobs", type=int, default=1, help="parallel processes, one BLAS thread each")
    run.add_argument("--match", default="", help="only jobs whose id contains this")
    run.add_argument("--only", help=argparse.SUPPRESS)
    run.add_argument("--results", type=Path, default=RESULTS)
    commands.add_parser("report", help="write the claims table into README.md")
    arguments = parser.parse_args()
    if arguments.command == "run" and arguments.profile != "full" and not arguments.only:
        # Kept apart, so that a try never counts as evidence.
        arguments.results /= arguments.profile
    {"list": show, "run": run_claim, "report": report}[arguments.command](arguments)


def show(_: argparse.Namespace) -> None:
    from titans_mlx.claims import CLAIMS
    from titans_mlx.claims.store import stored_rows

    for claim in CLAIMS.values():
        verdict = claim.judge(stored_rows(RESULTS, claim))
        print(f"{claim.id}: {verdict.status}\n  {claim.statement}\n  {verdict.figure}")


def run_claim(arguments: argparse.Namespace) -> None:
    from titans_mlx.claims import CLAIMS
    from titans_mlx.claims.store import is_stored, run_and_store

    if arguments.claim not in CLAIMS:
        sys.exit(f"claim must be one of {list(CLAIMS)}, got {arguments.claim!r}")
    claim = CLAIMS[arguments.claim]
    jobs = {job.id: job for job in claim.jobs(arguments.profile)}
    if arguments.only:
        run_and_store(arguments.results, claim, jobs[arguments.only])
        return
    todo = [
        job.id for job in jobs.values() if arguments.match in job.id and not is_stored(arguments.results, claim, job)
    ]
    if not any(arguments.match in name for name in jobs):
        sys.exit(f"--match must be part of a job's id, one of {list(jobs)}, got {arguments.match!r}")
    failed = run_in_processes(todo, arguments)
    if failed:
        sys.exit(f"{len(failed)} jobs failed: {', '.join(failed)}")


def run_in_processes(todo: list[str], arguments: argparse.Namespace) -> list[str]:
    """Each job in a process of its own, ``arguments.jobs`` at a time; the ids that failed."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "run", arguments.claim, "--profile", arguments.profile]
    command += ["--results", str(arguments.results), "--only"]

    def run(job: str) -> int:
        print(f"{todo.index(job) + 1}/{len(todo)} {job}", flush=True)
        return subprocess.run([*command, job], env=environment, check=False).returncode

    with ThreadPoolExecutor(max_workers=max(1, arguments.jobs)) as pool:
        codes = list(pool.map(run, todo))
    return [job for job, code in zip(todo, codes, strict=True) if code]


def report(_: argparse.Namespace) -> None:
    from titans_mlx.claims.report import write_table

    write_table(RESULTS.parents[1] / "README.md", RESULTS)


if __name__ == "__main__":
    main()
