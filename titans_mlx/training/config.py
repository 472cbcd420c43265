"""How a run is trained: one frozen value, stored with the run and compared when it is resumed."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, Self

from titans_mlx._check import check_number, check_seed, set_count
from titans_mlx._config import choose


@dataclass(frozen=True)
class TrainConfig:
    """Options of :func:`~titans_mlx.training.trainer.train`. Steps count from 1 to ``steps``.

    Attributes:
        steps: number of updates.
        batch_size: sequences per step; a record for the reader, the batches come from the caller.
        learning_rate: the peak.
        warmup: steps over which the rate rises linearly to the peak; it then falls as a cosine.
        min_lr_ratio: the rate at the last step, as a share of the peak.
        weight_decay: decoupled (AdamW, Muon), on parameters of two or more dimensions (the paper's value is 0.1).
        no_decay: patterns (``fnmatch``) of dotted names that are not decayed whatever their dimensions; the memory's
            gains and biases of a norm have an axis of heads.
        betas: AdamW's, with bias correction.
        eps: AdamW's.
        clip: limit on the global norm of the gradients; None: no limit.
        seed: of MLX's random state, set once at the start.
        log_every: steps between records of loss and rate; the last step is always recorded.
        eval_every: steps between evaluations; 0: only after the last.
        checkpoint_every: steps between checkpoints; 0: only before the first and after the last.
        compile: compile the step. Each new batch shape is traced anew, which can take long for unrolled
            graphs.
        optimizer: ``adamw``, or ``muon`` (orthogonalised momentum) for the projections and AdamW for everything else.
        muon_learning_rate: the peak for the projections under ``muon``; it rises and falls as ``learning_rate`` does.
        accumulate: parts that a batch's rows are cut into, their gradients averaged: less memory, and the same
            update where the loss is a mean over equally many positions in every part.
        truncate: tokens over which gradients run back; a sequence is read in pieces of this many, and what the model
            carries from piece to piece has no gradient (truncated back-propagation). The loss function is then given
            the states as ``cache=`` and replaces them. 0: whole sequences.
        dtype: of the forward and backward pass. Parameters, their gradients and the optimiser's state are float32
            also with ``bfloat16``, as are a memory's gates, weights and initial weights.
        loss_limit: a loss above it ends the run as one that diverged; None: only one that is not finite.
    """

    steps: int
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup: int = 0
    min_lr_ratio: float = 0.1
    weight_decay: float = 0.1
    no_decay: tuple[str, ...] = ("*gain", "*norm_bias")
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    clip: float | None = 1.0
    seed: int = 0
    log_every: int = 1
    eval_every: int = 0
    checkpoint_every: int = 0
    compile: bool = True
    optimizer: Literal["adamw", "muon"] = "adamw"
    muon_learning_rate: float = 0.02
    accumulate: int = 1
    truncate: int = 0
    dtype: Literal["float32", "bfloat16"] = "float32"
    loss_limit: float | None = None

    def __post_init__(self) -> None:
        patterns = self.no_decay
        if not isinstance(patterns, list | tuple) or not all(isinstance(pattern, str) for pattern in patterns):
            raise ValueError(f"no_decay must be a sequence of patterns, got {self.no_decay!r}")
        if not isinstance(self.compile, bool):
            raise ValueError(f"compile must be True or False, got {self.compile!r}")
        if not isinstance(self.betas, list | tuple) or len(self.betas) != 2:
            raise ValueError(f"betas must be two numbers, got {self.betas!r}")
        for name in ("betas", "no_decay"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, least in (("steps", 1), ("batch_size", 1), ("warmup", 0), ("seed", 0)):
            set_count(self, name, least)
        check_seed("seed", self.seed)
        for name, least in (("log_every", 1), ("eval_every", 0), ("checkpoint_every", 0)):
            set_count(self, name, least)
        for name, least in (("accumulate", 1), ("truncate", 0)):
            set_count(self, name, least)
        for name, allowed in (("optimizer", ("adamw", "muon")), ("dtype", ("float32", "bfloat16"))):
            choose(name, getattr(self, name), allowed)
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate must divide batch_size={self.batch_size}, got {self.accumulate}")
        if self.warmup > self.steps:
            raise ValueError(f"warmup must be at most steps={self.steps}, got {self.warmup}")
        check_number("learning_rate", self.learning_rate, "> 0", lambda x: x > 0)
        check_number("muon_learning_rate", self.muon_learning_rate, "> 0", lambda x: x > 0)
        if self.loss_limit is not None:
            check_number("loss_limit", self.loss_limit, "> 0, or None", lambda x: x > 0)
        check_number("min_lr_ratio", self.min_lr_ratio, "between 0 and 1", lambda x: 0 <= x <= 1)
        check_number("weight_decay", self.weight_decay, ">= 0", lambda x: x >= 0)
        check_number("eps", self.eps, "> 0", lambda x: x > 0)
        if self.clip is not None:
            check_number("clip", self.clip, "> 0, or None", lambda x: x > 0)
        for beta in self.betas:
            check_number("betas", beta, ">= 0 and < 1", lambda x: 0 <= x < 1)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-serialisable dict."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        return cls(**values)
