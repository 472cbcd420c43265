"""Random memories to compare forms on, and how two results are compared."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map

from titans_mlx.config import MemoryConfig
from titans_mlx.memory import MemoryState
from titans_mlx.memory.chunked import chunked, chunked_slots
from titans_mlx.memory.learner import Gates, implicit_step, make_gates, mask_gates
from titans_mlx.memory.online import online
from titans_mlx.memory.recurrent import recurrent
from titans_mlx.memory.retention import birth_logits, channels
from titans_mlx.memory.structure import Norm, features, widths


class Case(NamedTuple):
    """A state and a sequence for the functional forms: what they take, gates still as logits."""

    config: MemoryConfig
    state: MemoryState
    q: mx.array
    k: mx.array
    v: mx.array
    logits: dict[str, mx.array]
    norm: Norm | None
    birth: tuple[mx.array, ...] | None = None

    @property
    def gates(self) -> Gates:
        shape = (*self.q.shape[:2], self.config.gate_layers, self.q.shape[2])
        gates = make_gates(self.config, self.logits, shape)
        return gates._replace(step=implicit_step(gates.step, self.k)) if self.config.implicit_step else gates

    def tokens(self, start: int, stop: int) -> "Case":
        """The same case with tokens ``start`` to ``stop`` only."""
        q, k, v = (x[:, :, start:stop] for x in (self.q, self.k, self.v))
        logits = {name: x[..., start:stop] for name, x in self.logits.items()}
        return self._replace(q=q, k=k, v=v, logits=logits)


Form = Callable[[Case], tuple[mx.array, MemoryState]]


def make_case(
    *,
    tokens: int = 13,
    batch: int = 2,
    heads: int = 2,
    width: int = 4,
    dtype: mx.Dtype = mx.float64,
    position: int = 0,
    centre: tuple[float, float, float] = (-2.0, 0.0, 0.0),
    spread: float = 1.0,
    config: MemoryConfig | None = None,
    **fields: Any,
) -> Case:
    """A random case: weights, momentum and an anchor unlike the weights, unit keys, gates around ``centre``.

    ``centre``: mean logits of decay, momentum and step. Fields of a config may stand for the config.
    """
    config = config or MemoryConfig(**{"expansion": 2, **fields})

    def normal(*shape: int, scale: float = 1.0) -> mx.array:
        return (mx.random.normal(shape) * scale).astype(dtype)

    def fast(scale: float) -> tuple[mx.array, ...]:
        shapes = [(batch, heads, d_out, d_in) for d_in, d_out in widths(config, width)]
        return tuple(normal(*shape, scale=scale) for shape in shapes)

    q, k, v = (normal(batch, heads, tokens, width) for _ in range(3))
    if config.qk_norm:
        q, k = unit(q), unit(k)
    q, k = features(config, q), features(config, k)
    shape = (batch, heads, config.gate_layers, tokens)
    logits = {}
    for name, mean in zip(("decay", "momentum", "step"), centre, strict=True):
        if getattr(config, "step_size" if name == "step" else name) == "learned":
            logits[name] = mean + normal(*shape, scale=spread)
    if config.decay_per != "head":
        counts = channels(config, widths(config, width))
        logits["decay"] = centre[0] + normal(batch, heads, sum(counts), tokens, scale=spread)
    if config.objective == "huber":
        logits["threshold"] = 1.0 + normal(batch, heads, 1, tokens)
    if config.decay == "fixed":
        per_head = mx.array(birth_logits(config, heads)).astype(dtype)
        logits["decay"] = mx.broadcast_to(per_head[None, :, None, None], shape)
    recent = ()
    if config.omega > 1:
        logits["share"] = normal(batch, heads, 1, tokens)
        key, value, share = (normal(batch, heads, config.omega - 1, size) for size in (k.shape[-1], width, 1))
        recent = (unit(key) if config.qk_norm else key, value, mx.sigmoid(share))
    state = MemoryState(
        weights=fast(0.4),
        momentum=None if config.momentum == "none" else fast(0.1),
        anchor=None if config.update == "online" else fast(0.4),
        position=position,
        tails=(),
        recent=recent,
    )
    norm = Norm(1 + normal(heads, 1, width, scale=0.1), normal(heads, 1, width, scale=0.1))
    birth = tuple(w[:1] for w in fast(0.4)) if config.decay_to == "birth" else None
    return Case(config, state, q, k, v, logits, norm if config.norm else None, birth)


def unit(x: mx.array) -> mx.array:
    return x * mx.rsqrt((x * x).sum(-1, keepdims=True) + 1e-6)


def by_definition(case: Case) -> tuple[mx.array, MemoryState]:
    return recurrent(*case[:5], case.gates, case.norm, birth=case.birth)


def by_fast_form(case: Case) -> tuple[mx.array, MemoryState]:
    if case.config.update == "online":
        return online(*case[:5], case.gates, birth=case.birth)
    return chunked(*case[:5], case.gates, case.norm, case.birth)


def masked(case: Case, real: mx.array) -> tuple[mx.array, MemoryState]:
    """The definition with slots that count for nothing; their reads are zero."""
    reads, state = recurrent(*case[:5], case.gates, case.norm, real, birth=case.birth)
    return mx.where(real[:, None, :, None], reads, 0), state


def by_slots(case: Case, lengths: mx.array) -> tuple[mx.array, MemoryState]:
    """The fast form for rows of unlike position and length; reads beyond a row's length are zero."""
    real = mx.arange(case.q.shape[2])[None] < lengths[:, None]
    gates = mask_gates(case.gates, real[:, None, None])
    if case.config.update == "online":
        reads, state = online(*case[:5], gates, lengths, case.birth)
    else:
        reads, state = chunked_slots(*case[:5], gates, case.norm, lengths, case.birth)
    return mx.where(real[:, None, :, None], reads, 0), state


