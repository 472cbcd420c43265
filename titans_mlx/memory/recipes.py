"""Known models as choices of structure, objective, retention and learner: nothing but a configuration each.

They keep this package's projections (SiLU, short convolution, gated read-out) unless the model is defined without;
a recipe fixes the rule by which the memory changes, which is what sets these models apart. ``theta' = 2 theta`` is the
step in the notation of papers whose squared loss carries a factor 1/2.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from titans_mlx._check import check_count
from titans_mlx.config import MemoryConfig


def titans(**changes: Any) -> MemoryConfig:
    """Titans: deep memory, l2 loss, learned decay, momentum, gradients at a chunk's start (eq. 12-18)."""
    return MemoryConfig(**changes)


def titans_matrix(**changes: Any) -> MemoryConfig:
    """Titans with a matrix memory and exact online gradients (eq. 8-14 without the approximation of eq. 16).

    The chunk changes speed and rounding: on nearly identical keys at the largest step, float32 is within 5e-5 of the
    definition for eta = 0.9 at 32 tokens, 1.4e-4 at 64; for eta = 0.99 within 1.6e-4 and 3.2e-3.
    """
    return MemoryConfig(**{"depth": 1, "update": "online", "chunk_size": 32, **changes})


def ttt(**changes: Any) -> MemoryConfig:
    """TTT-Linear (Sun et al. 2024): ``f = x + LN(W x)``, mini-batch gradient steps, no momentum, no decay."""
    choices = {
        "depth": 1,
        "residual": True,
        "norm": True,
        "decay": "none",
        "momentum": "none",
        "write_bound": None,
    }
    return MemoryConfig(**{**choices, **changes})


def ttt_mlp(**changes: Any) -> MemoryConfig:
    """TTT-MLP (Sun et al. 2024): as TTT-Linear, the memory an MLP of two layers and width x 4."""
    return ttt(**{"depth": 2, **changes})


def yaad(**changes: Any) -> MemoryConfig:
    """Yaad (Behrouz et al. 2025): an MLP, Huber loss with a learned threshold, decay, no momentum.

    The loss is their eq. 15, of the error's norm. Their eq. 16 jumps at the threshold, so that rounding decides on
    which side an error falls, and a sequence cut elsewhere would give something else.
    """
    return MemoryConfig(**{"objective": "huber", "momentum": "none", **changes})


def deltanet(**changes: Any) -> MemoryConfig:
    """DeltaNet (Yang et al. 2024): ``W_t = W_{t-1} - theta' (W_{t-1} k - v) k^T``, ``0 < theta' < 1``."""
    return titans_matrix(**{"decay": "none", "momentum": "none", **changes})


def gated_deltanet(**changes: Any) -> MemoryConfig:
    """Gated DeltaNet (Yang et al. 2025): ``W_t = g W_{t-1} - theta' (g W_{t-1} k - v) k^T``, decay before the error."""
    return titans_matrix(**{"momentum": "none", "decay_first": True, **changes})


def longhorn(**changes: Any) -> MemoryConfig:
    """Longhorn (Liu et al. 2024): ``W_t = argmin ||W - W_{t-1}||^2 + 2 theta ||W k - v||^2``, the implicit delta rule.

    Here with one step per head, which has the closed form above without their diagonal approximation.
    """
    return deltanet(**{"implicit_step": True, **changes})


def linear_attention(**changes: Any) -> MemoryConfig:
    """Linear attention (Katharopoulos et al. 2020), unnormalised: ``W_t = W_{t-1} + v k^T``."""
    choices = {"objective": "dot", "decay": "none", "momentum": "none", "step_size": "fixed", "max_step": 1.0}
    return titans_matrix(**{"qk_norm": False, **choices, **changes})


