"""The claims on text: what they train and test on, and the rules of their verdicts."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from titans_mlx.claims import far_text, language, language_runs
from titans_mlx.claims.interventions import reborn
from titans_mlx.claims.lab import CONTROL
from titans_mlx.claims.language import CORPORA, FAR, LENGTH, TITANS
from titans_mlx.claims.language_runs import RECENT, RESET, WHOLE, WINDOW
from titans_mlx.lm.scores import nats
from titans_mlx.model import Titans


def rows_of(near: Callable[[str, str], float], far: Callable[[str, str, str, int], float]) -> list[dict[str, Any]]:
    """A full table as the runs would give it, of these bits per byte."""
    rows = []
    for job in language.jobs("full"):
        if job.settings["model"] == language_runs.COST:
            continue
        model, corpus = job.settings["model"], job.settings["corpus"]
        for seed in job.settings["seeds"]:
            head = {"model": model, "corpus": corpus, "seed": seed, "parameters": 400_000, "train_seconds": 1.0}
            head |= {"trained_length": LENGTH, "text_sha256": corpus}
            rows.append({**head, "kind": "near", "use": WHOLE, "bits": near(model, corpus)})
            for use in (WHOLE, RECENT, RESET) if model in (*TITANS, *language.FADING, "RetNet") else (WHOLE, RECENT):
                for last in (2**power for power in range(FAR.bit_length())):
                    span = {"first": last // 2 + 1 if last > 1 else 1, "last": last}
                    rows.append({**head, "kind": "far", "use": use, **span, "bits": far(model, corpus, use, last)})
    return rows


def as_claimed(model: str, corpus: str) -> float:
    return 2.0 if model in TITANS else 2.1


def helped(model: str, corpus: str, use: str, last: int) -> float:
    return {WHOLE: 2.0, RECENT: 2.1, RESET: 2.2}[use]


def no_use(model: str, corpus: str, use: str, last: int) -> float:
    return 2.0


@pytest.mark.parametrize(
    ("near", "status"),
    [
        (as_claimed, "reproduced"),
        (lambda model, corpus: 2.1 if model == "MAL" else as_claimed(model, corpus), "reproduced in part"),
        (lambda model, corpus: 2.085 if model in TITANS else 2.1, "not reproduced"),
        (lambda model, corpus: 1.9 if model == "RetNet" else as_claimed(model, corpus), "not reproduced"),
        (lambda model, corpus: as_claimed(model, corpus) if corpus == CORPORA[0] else 2.0, "reproduced in part"),
    ],
)
def test_the_rule_on_text(near: Callable[[str, str], float], status: str) -> None:
    assert language.judge(rows_of(near, helped)).status == status


@pytest.mark.parametrize(
    ("far", "status", "lacking"),
    [
        (helped, "reproduced", ""),
        (no_use, "not reproduced", ""),
        (lambda *of: 1.99 if of[2] == RECENT else helped(*of), "reproduced in part", "MAC, more past on stdlib"),
        (lambda *of: 2.01 if of[2] == RESET else helped(*of), "reproduced in part", "MAG, its memory on stdlib"),
        # Of LMM and MAC a reset leaves nothing: it proves nothing either.
        (lambda *of: 2.01 if of[2] == RESET and of[0] in ("LMM deep", "MAC") else helped(*of), "reproduced", ""),
        (lambda *of: no_use(*of) if of[0] == "MAC" else helped(*of), "reproduced in part", "MAC, more past on stdlib"),
        # Only the last span counts.
        (lambda *of: helped(*of) if of[3] == FAR else no_use(*of), "reproduced", ""),
    ],
)
def test_the_rule_beyond_the_training_length(
    far: Callable[[str, str, str, int], float], status: str, lacking: str
) -> None:
    found = far_text.judge(rows_of(as_claimed, far))
    assert found.status == status and lacking in found.lacking


def test_rows_of_two_texts_are_not_judged() -> None:
    rows = rows_of(as_claimed, helped)
    rows[0]["text_sha256"] = "of another Python"
    for judge in (language.judge, far_text.judge):
        assert judge(rows).status == "unfinished" and "several versions of stdlib" in judge(rows).figure


def test_half_a_table_decides_nothing() -> None:
    rows = rows_of(as_claimed, helped)
    assert language.judge([]).status == far_text.judge([]).status == "not run"
    for judge in (language.judge, far_text.judge):
        assert judge([row for row in rows if row["corpus"] == CORPORA[0]]).status == "unfinished"
        assert judge([row for row in rows if row["model"] != "MAG"]).status == "unfinished"
    assert language.judge([row for row in rows if row["model"] != "RetNet"]).status == "unfinished"


def test_models_are_of_one_size_and_every_memory_is_deep() -> None:
    configs = language.architectures()
    sizes = {name: language.parameters(config) for name, config in configs.items()}
    assert configs.keys() == set(language.MODELS) and max(sizes.values()) <= 1.1 * min(sizes.values())
    assert all(configs[name].memory.depth == 2 and configs[name].memory.chunk_size == 16 for name in TITANS)
    for name, model in language.FADING.items():
        assert configs[name].memory.replace(decay_to="zero", decay_init=0.001) == configs[model].memory


def test_what_fades_to_birth_and_the_control_are_shown_and_decide_nothing() -> None:
    rows = rows_of(as_claimed, helped)
    beside = (*language.FADING, CONTROL)
    rest = [row for row in rows if row["model"] not in beside]
    assert {row["corpus"] for row in rows if row["model"] in beside} == {CORPORA[0]}
    for judge in (language.judge, far_text.judge):
        assert judge(rows).status == judge(rest).status == "reproduced"
        assert all(name in judge(rows).figure and name not in judge(rest).figure for name in beside)


def test_a_reset_forgets_what_is_further_back_and_only_that() -> None:
    """LMM has no window: what stands before the last reset changes nothing."""
    mx.random.seed(0)
    model = Titans(language.architectures()["LMM deep"])
    ids = np.random.default_rng(0).integers(0, 256, size=(2, 193)).astype(np.int32)
    other = ids.copy()
    other[:, :100] = 7

    def last(tokens: np.ndarray, reset: bool) -> np.ndarray:
        forget = (lambda states: reborn(model, states)) if reset else None
        return nats(model, tokens[:, :-1], tokens[:, 1:], piece=WINDOW, forget=forget)[:, 128:]

    assert np.array_equal(last(ids, True), last(other, True)) and not np.allclose(last(ids, False), last(other, False))


def test_recent_bytes_are_predicted_from_the_training_length_at_most() -> None:
    mx.random.seed(0)
    model = Titans(language.architectures()["MAG"])
    ids = np.random.default_rng(0).integers(0, 256, size=(2, 97)).astype(np.int32)
    tokens, targets = ids[:, :-1], ids[:, 1:]
    whole = nats(model, tokens, targets)
    found = language_runs.recent(model, tokens, targets, 32, whole)
    assert found.shape == whole.shape and np.array_equal(found[:, :16], whole[:, :16])
    assert np.allclose(found[:, 16:32], whole[:, 16:32], atol=1e-4)
    for place in (40, 47, 48, 95):
        first = place // 16 * 16 - 16
        own = nats(model, tokens[:, first : place + 1], targets[:, first : place + 1])
        assert np.allclose(found[:, place], own[:, -1], atol=1e-3)


def test_what_a_way_of_reading_costs_is_taken_seed_by_seed() -> None:
    span = {"kind": "far", "corpus": "stdlib", "model": "MAC", "first": 1, "last": 64}
    more = {"parameters": 1, "trained_length": 256, "train_seconds": 1.0}
    rows = [
        {**span, **more, "seed": seed, "use": use, "bits": bits + extra}
        for seed, bits in enumerate((1.0, 2.0, 3.0))
        for use, extra in ((WHOLE, 0.0), (RECENT, 0.5))
    ]
    (found,) = language.far_costs(rows)
    assert found["use"] == RECENT and found["low"] == found["high"] == found["value"] == 0.5


def test_shakespeare_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TITANS_DATA", raising=False)
    with pytest.raises(ValueError, match=r"folder that holds tinyshakespeare/input\.txt, got nothing"):
        language_runs.corpus_of("tinyshakespeare")
