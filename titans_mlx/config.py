"""Frozen configurations: a diff of two of them is a diff of two architectures."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from titans_mlx._check import check_number, set_count
from titans_mlx._config import Config, between, choose, switch

Variant = Literal["lmm", "mac", "mag", "mal", "transformer", "sliding_window"]
Activation = Literal["gelu", "silu", "relu"]
ConvBirth = Literal["uniform", "identity", "shift"]

MAX_DEPTH = 4
OBJECTIVES = ["l2", "dot", "lp", "huber"]
"""Names that ``MemoryConfig.objective`` may take: the package's, and those a person has registered."""
SWITCHES = (
    "residual",
    "norm",
    "shared_gates",
    "normalized_step",
    "implicit_step",
    "orthogonal_writes",
    "decay_first",
    "qk_norm",
)


@dataclass(frozen=True)
class MemoryConfig(Config):
    """The four choices that make a memory (Miras): structure, objective, retention, learner; and its projections.

    Attributes:
        depth: layers of the memory, 1 (a matrix) to 4 (paper: 2).
        expansion: hidden width of a memory MLP over its head width (paper: 4).
        activation: between the MLP's layers; ``gelu`` is the exact (erf) form.
        residual: ``f = x + ...``; ``"auto"``: on for depth >= 2.
        norm: LayerNorm on the MLP's output, its gain and bias slow; ``"auto"``: on for depth >= 2.
        objective: ``l2`` (``||f(k) - v||^2``, summed, eq. 12), ``dot`` (``-<f(k), v>``), ``lp`` (``sum |f(k) - v|^p``,
            Miras eq. 11) or ``huber`` (``l2`` up to a threshold of the error's norm, linear in it beyond, Miras eq.
            15), or one of your own (``titans_mlx.memory.objective.register``); only the first two online.
        loss_power: p of ``lp``.
        threshold: of ``huber``, ``learned`` per token and head, or ``fixed``.
        threshold_init: at birth (learned) or for good (fixed).
        decay: ``learned`` alpha per token, head and layer (eq. 13), ``fixed`` per head, or ``none``.
        decay_per: ``head`` (one alpha for all of a layer's weights), ``row`` (one per output channel, a reading of the
            NeurIPS version's ``alpha in [0, 1]^d``) or ``column`` (one per input channel, GLA); the last two learned,
            anchored.
        decay_to: what weights fade to: ``zero`` (eq. 13), or ``birth``, the learned initial weights, so that what
            training put there is not forgotten with what was read: ``W_t = W_0 + (1 - alpha_t) (W_{t-1} - W_0) + S_t``.
        decay_rank: of the projection that makes alphas per channel (GLA: 16).
        decay_init: alpha at birth (learned) or for good (fixed); one number, or one per head.
        retention: what decay and writes act on. ``l2``: the weights themselves. ``lq``: sums of writes ``A``, read as
            ``A / ||A||_q^(q-2)`` (Moneta, Miras eq. 24). ``kl``: logarithms, read as their softmax along the inputs,
            times the number of inputs (Memora, Miras eq. 21, 27), at most two layers. The last two anchored; every
            token's weights are formed.
        retention_power: q of ``lq``, above 2 and at most 8, beyond which small weights leave float32's range.
        momentum: ``learned`` eta per token, head and layer (eq. 10), or ``none`` (no momentum state at all).
        momentum_init: eta at birth.
        step_size: ``learned`` theta per token, head and layer, or ``fixed`` at ``max_step``.
        step_init: theta at birth.
        step_gate_scale: factor on the step gate's logit before its bias; above 1 it opens and closes more sharply,
            and learns faster than the rest.
        shared_gates: one alpha, eta and theta for all layers of the memory, as the paper writes them; False: each
            layer has its own. An alpha per channel is each channel's own in any case.
        max_step: upper end of theta; at most 1/2 keeps the online l2 rule from overshooting (factor 2 in the loss).
        normalized_step: theta times (1 - eta), so that a write's total step does not grow with momentum.
        implicit_step: the error is taken at the weights after the write (Longhorn), which is theta over
            ``1 + 2 theta ||k||^2``: it overshoots at no theta. A matrix, ``l2``, no momentum, decay none or first.
        update: ``anchored`` takes gradients at the weights of the last chunk boundary (eq. 16), ``online`` at the
            weights just before each token (eq. 8-14 exactly; depth 1 without norm).
        omega: tokens whose losses a write descends, the present one and those before it (the Omega rule of ATLAS); an
            earlier one counts by a learned share between 0 and 1. 1: the present one alone. Anchored.
        chunk_size: tokens that share a gradient anchor. For ``online`` it changes speed, never the result.
        reset_every: tokens after which the memory is as at birth again (TNT's local memories), a multiple of
            ``chunk_size``; the weights change back when the next token is absorbed. Periods do not wait for one another
            but with ``recompute`` and where rows are at unlike positions. 0: never. Without persistent tokens only, and
            not in MAC, which would read the old weights once more.
        recompute: chunks in a span whose inner values the backward pass computes anew instead of keeping them (training
            on long sequences: less memory, one more forward pass, equal gradients); 0: all are kept. Where an observer
            looks on, or rows are at unlike positions, all are kept too. Such a model is for one thread at a time.
        write_bound: limit on the norm of one write before theta, per layer; None: unbounded;
            ``"auto"``: 1.0 when anchored, None when online.
        orthogonal_writes: the momentum's nearest orthogonal matrix is written, times theta (Muon, as in ATLAS), by five
            Newton-Schulz steps; anchored, and every token's weights are formed.
        decay_first: measure the error at the decayed weights (Gated DeltaNet), not before decay (Titans); online only.
        qk_norm: l2-normalise keys and queries.
        key_degree: 1, or 2: the memory sees ``(x, all products of two of x's entries) / sqrt 2`` of a key or query x,
            ``d (d + 3) / 2`` numbers whose inner products are ``(<x, y> + <x, y>^2) / 2`` (ATLAS); no residual.
        conv_size: taps of the causal depthwise convolution after the q, k, v projections; 0: none.
        conv_birth: ``uniform`` taps (PyTorch's default for this layer), ``identity``, or ``shift``: keys born at the
            previous token, queries and values at the present one.
    """

    depth: int = 2
    expansion: int = 4
    activation: Activation = "gelu"
    residual: bool | Literal["auto"] = "auto"
    norm: bool | Literal["auto"] = "auto"
    objective: str = "l2"
    loss_power: float = 3.0
    threshold: Literal["learned", "fixed"] = "learned"
    threshold_init: float = 1.0
    decay: Literal["learned", "fixed", "none"] = "learned"
    decay_per: Literal["head", "row", "column"] = "head"
    decay_to: Literal["zero", "birth"] = "zero"
    decay_rank: int = 16
    decay_init: float | tuple[float, ...] = 0.001
    retention: Literal["l2", "lq", "kl"] = "l2"
    retention_power: float = 4.0
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
    omega: int = 1
    chunk_size: int = 16
    reset_every: int = 0
    recompute: int = 0
    write_bound: float | Literal["auto"] | None = "auto"
    orthogonal_writes: bool = False
    decay_first: bool = False
    qk_norm: bool = True
    key_degree: int = 1
    conv_size: int = 4
    conv_birth: ConvBirth = "uniform"

    @property
    def forms_weights(self) -> bool:
        """Whether a token's weights are formed: they are no weighted sum of writes."""
        return self.retention != "l2" or self.orthogonal_writes

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
                set_field(self, name, self.depth >= 2 and (name == "norm" or self.key_degree == 1))
        for name in SWITCHES:
            switch(name, getattr(self, name))
        if self.write_bound == "auto":
            set_field(self, "write_bound", 1.0 if self.update == "anchored" else None)
        if self.write_bound is not None:
            between("write_bound", self.write_bound, 0, float("inf"))
        self._check_combinations()

    def _check_ranges(self) -> None:
        set_count(self, "depth", 1)
        if self.depth > MAX_DEPTH:
            raise ValueError(f"depth must be at most {MAX_DEPTH}, got {self.depth}")
        set_count(self, "expansion", 1)
        set_count(self, "omega", 1)
        set_count(self, "chunk_size", 1)
        set_count(self, "recompute", 0)
        set_count(self, "reset_every", 0)
        set_count(self, "conv_size", 0)
        choose("activation", self.activation, get_args(Activation))
        choose("objective", self.objective, tuple(OBJECTIVES))
        choose("threshold", self.threshold, ("learned", "fixed"))
        for name, low in (("loss_power", 1), ("threshold_init", 0)):
            between(name, getattr(self, name), low, float("inf"))
        choose("decay", self.decay, ("learned", "fixed", "none"))
        choose("decay_per", self.decay_per, ("head", "row", "column"))
        choose("retention", self.retention, ("l2", "lq", "kl"))
        check_number("retention_power", self.retention_power, "above 2 and at most 8", lambda q: 2 < q <= 8)
        choose("decay_to", self.decay_to, ("zero", "birth"))
        set_count(self, "decay_rank", 1)
        set_count(self, "key_degree", 1)
        choose("key_degree", self.key_degree, (1, 2))
        choose("momentum", self.momentum, ("learned", "none"))
        choose("step_size", self.step_size, ("learned", "fixed"))
        between("step_gate_scale", self.step_gate_scale, 0, float("inf"))
        choose("update", self.update, ("anchored", "online"))
        choose("conv_birth", self.conv_birth, get_args(ConvBirth))
        inits = self.decay_init if isinstance(self.decay_init, tuple) else (self.decay_init,)
        if not inits:
            raise ValueError(f"decay_init must be a number or one per head, got {self.decay_init!r}")
        for init in inits:
            between("decay_init", init, 0, 1)
        between("momentum_init", self.momentum_init, 0, 1)
        between("max_step", self.max_step, 0, float("inf"))
        if self.step_size == "learned":
            between("step_init", self.step_init, 0, self.max_step)

    def _check_combinations(self) -> None:
        if self.update == "online":
            self._check_online()
        elif self.decay_first:
            raise ValueError("decay_first must be False with update='anchored': the error is taken at the anchor")
        if self.decay_per != "head" and (self.decay != "learned" or self.forms_weights):
            raise ValueError(
                "decay_per must be 'head' but with decay='learned', retention='l2' and orthogonal_writes=False, got "
                f"{self.decay_per!r} with {self.decay!r}, {self.retention!r} and {self.orthogonal_writes}"
            )
        if self.decay_to == "birth" and (self.decay == "none" or self.forms_weights):
            raise ValueError(
                "decay_to must be 'zero' but with a decay, retention='l2' and orthogonal_writes=False, got 'birth' "
                f"with {self.decay!r}, {self.retention!r} and {self.orthogonal_writes}"
            )
        if self.reset_every % self.chunk_size:
            raise ValueError(f"reset_every must be a multiple of chunk_size={self.chunk_size}, got {self.reset_every}")
        if self.omega > 1 and self.objective == "huber":
            raise ValueError(f"omega must be 1 with objective='huber': past thresholds are not kept, got {self.omega}")
        if self.key_degree > 1 and self.residual:
            raise ValueError("residual must be False with key_degree=2: a key is then wider than a value, got True")
        if self.conv_birth == "shift" and self.conv_size == 1:
            raise ValueError("conv_size must be 0 or >= 2 with conv_birth='shift', got 1")
        if self.normalized_step and self.orthogonal_writes:
            raise ValueError(
                "normalized_step must be False with orthogonal_writes=True: a write's size is theta, got True"
            )
        if self.retention == "kl" and self.depth > 2:
            raise ValueError(
                "depth must be 1 or 2 with retention='kl' (positive weights make outputs alike, and beyond two layers "
                f"float32 cannot tell them apart), got {self.depth}"
            )
        if self.normalized_step and self.momentum == "none":
            raise ValueError("normalized_step must be False with momentum='none': there is no eta to scale by")
        if self.implicit_step:
            self._check_implicit_step()

    def _check_online(self) -> None:
        if self.depth > 1 or self.norm:
            raise ValueError(
                f"update='online' needs depth=1 and norm=False (the exact parallel form is linear in the weights), "
                f"got depth={self.depth}, norm={self.norm}; use update='anchored', chunk_size=1 for the same rule"
            )
        if self.objective not in ("l2", "dot"):
            raise ValueError(
                f"objective must be 'l2' or 'dot' with update='online' (its system is linear in the weights), "
                f"got {self.objective!r}; use update='anchored', chunk_size=1 for the same rule"
            )
        if self.write_bound is not None:
            raise ValueError(
                f"write_bound must be None with update='online' (a bound makes its system nonlinear), "
                f"got {self.write_bound!r}; use update='anchored', chunk_size=1"
            )
        if self.omega > 1:
            raise ValueError(f"omega must be 1 with update='online', got {self.omega}; use update='anchored'")
        if self.decay_per != "head" or self.forms_weights:
            raise ValueError(
                "decay_per, retention and orthogonal_writes must be 'head', 'l2' and False with update='online', "
                f"got {self.decay_per!r}, {self.retention!r} and {self.orthogonal_writes}; use update='anchored', "
                "chunk_size=1 for the same rule"
            )

    def _check_implicit_step(self) -> None:
        plain = self.depth == 1 and not self.norm and self.objective == "l2" and self.momentum == "none"
        at_once = self.update == "online" or (self.chunk_size == 1 and self.write_bound is None)
        plain = plain and at_once and self.omega == 1 and not self.forms_weights
        if not (plain and (self.decay == "none" or self.decay_first)):
            raise ValueError(
                "implicit_step must be False where it has no closed form: but for depth=1, norm=False, objective='l2', "
                "momentum='none', decay='none' or decay_first=True, and a gradient at every token; got True"
            )


