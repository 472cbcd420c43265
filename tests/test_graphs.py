"""Ready for Metal without having one: what a GPU would be asked to launch, and how often."""

from pathlib import Path

import mlx.core as mx
import pytest
from models import EVERY, VOCAB, build, uniform

import titans_mlx
from titans_mlx.bench import ours, primitives
from titans_mlx.bench.ours import VARIANTS, config

ON_GPU = set(
    [
        "Abs",
        "Add",
        "AddMM",
        "Arange",
        "ArgReduce",
        "AsType",
        "BitwiseAnd",
        "BitwiseOr",
        "Broadcast",
        "Compiled",
        "Concatenate",
        "CrossEntropy",
        "CrossEntropyVJP",
        "Contiguous",
        "Cos",
        "CumProd",
        "CumSum",
        "CustomTransforms",
        "Depends",
        "Divide",
        "Equal",
        "Erf",
        "Exp",
        "ExpandDims",
        "Flatten",
        "Full",
        "Gather",
        "GatherAxis",
        "Greater",
        "GreaterEqual",
        "Less",
        "LessEqual",
        "LogAddExp",
        "LogSumExp",
        "Matmul",
        "Max",
        "Maximum",
        "Multiply",
        "Negative",
        "Pad",
        "Power",
        "RMSNorm",
        "RMSNormVJP",
        "Remainder",
        "Reshape",
        "RoPE",
        "Rsqrt",
        "ScaledDotProductAttention",
        "ScaledDotProductAttentionVJP",
        "Scatter",
        "ScatterAxis",
        "Select",
        "Sigmoid",
        "Sin",
        "Slice",
        "SliceUpdate",
        "Softmax",
        "Split",
        "Sqrt",
        "Square",
        "Squeeze",
        "StopGradient",
        "Subtract",
        "Sum",
        "Transpose",
        "Unflatten",
    ]
)
"""Primitives that MLX runs on a GPU, those included that only a GPU has. Linear algebra (inverses, solvers,
decompositions) is not among them."""
MOST = {"lmm": (3.7, 11.2), "mac": (11.8, 22.7), "mag": (4.0, 11.7), "mal": (4.0, 11.7)}
"""Per token, of a forward pass and of a compiled gradient: what was counted last, to be lowered when it falls."""


@pytest.mark.parametrize("name", EVERY)
def test_everything_runs_on_a_gpu(name: str) -> None:
    graphs = ours.graphs(build(name, vocab_size=VOCAB), 48)
    for what, (count, _) in graphs.items():
        assert set(count) <= ON_GPU, (what, sorted(set(count) - ON_GPU))


def test_a_solver_would_be_seen() -> None:
    with mx.stream(mx.cpu):
        assert not set(primitives(mx.linalg.inv(mx.eye(3)) + 1)) <= ON_GPU


def test_no_array_is_float64() -> None:
    folder = Path(titans_mlx.__file__).parent
    named = [path.name for path in folder.rglob("*.py") if "mx.float64" in path.read_text(encoding="utf-8")]
    assert named == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_launches_do_not_grow(variant: str) -> None:
    graphs = ours.graphs(ours.model(config(variant)), 1024)
    for what, most in zip(("forward", "gradient"), MOST[variant], strict=True):
        count, tokens = graphs[what]
        assert count.total() / tokens <= most, what


@pytest.mark.parametrize("name", ["lmm-deep", "mac-deep"])
def test_launches_are_linear_in_length(name: str) -> None:
    model = build(name)
    short, long = (primitives(model(uniform(1, length))).total() for length in (320, 640))
    assert long <= 2 * short
