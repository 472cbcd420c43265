"""What memories hold by their size, and losses where a model gives none."""

from claim_rows import as_claimed, rows_of

from titans_mlx.claims import capacity, depth, frozen


def capacity_rows(option: str, held: int, **columns: object) -> list[dict]:
    """A memory that is right in all answers up to so many pairs, and in none beyond."""
    row = {"option": option, "seed": 0, "queries": 1, "sequences": 8, "chance": 0.02, "parameters": 1, "length": 9}
    row |= {"trained_length": 9, "train_seconds": 1.0, "seconds_per_sequence": 1.0, "peak_bytes": 1, **columns}
    return [{**row, "x": x, "accuracy": float(x <= held), "correct": [float(x <= held)] * 8} for x in capacity.PAIRS]


def test_what_memories_hold_by_their_size() -> None:
    rows = capacity_rows("paper", 64, model=capacity.MATRIX[64])
    rows += capacity_rows(capacity.THINNED, 32, model=capacity.MATRIX[64], kept=1.0)
    rows += capacity_rows(capacity.THINNED, 16, model=capacity.MATRIX[64], kept=0.25)
    rows += capacity_rows("paper", 32, model=capacity.MATRIX[16])
    for theta, held in ((0.1, 64), (0.5, 8)):
        rows += capacity_rows(capacity.HAND, held, model=capacity.HAND, width=64, theta=theta)
    assert {row["option"] for row in capacity.whole(rows)} == {"paper"}
    (hand,) = capacity.by_hand(rows)
    assert (hand["width"], hand["theta"]) == (64, 0.1) and 64 <= hand["pairs"] < 96
    found = {(row["model"], row["x"]): row["pairs"] for row in capacity.sizes(rows)}
    of_matrix = {x: pairs for (model, x), pairs in found.items() if model == capacity.MATRIX[64]}
    assert of_matrix.keys() == {4096, 1024}
    assert 32 <= of_matrix[4096] < 64, "it stands still, as where part of it is left"
    assert 16 <= of_matrix[1024] < 32
    assert 32 <= found[capacity.MATRIX[16], 1024] < 64, "four heads of 16 x 16"
    assert found[capacity.THEORY, 1024] == 16 and capacity.sizes([]) == []


def test_losses_leave_out_a_model_that_gives_nan() -> None:
    rows = rows_of(depth.CLAIM, as_claimed)
    broken = [{**row, "nats": None} if row["model"] == depth.name(2) else row for row in rows]
    names = {row["model"] for row in depth.summary(broken)}
    assert depth.name(2) not in names and depth.name(1) in names
    assert depth.judge(broken).status == "unfinished"
    frozen_rows = [{**row, "nats": None} if row["model"] == "MAC" else row for row in rows_of(frozen.CLAIM, as_claimed)]
    assert frozen.judge(frozen_rows).status == "unfinished"