@dataclass(frozen=True)
class TitansConfig(Config):
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
        choose("variant", self.variant, get_args(Variant))
        switch("tie_embeddings", self.tie_embeddings)
        # MLX's log_softmax crashes on one class.
        set_count(self, "vocab_size", 2)
        for name in ("dim", "num_layers", "num_heads", "segment_size", "window_size"):
            set_count(self, name, 1)
        for name in ("num_persistent", "attention_conv_size"):
            set_count(self, name, 0)
        choose("attention_conv_birth", self.attention_conv_birth, get_args(ConvBirth))
        if self.attention_conv_birth == "shift" and self.attention_conv_size == 1:
            raise ValueError("attention_conv_size must be 0 or >= 2 with attention_conv_birth='shift', got 1")
        if self.mlp_hidden is None:
            object.__setattr__(self, "mlp_hidden", 8 * math.ceil(self.dim / 3))
        set_count(self, "mlp_hidden", 0)
        if self.dim % self.num_heads:
            raise ValueError(f"num_heads must divide dim={self.dim}, got {self.num_heads}")
        if self.rope_base is not None:
            between("rope_base", self.rope_base, 1, float("inf"))
            if self.variant != "lmm" and self.dim // self.num_heads % 2:
                raise ValueError(f"dim / num_heads must be even for rotary positions, got {self.dim}/{self.num_heads}")
        if self.memory.reset_every and self.variant == "mac":
            raise ValueError(f"reset_every must be 0 in variant='mac', got {self.memory.reset_every}")
        if self.memory.reset_every and self.num_persistent and self.variant in ("lmm", "mag", "mal"):
            raise ValueError(
                "num_persistent must be 0 with a memory that is reset (what persistent tokens wrote would be lost), "
                f"got {self.num_persistent}"
            )
        if self.embedding_std is not None:
            between("embedding_std", self.embedding_std, 0, float("inf"))
        between("norm_eps", self.norm_eps, 0, 1)