def mamba2(**changes: Any) -> MemoryConfig:
    """Mamba-2 (Dao and Gu 2024), its state as a memory: ``W_t = (1 - alpha_t) W_{t-1} + theta_t v k^T``, both learned.

    Their one gate sets both, ``theta`` and ``-log(1 - alpha)`` in proportion; here each has its own.
    """
    return linear_attention(**{"decay": "learned", "step_size": "learned", **changes})


def gla(**changes: Any) -> MemoryConfig:
    """Gated linear attention (Yang et al. 2024): ``W_t = W_{t-1} diag(1 - alpha_t) + v k^T``, an alpha per key channel.

    Anchored, which changes nothing here: the gradient of a dot product is the same at any weights.
    """
    choices = {"update": "anchored", "write_bound": None, "decay": "learned", "decay_per": "column", "chunk_size": 16}
    return linear_attention(**{**choices, **changes})


def titans_channels(**changes: Any) -> MemoryConfig:
    """Titans as of NeurIPS 2025: forgetting per channel, ``alpha_t in [0, 1]^d``, here of each layer's outputs."""
    return titans(**{"decay_per": "row", **changes})


def moneta(**changes: Any) -> MemoryConfig:
    """Moneta (Behrouz et al. 2025): an MLP, l_3 loss, l_4 retention, decay, no momentum (Miras eq. 11, 24).

    Its theta is born at 0.01: at 0.1 its outer gradient explodes (``notebooks/LOG.md``).
    """
    choices = {"objective": "lp", "retention": "lq", "momentum": "none", "step_init": 0.01}
    return MemoryConfig(**{**choices, **changes})


def memora(**changes: Any) -> MemoryConfig:
    """Memora (Behrouz et al. 2025): an MLP, squared error, KL retention, decay of logarithms, no momentum (eq. 27).

    The softmax is along a layer's inputs; the paper leaves the axis open.
    """
    return MemoryConfig(**{"retention": "kl", "momentum": "none", **changes})


def omega_net(**changes: Any) -> MemoryConfig:
    """OmegaNet (Behrouz et al. 2025, ATLAS): an MLP, the Omega rule over four tokens, keys with their products.

    Their memory is ``x + W_1 s(W_2 x)``, with a LayerNorm at a chunk's end only: a residual needs keys as wide as
    values, so that here it is left out, and the LayerNorm is in every read, as elsewhere here. With momentum, as
    Titans: whether theirs has it, the sources at hand do not say.
    """
    return titans(**{"omega": 4, "key_degree": 2, **changes})


def atlas(**changes: Any) -> MemoryConfig:
    """ATLAS (Behrouz et al. 2025): OmegaNet whose writes are orthogonalised, as by Muon.

    Every direction of a write then has the size theta, which is therefore born at 0.02.
    """
    return omega_net(**{"orthogonal_writes": True, "step_init": 0.02, **changes})


def tnt(coarse: int = 2048, fine: Sequence[int] = (8,), period: int = 2048, **changes: Any) -> tuple[MemoryConfig, ...]:
    """TNT (Behrouz et al. 2025): a memory of large chunks, and others of small ones that begin anew every period.

    For :class:`titans_mlx.memory.CoarseAndFine`; ``changes`` are of them all.

    Raises:
        ValueError: if there is no fine memory.
    """
    if not fine:
        raise ValueError(f"fine must hold at least one chunk size, got {fine!r}")
    whole = titans(chunk_size=coarse, **changes)
    return (whole, *(titans(chunk_size=chunk, reset_every=period, **changes) for chunk in fine))


def retnet(num_heads: int, **changes: Any) -> MemoryConfig:
    """RetNet (Sun et al. 2023): ``W_t = gamma_h W_{t-1} + v k^T``, ``gamma_h = 1 - 2^(-5-h)`` for head h = 0, 1, ..."""
    check_count("num_heads", num_heads)
    fading = tuple(2.0 ** (-5 - head) for head in range(num_heads))
    return linear_attention(**{"decay": "fixed", "decay_init": fading, **changes})


