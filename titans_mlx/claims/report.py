"""The README's tables: of claims, from stored evidence, and of recipes."""

from collections import Counter
from pathlib import Path
from typing import get_args

from titans_mlx.claims.base import Claim, Status
from titans_mlx.claims.store import stored_results, took
from titans_mlx.memory import recipes
from titans_mlx.training.files import replace_between

CLAIMS_TABLE = ("<!-- claims: begin -->", "<!-- claims: end -->")
RECIPES_TABLE = ("<!-- recipes: begin -->", "<!-- recipes: end -->")


def claims_table(claims: dict[str, Claim], results: Path) -> str:
    """A Markdown table of statements, verdicts and scales; and, folded up, one of the figures behind them."""
    lines = ["| claim | verdict | scale | its runs took |", "|---|---|---|---|"]
    figures = ["| claim | figures |", "|---|---|"]
    found: Counter[str] = Counter()
    for claim in claims.values():
        stored = stored_results(results, claim)
        verdict = claim.judge([row for result in stored for row in result["rows"]])
        found[verdict.status] += 1
        # Where nothing holds, the list of what does not is long, and stands below.
        whole = verdict.status == "not reproduced"
        shown = f"**{verdict.status}**" if whole else verdict.headline
        lines.append(f"| {claim.statement} | {shown} | {verdict.scale} | {took(stored) if stored else ''} |")
        told = [verdict.lacking, *verdict.figures] if whole else verdict.figures
        figures.append(f"| {claim.title} | {'<br>'.join(filter(None, told))} |")
    folded = ["<details>", "<summary>The figures behind each verdict</summary>", "", *figures, "", "</details>"]
    counted = ", ".join(f"{count} {status}" for status in get_args(Status) if (count := found[status]))
    return "\n".join([f"{len(claims)} claims: {counted}.", "", *lines, "", *folded])


def recipes_table() -> str:
    """A Markdown table: the four choices of each known model."""
    rows = recipes.table()
    lines = [f"| {' | '.join(rows[0])} |", "|---" * len(rows[0]) + "|"]
    return "\n".join([*lines, *[f"| {' | '.join(row.values())} |" for row in rows]])


def write_table(readme: Path, results: Path) -> None:
    """Replace the tables between the marks of ``readme``.

    Raises:
        ValueError: unless each mark is there once, in order.
    """
    replace_between(readme, _tables(results))


def missing_lines(readme: Path, results: Path) -> list[str]:
    """What follows from the stored results and the recipes and the README does not say; none if it says just that."""
    text = readme.read_text(encoding="utf-8")
    wanted = [f"{begin}\n{table}\n{end}" for (begin, end), table in _tables(results).items()]
    there = set(text.splitlines())
    return [
        line
        for table in wanted
        if table not in text
        for line in [line for line in table.splitlines() if line not in there] or ["the same lines in this order alone"]
    ]


def _tables(results: Path) -> dict[tuple[str, str], str]:
    from titans_mlx.claims import CLAIMS

    return {CLAIMS_TABLE: claims_table(CLAIMS, results), RECIPES_TABLE: recipes_table()}
