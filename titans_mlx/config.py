"""Frozen configurations: a diff of two of them is a diff of two architectures."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

from titans_mlx._check import set_count

Variant = Literal["lmm", "mac", "mag", "mal", "transformer", "sliding_window"]
Activation = Literal["gelu", "silu", "relu"]
ConvBirth = Literal["uniform", "identity", "shift"]

MAX_DEPTH = 4


def _choose(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {list(allowed)}, got {value!r}")


def _between(name: str, value: Any, low: float, high: float) -> None:
    """Open interval: a gate born at its limit has no gradient."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not low < value < high:
        raise ValueError(f"{name} must lie strictly between {low:g} and {high:g}, got {value!r}")


def _switch(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")


class _Config:
    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from a JSON-like dict; unknown keys are ignored (mlx-lm's rule), nested configs are built too."""
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def to_dict(self) -> dict[str, Any]:
        """A JSON-serialisable dict that :meth:`from_dict` turns back into an equal config."""
        return dataclasses.asdict(self)

    def replace(self, **changes: Any) -> Self:
        """A validated copy with some fields changed."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class MemoryConfig(_Config):
    """The four choices that make a memory (Miras): structure, objective, retention, learner; and its projections.

    Attributes:
        depth: layers of the memory, 1 (a matrix) to 4 (paper: 2).
        expansion: hidden width of a memory MLP over its head width (paper: 4).
        activation: between the MLP's layers; ``gelu`` is the exact (erf) form.
        residual: ``f = x + ...``; ``"auto"``: on for depth >= 2.
        norm: LayerNorm on the MLP's output, its gain and bias slow; ``"auto"``: on for depth >= 2.
        objective: ``l2`` (``||f(k) - v||^2``, summed, eq. 12), ``dot`` (``-<f(k), v>``), ``lp`` (``sum |f(k) - v|^p``,
            Miras eq. 11) or ``huber`` (``l2`` up to a threshold of the error's norm, linear in it beyond, Miras eq.
            15); the last two not online.
        loss_power: p of ``lp``.
        threshold: of ``huber``, ``learned`` per token and head, or ``fixed``.
        threshold_init: at birth (learned) or for good (fixed).
        decay: ``learned`` alpha per token, head and layer (eq. 13), ``fixed`` per head, or ``none``.
        decay_init: alpha at birth (learned) or for good (fixed); one number, or one per head.
        momentum: ``learned`` eta per token, head and layer (eq. 10), or ``none`` (no momentum state at all).
        momentum_init: eta at birth.
        step_size: ``learned`` theta per token, head and layer, or ``fixed`` at ``max_step``.
        step_init: theta at birth.
        step_gate_scale: factor on the step gate's logit before its bias; above 1 it opens and closes more sharply,
            and learns faster than the rest.
        shared_gates: one alpha, eta and theta for all layers of the memory, as the paper writes them; False: each
            layer has its own.
        max_step: upper end of theta; at most 1/2 keeps the online l2 rule from overshooting (factor 2 in the loss).
        normalized_step: theta times (1 - eta), so that a write's total step does not grow with momentum.
        implicit_step: the error is taken at the weights after the write (Longhorn), which is theta over
            ``1 + 2 theta ||k||^2``: it overshoots at no theta. A matrix, ``l2``, no momentum, decay none or first.
        update: ``anchored`` takes gradients at the weights of the last chunk boundary (eq. 16), ``online`` at the
            weights just before each token (eq. 8-14 exactly; depth 1 without norm).
        chunk_size: tokens that share a gradient anchor. For ``online`` it changes speed, never the result.
        recompute: chunks in a span whose inner values the backward pass computes anew instead of keeping them (training
            on long sequences: less memory, one more forward pass, equal gradients); 0: all are kept. Where an observer
            looks on, or rows are at unlike positions, all are kept too.
        write_bound: limit on the norm of one write before theta, per layer; None: unbounded;
            ``"auto"``: 1.0 when anchored, None when online.
        decay_first: measure the error at the decayed weights (Gated DeltaNet), not before decay (Titans); online only.
        qk_norm: l2-normalise keys and queries.
        conv_size: taps of the causal depthwise convolution after the q, k, v projections; 0: none.
        conv_birth: ``uniform`` taps (PyTorch's default for this layer), ``identity``, or ``shift``: keys born at the
            previous token, queries and values at the present one.
    """

    depth: int = 2
    expansion: int = 4
    activation: Activation = "gelu"
    residual: bool | Literal["auto"] = "auto"
    norm: bool | Literal["auto"] = "auto"
    objective: Literal["l2", "dot", "lp", "huber"] = "l2"
    loss_power: float = 3.0
    threshold: Literal["learned", "fixed"] = "learned"
    threshold_init: float = 1.0
    decay: Literal["learned", "fixed", "none"] = "learned"
    decay_init: float | tuple[float, ...] = 0.001
    momentum: Literal["learned", "none"] = "learned"
    momentum_init: float = 0.5
    step_size: Literal["learned", "fixed"] = "learned"
    step_init: float = 0.1
    step_gate_scale: float = 1.0
    shared_gates: bool = False
    max_step: float = 0.5
    normalized_step: bool = False
    implicit_step: bool = False
    update: Literal["anchored", "online"] = "anchored"
    chunk_size: int = 16
    recompute: int = 0
    write_bound: float | Literal["auto"] | None = "auto"
    decay_first: bool = False
    qk_norm: bool = True
    conv_size: int = 4
    conv_birth: ConvBirth = "uniform"

    @property
    def gate_layers(self) -> int:
        """Layers of the memory with gates of their own."""
        return 1 if self.shared_gates else self.depth

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        if isinstance(self.decay_init, list):
            set_field(self, "decay_init", tuple(self.decay_init))
        self._check_ranges()
        for name in ("residual", "norm"):
            if getattr(self, name) == "auto":
                set_field(self, name, self.depth >= 2)
        for name in ("residual", "norm", "shared_gates", "normalized_step", "implicit_step", "decay_first", "qk_norm"):
            _switch(name, getattr(self, name))
        if self.write_bound == "auto":
            set_field(self, "write_bound", 1.0 if self.update == "anchored" else None)
        if self.write_bound is not None:
            _between("write_bound", self.write_bound, 0, float("inf"))
        self._check_combinations()

    def _check_ranges(self) -> None:
        set_count(self, "depth", 1)
        if self.depth > MAX_DEPTH:
            raise ValueError(f"depth must be at most {MAX_DEPTH}, got {self.depth}")
        set_count(self, "expansion", 1)
        set_count(self, "chunk_size", 1)
        set_count(self, "recompute", 0)
        set_count(self, "conv_size", 0)
        _choose("activation", self.activation, get_args(Activation))
        _choose("objective", self.objective, ("l2", "dot", "lp", "huber"))
        _choose("threshold", self.threshold, ("learned", "fixed"))
        for name, low in (("loss_power", 1), ("threshold_init", 0)):
            _between(name, getattr(self, name), low, float("inf"))
        _choose("decay", self.decay, ("learned", "fixed", "none"))
        _choose("momentum", self.momentum, ("learned", "none"))
        _choose("step_size", self.step_size, ("learned", "fixed"))
        _between("step_gate_scale", self.step_gate_scale, 0, float("inf"))
        _choose("update", self.update, ("anchored", "online"))
        _choose("conv_birth", self.conv_birth, get_args(ConvBirth))
        inits = self.decay_init if isinstance(self.decay_init, tuple) else (self.decay_init,)
        if not inits:
            raise ValueError(f"decay_init must be a number or one per head, got {self.decay_init!r}")
        for init in inits:
            _between("decay_init", init, 0, 1)
        _between("momentum_init", self.momentum_init, 0, 1)
        _between("max_step", self.max_step, 0, float("inf"))
        if self.step_size == "learned":
            _between("step_init", self.step_init, 0, self.max_step)

    def _check_combinations(self) -> None:
        if self.update == "online":
            if self.depth > 1 or self.norm:
                raise ValueError(
                    f"update='online' needs depth=1 and norm=False (the exact parallel form is linear in the weights), "
                    f"got depth={self.depth}, norm={self.norm}; use update='anchored', chunk_size=1 for the same rule"
                )
            if self.objective in ("lp", "huber"):
                raise ValueError(
                    f"objective must be 'l2' or 'dot' with update='online' (its system is linear in the weights), "
                    f"got {self.objective!r}; use update='anchored', chunk_size=1 for the same rule"
                )
            if self.write_bound is not None:
                raise ValueError(
                    f"write_bound must be None with update='online' (a bound makes its system nonlinear), "
                    f"got {self.write_bound!r}; use update='anchored', chunk_size=1"
                )
        elif self.decay_first:
            raise ValueError("decay_first must be False with update='anchored': the error is taken at the anchor")
        if self.conv_birth == "shift" and self.conv_size == 1:
            raise ValueError("conv_size must be 0 or >= 2 with conv_birth='shift', got 1")
        plain = self.depth == 1 and not self.norm and self.objective == "l2" and self.momentum == "none"
        if self.implicit_step and not (plain and (self.decay == "none" or self.decay_first)):
            raise ValueError(
                "implicit_step must be False where it has no closed form: but for depth=1, norm=False, objective='l2', "
                "momentum='none', and decay='none' or decay_first=True; got True"
            )
        if self.normalized_step and self.momentum == "none":
            raise ValueError("normalized_step must be False with momentum='none': there is no eta to scale by")


@dataclass(frozen=True)
class TitansConfig(_Config):
    """A language model whose ``variant`` names the block.

    Attributes:
        variant: ``lmm`` (memory alone), ``mac`` (as context), ``mag`` (as gate), ``mal`` (as layer),
            ``transformer`` (full causal attention) or ``sliding_window``.
        vocab_size: number of token ids.
        dim: model width.
        num_layers: blocks; a MAL block holds a memory and an attention sub-layer, each with its MLP.
        num_heads: heads of attention and of the memory.
        mlp_hidden: hidden width of the SwiGLU MLPs; None: 8/3 dim rounded up to a multiple of 8; 0: no MLP.
        segment_size: span of MAC's attention, in tokens. Not the chunk of the memory.
        window_size: span of sliding attention, in tokens, the token itself included.
        num_persistent: learned input-independent tokens per block (eq. 19).
        rope_base: base of the rotary positions; None: no positions.
        attention_conv_size: taps of a short convolution on attention's queries, keys and values, as the memory has
            (baselines, MAG, MAL; not MAC); 0: none, as in the paper.
        attention_conv_birth: of its taps, as ``MemoryConfig.conv_birth``.
        tie_embeddings: output weights are the embedding's.
        embedding_std: of the embedding at birth; None: ``dim ** -0.5``. A small one (0.02, as in GPT-2) lets words that
            play one role fall together early: a norm follows, so only directions matter, and small vectors turn faster.
        norm_eps: epsilon of the RMS norms.
        memory: the memory's own configuration; ignored by the two attention-only variants.
    """

    variant: Variant = "mac"
    vocab_size: int = 256
    dim: int = 128
    num_layers: int = 2
    num_heads: int = 4
    mlp_hidden: int | None = None
    segment_size: int = 64
    window_size: int = 64
    num_persistent: int = 4
    rope_base: float | None = 10_000.0
    attention_conv_size: int = 0
    attention_conv_birth: ConvBirth = "uniform"
    tie_embeddings: bool = False
    embedding_std: float | None = None
    norm_eps: float = 1e-5
    memory: MemoryConfig = field(default_factory=MemoryConfig)

    def __post_init__(self) -> None:
        if isinstance(self.memory, dict):
            object.__setattr__(self, "memory", MemoryConfig.from_dict(self.memory))
        if not isinstance(self.memory, MemoryConfig):
            raise ValueError(f"memory must be a MemoryConfig or a dict of its fields, got {self.memory!r}")
        _choose("variant", self.variant, get_args(Variant))
        _switch("tie_embeddings", self.tie_embeddings)
        # MLX's log_softmax crashes on one class.
        set_count(self, "vocab_size", 2)
        for name in ("dim", "num_layers", "num_heads", "segment_size", "window_size"):
            set_count(self, name, 1)
        for name in ("num_persistent", "attention_conv_size"):
            set_count(self, name, 0)
        _choose("attention_conv_birth", self.attention_conv_birth, get_args(ConvBirth))
        if self.attention_conv_birth == "shift" and self.attention_conv_size == 1:
            raise ValueError("attention_conv_size must be 0 or >= 2 with attention_conv_birth='shift', got 1")
        if self.mlp_hidden is None:
            object.__setattr__(self, "mlp_hidden", 8 * math.ceil(self.dim / 3))
        set_count(self, "mlp_hidden", 0)
        if self.dim % self.num_heads:
            raise ValueError(f"num_heads must divide dim={self.dim}, got {self.num_heads}")
        if self.rope_base is not None:
            _between("rope_base", self.rope_base, 1, float("inf"))
            if self.variant != "lmm" and self.dim // self.num_heads % 2:
                raise ValueError(f"dim / num_heads must be even for rotary positions, got {self.dim}/{self.num_heads}")
        if self.embedding_std is not None:
            _between("embedding_std", self.embedding_std, 0, float("inf"))
        _between("norm_eps", self.norm_eps, 0, 1)