def in_pieces(form: Form, case: Case, cuts: list[int]) -> tuple[mx.array, MemoryState]:
    """One form called piece by piece, the state handed on."""
    state, reads = case.state, []
    bounds = [0, *cuts, case.q.shape[2]]
    for start, stop in pairwise(bounds):
        read, state = form(case.tokens(start, stop)._replace(state=state))
        reads.append(read)
    return mx.concatenate(reads, axis=2), state


def leaves(case: Case) -> dict[str, Any]:
    """Everything an outer gradient can reach: fast weights, inputs, gates' logits, slow norm."""
    fast = {name: getattr(case.state, name) for name in ("weights", "momentum", "anchor")}
    return {
        "state": {name: arrays for name, arrays in fast.items() if arrays is not None},
        "inputs": {"q": case.q, "k": case.k, "v": case.v},
        "logits": case.logits,
        "norm": case.norm or (),
        "birth": case.birth or (),
    }


def projection(form: Form, case: Case) -> Callable[[dict[str, Any]], mx.array]:
    """A random projection of reads, weights and momentum, as a function of the :func:`leaves`."""
    key = mx.random.key(7)

    def project(x: mx.array) -> mx.array:
        return (x * mx.random.normal(x.shape, key=key).astype(x.dtype)).sum()

    def loss(at: dict[str, Any]) -> mx.array:
        state = case.state._replace(**at["state"])
        norm = None if case.norm is None else Norm(*at["norm"])
        birth = at["birth"] or None
        reads, after = form(case._replace(state=state, norm=norm, birth=birth, logits=at["logits"], **at["inputs"]))
        return project(reads) + sum(project(x) for x in (*after.weights, *(after.momentum or ())))

    return loss


def gradients(form: Form, case: Case) -> dict[str, mx.array]:
    """Outer gradients of a random projection, by name of what they belong to."""
    return dict(tree_flatten(mx.grad(projection(form, case))(leaves(case))))


def error(actual: mx.array, expected: mx.array) -> float:
    """Largest difference relative to the largest expected value."""
    return (mx.abs(actual - expected).max() / (mx.abs(expected).max() + 1e-30)).item()


def assert_close(actual: Any, expected: Any, tolerance: float, skip: tuple[str, ...] = ()) -> None:
    """Trees of arrays and ints (reads and state; dicts of gradients) agree, array by array."""
    actual, expected = (dict(tree_flatten(_plain(tree))) for tree in (actual, expected))
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        if name in skip:
            continue
        if not isinstance(value, mx.array):
            assert actual[name] == value, name
            continue
        assert (actual[name].shape, actual[name].dtype) == (value.shape, value.dtype), name
        found = error(actual[name], value)
        assert math.isfinite(found) and found <= tolerance, f"{name}: {found:.1e} > {tolerance:.0e}"


def _plain(tree: Any) -> Any:
    """Named tuples as dicts, so that a failure names the field."""
    if isinstance(tree, tuple) and hasattr(tree, "_asdict"):
        return {name: _plain(value) for name, value in tree._asdict().items() if value is not None}
    if isinstance(tree, list | tuple):
        return [_plain(value) for value in tree]
    return tree


def frozen(tree: Any) -> Any:
    """A copy that nobody else holds, to see later whether the original was changed."""
    return tree_map(lambda leaf: mx.array(leaf) if isinstance(leaf, mx.array) else leaf, tree)
