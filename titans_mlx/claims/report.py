"""The README's table of claims, written from stored evidence."""

from pathlib import Path

from titans_mlx.claims.base import Claim
from titans_mlx.claims.store import stored_rows
from titans_mlx.training.files import write_text

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

    text = readme.read_text(encoding="utf-8")
    if any(text.count(mark) != 1 for mark in (BEGIN, END)) or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{readme.name} must hold the marks {BEGIN} and {END} once each, in this order")
    before, after = text[: text.index(BEGIN)], text[text.index(END) + len(END) :]
    write_text(readme, f"{before}{BEGIN}\n{claims_table(CLAIMS, results)}\n{END}{after}")
