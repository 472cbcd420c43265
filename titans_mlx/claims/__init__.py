"""Claims about Titans, each in a file of its own: statement, source, protocol, run, verdict."""

from titans_mlx.claims import recall_distance, two_million
from titans_mlx.claims.base import Claim, Job, Profile, Progress, Row, Verdict

CLAIMS: dict[str, Claim] = {claim.id: claim for claim in (recall_distance.CLAIM, two_million.CLAIM)}

__all__ = ["CLAIMS", "Claim", "Job", "Profile", "Progress", "Row", "Verdict"]
