"""What a claim is: a sentence that can be wrong, and everything needed to find out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from titans_mlx._config import choose

Row = dict[str, Any]
"""One line of a tidy table: JSON values by column name."""

Profile = Literal["smoke", "quick", "full"]
Progress = Callable[[str, float], None]
"""Called with what is being done and the share of the work that is behind, 0 to 1."""

Status = Literal["reproduced", "reproduced in part", "not reproduced", "unfinished", "not run"]


class Verdict(NamedTuple):
    """What the evidence says.

    Attributes:
        status: by the claim's rule.
        figure: the numbers it rests on, groups of them parted by semicolons.
        scale: at what size it was found.
        lacking: parts that do not hold, or have not run yet; empty where there are none.
    """

    status: Status
    figure: str
    scale: str
    lacking: str = ""

    @property
    def headline(self) -> str:
        """Status and what it lacks, as Markdown."""
        return f"**{self.status}**" + (f" ({self.lacking})" if self.lacking else "")

    @property
    def figures(self) -> list[str]:
        """The groups of ``figure``."""
        return self.figure.split("; ") if self.figure else []


@dataclass(frozen=True)
class Job:
    """One independent piece of a claim's runs: a model trained and tested.

    Attributes:
        id: file name of its stored result; equal ids mean equal work.
        settings: everything that defines it, JSON values.
        held_by: the claim whose stored results hold its own, where that is not the claim that asks.
    """

    id: str
    settings: dict[str, Any]
    held_by: str = ""


@dataclass(frozen=True)
class Claim:
    """A claim, written before its runs are made.

    Attributes:
        id: file name and key of its results.
        title: a few words.
        statement: one sentence that can be wrong.
        source: who says so, and where.
        protocol: what is trained and measured.
        refuted_by: what would show it false.
        rule: how the verdict follows from the table.
        jobs: the independent pieces of a profile.
        run_job: does one piece and gives its rows of the tidy table.
        judge: the rule as a function of the table.
        evidence: the claim whose stored results are judged here as well, of the same jobs; its own if left out.
    """

    id: str
    title: str
    statement: str
    source: str
    protocol: str
    refuted_by: str
    rule: str
    jobs: Callable[[Profile], list[Job]]
    run_job: Callable[[Job, Progress | None], list[Row]]
    judge: Callable[[list[Row]], Verdict]
    evidence: str = ""

    def run(self, profile: Profile, progress: Progress | None = None) -> list[Row]:
        """Every job of a profile in turn, here and now; the tidy table.

        Raises:
            ValueError: if ``profile`` is unknown.
        """
        check_profile(profile)
        jobs, rows = self.jobs(profile), []
        for index, job in enumerate(jobs):
            rows += self.run_job(job, part(progress, index, len(jobs)))
        return rows


def job_id(*parts: str) -> str:
    """A file name from what sets a job apart; empty parts are left out."""
    return "-".join(part.lower().replace(",", "").replace(" ", "_") for part in parts if part)


def check_profile(profile: Profile) -> None:
    """Require a known profile."""
    choose("profile", profile, get_args(Profile))


def part(progress: Progress | None, index: int, count: int) -> Progress | None:
    """Progress of one of ``count`` equal parts as progress of the whole."""
    return None if progress is None else lambda what, done: progress(what, (index + done) / count)
