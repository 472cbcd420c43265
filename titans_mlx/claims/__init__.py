"""Claims about Titans, each in a file of its own: statement, source, protocol, run, verdict."""

from titans_mlx.claims import (
    capacity,
    chunks,
    components,
    contextual,
    depth,
    distractors,
    family,
    far_text,
    frozen,
    gating,
    language,
    mqar,
    needles,
    outliers,
    recall_distance,
    series,
    staleness,
    stories,
    surprise,
    throughput,
    tracking,
    two_million,
    variants,
)
from titans_mlx.claims.base import Claim, Job, Profile, Progress, Row, Verdict

CLAIMS: dict[str, Claim] = {
    module.CLAIM.id: module.CLAIM
    for module in (
        recall_distance,
        two_million,
        needles,
        stories,
        distractors,
        variants,
        staleness,
        tracking,
        capacity,
        gating,
        contextual,
        chunks,
        components,
        depth,
        frozen,
        series,
        surprise,
        language,
        far_text,
        throughput,
        mqar,
        family,
        outliers,
    )
}

__all__ = ["CLAIMS", "Claim", "Job", "Profile", "Progress", "Row", "Verdict"]