class Recipe(NamedTuple):
    """A known model as a configuration.

    Attributes:
        make: the configuration, with changes as keywords.
        source: who published it.
    """

    make: Callable[..., MemoryConfig]
    source: str


RECIPES: dict[str, Recipe] = {
    "Linear attention": Recipe(linear_attention, "Katharopoulos et al. 2020"),
    "RetNet": Recipe(lambda **changes: retnet(changes.pop("num_heads", 4), **changes), "Sun et al. 2023"),
    "Mamba-2": Recipe(mamba2, "Dao and Gu 2024"),
    "GLA": Recipe(gla, "Yang et al. 2024"),
    "DeltaNet": Recipe(deltanet, "Yang et al. 2024"),
    "Longhorn": Recipe(longhorn, "Liu et al. 2024"),
    "Gated DeltaNet": Recipe(gated_deltanet, "Yang et al. 2025"),
    "TTT-Linear": Recipe(ttt, "Sun et al. 2024"),
    "TTT-MLP": Recipe(ttt_mlp, "Sun et al. 2024"),
    "Titans, matrix": Recipe(titans_matrix, "Behrouz et al. 2024"),
    "Titans (LMM)": Recipe(titans, "Behrouz et al. 2024"),
    "Titans (NeurIPS)": Recipe(titans_channels, "Behrouz et al. 2025"),
    "Moneta": Recipe(moneta, "Behrouz et al. 2025"),
    "Yaad": Recipe(yaad, "Behrouz et al. 2025"),
    "Memora": Recipe(memora, "Behrouz et al. 2025"),
    "OmegaNet": Recipe(omega_net, "Behrouz et al. 2025"),
    "ATLAS": Recipe(atlas, "Behrouz et al. 2025"),
}
"""By the names of their papers. A further one is a function of a few lines, and a line here."""


def choices(config: MemoryConfig) -> dict[str, str]:
    """The four choices of a configuration in words: ``structure``, ``objective``, ``retention``, ``learner``."""
    structure = "matrix" if config.depth == 1 else f"MLP, {config.depth} layers, width x {config.expansion}"
    if config.norm:
        structure += ", x + LN(...)" if config.residual else ", LN(...)"
    structure += ", keys of degree 2" if config.key_degree == 2 else ""
    window = f" of the last {config.omega} tokens" if config.omega > 1 else ""
    objective = {
        "l2": "squared error",
        "dot": "dot product",
        "lp": f"l_{config.loss_power:g}",
        "huber": f"Huber, {config.threshold} threshold",
    }.get(config.objective, config.objective) + window
    retention = {"none": "none", "fixed": "fixed decay per head", "learned": "learned decay"}[config.decay]
    retention += {"head": "", "row": " per output channel", "column": " per key channel"}[config.decay_per]
    retention += {"zero": "", "birth": ", to the weights at birth"}[config.decay_to]
    retention += {"l2": "", "lq": f", l_{config.retention_power:g}", "kl": ", KL"}[config.retention]
    if config.decay_first:
        retention += ", before the error"
    learner = "implicit step" if config.implicit_step else "gradient step"
    learner += ", orthogonalised" if config.orthogonal_writes else ""
    learner += " of 1" if config.step_size == "fixed" and config.max_step == 1 else ""
    learner += ", momentum" if config.momentum == "learned" else ""
    learner += f", anew every {config.reset_every} tokens" if config.reset_every else ""
    anchored = f", gradients every {config.chunk_size} tokens" if config.chunk_size > 1 else ""
    learner += ", at every token" if config.update == "online" else anchored
    return {"structure": structure, "objective": objective, "retention": retention, "learner": learner}


def table() -> list[dict[str, str]]:
    """A row per recipe: ``model``, its :func:`choices`, ``source``."""
    return [{"model": name, **choices(recipe.make()), "source": recipe.source} for name, recipe in RECIPES.items()]
