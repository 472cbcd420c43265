"""The README's table of claims, written from stored evidence."""

from pathlib import Path

from titans_mlx.claims.base import Claim
from titans_mlx.claims.store import stored_rows
from titans_mlx.training.files import replace_between

BEGIN, END = "<!-- claims: begin -->", "<!-- claims: end -->"


def claims_table(claims: dict[str, Claim], results: Path) -> str:
    """A Markdown table: statement, verdict, figure and scale of each claim."""
    lines = ["| claim | verdict | figure | scale |", "|---|---|---|---|"]
    for claim in claims.values():
        verdict = claim.judge(stored_rows(results, claim))
        lines.append(f"| {claim.statement} | **{verdict.status}** | {verdict.figure} | {verdict.scale} |")
    return "\n".join(lines)


def write_table(readme: Path, results: Path) -> None:
    """Replace the table between the marks of ``readme``.

    Raises:
        ValueError: unless each mark is there once, in order.
    """
    from titans_mlx.claims import CLAIMS

    replace_between(readme, BEGIN, END, claims_table(CLAIMS, results))


def check_table(readme: Path, results: Path) -> bool:
    """Whether the README says what follows from the stored results."""
    from titans_mlx.claims import CLAIMS

    return f"{BEGIN}\n{claims_table(CLAIMS, results)}\n{END}" in readme.read_text(encoding="utf-8")
