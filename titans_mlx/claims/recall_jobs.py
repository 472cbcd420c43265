"""What the recall claim runs: models of equal size, options beside the protocol, and the jobs of each profile."""

from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import Any

from titans_mlx._check import check_count
from titans_mlx.claims.base import Job, Profile, check_profile, job_id
from titans_mlx.claims.matching import match_parameters, parameters
from titans_mlx.claims.recall_runs import task_of, train_config, training_options
from titans_mlx.claims.streaming import check_distances
from titans_mlx.claims.training import recall_batches
from titans_mlx.config import TitansConfig
from titans_mlx.memory import recipes
from titans_mlx.tasks.recall import SETTINGS

WINDOW = 32
TITANS = ("LMM matrix", "LMM deep", "MAC", "MAG", "MAL")
SLIDING = "Sliding window"
FULL = ("Transformer", "Transformer, no positions")
RECURRENT = ("RetNet", "Linear attention", "DeltaNet", "Gated DeltaNet", "TTT linear", "TTT MLP")
MODELS = (*TITANS, *RECURRENT, SLIDING, *FULL)
"""Those of the claim, in the order in which they are shown."""
FAR = 65_536
DISTANCES = (256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, FAR)
BIRTH: dict[str, Any] = {"conv_birth": "shift", "step_init": 0.01, "decay_init": 1e-6}
"""What the paper does not state and all memories here share: how their convolutions and gates are born."""
SEEDS, MORE_SEEDS = (3, 4, 5), (6, 7)
TEST_SEED, VALIDATION_SEED = 2_000_003, 100
GRID = ((2e-3, 1.0), (2e-3, 0.1), (4e-3, 0.1))
"""Learning rate and weight decay; the larger decay is preferred: what is not needed then goes away."""


@dataclass(frozen=True)
class Option:
    """A departure from the claim's own training and births, reported beside it and never part of the verdict.

    Attributes:
        label: for people.
        write_cost: weight of the mean step size of every memory in the training loss; not part of Titans.
        weight_decay: in place of those of the grid.
        model: fields of the model's configuration that differ.
        memory: fields of the memory's configuration that differ.
    """

    label: str
    write_cost: float = 0.0
    weight_decay: float | None = None
    model: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)


OPTIONS = {
    "paper": Option("the paper's update rule, as in the protocol"),
    "write cost": Option("with a write cost (not part of Titans)", write_cost=0.1),
    "plain taps": Option(
        "convolution taps born as in PyTorch",
        model={"attention_conv_birth": "uniform"},
        memory={"conv_birth": "uniform"},
    ),
    "plain gates": Option("gates born at the package's defaults", memory={"step_init": 0.1, "decay_init": 0.001}),
    "plain decay": Option("weight decay of 0.1, as in the paper", weight_decay=0.1),
    "plain embedding": Option("embedding born at dim ** -0.5", model={"embedding_std": None}),
}


@cache
def model_configs(vocab_size: int) -> dict[str, TitansConfig]:
    """The claim's models and other recurrences at matched parameters (within 5 %), by name."""
    base = TitansConfig(
        variant="lmm",
        vocab_size=vocab_size,
        dim=64,
        num_layers=1,
        num_heads=1,
        mlp_hidden=192,
        segment_size=WINDOW,
        window_size=WINDOW,
        num_persistent=4,
        embedding_std=0.02,
        attention_conv_size=4,
        attention_conv_birth="shift",
        memory=recipes.titans_matrix(chunk_size=32, **BIRTH),
    )
    born = {**BIRTH, "chunk_size": 32}
    changes: dict[str, dict[str, Any]] = {
        "LMM matrix": {},
        "LMM deep": {"memory": recipes.titans(expansion=2, **BIRTH)},
        "MAC": {"variant": "mac"},
        "MAG": {"variant": "mag"},
        "MAL": {"variant": "mal"},
        # Its fading is fixed per head: eight heads reach the published 1 - 2^-12.
        "RetNet": {"num_heads": 8, "memory": recipes.retnet(8, chunk_size=32, conv_birth="shift")},
        "Linear attention": {"memory": recipes.linear_attention(chunk_size=32, conv_birth="shift")},
        "DeltaNet": {"memory": recipes.deltanet(**born)},
        "Gated DeltaNet": {"memory": recipes.gated_deltanet(**born)},
        # As published, and as often as the deep memory of Titans takes its gradients.
        "TTT linear": {"memory": recipes.ttt(**BIRTH)},
        "TTT MLP": {"memory": recipes.ttt(depth=2, expansion=2, **BIRTH)},
        SLIDING: {"variant": "sliding_window"},
        FULL[0]: {"variant": "transformer"},
        FULL[1]: {"variant": "transformer", "rope_base": None},
    }
    target = parameters(base)
    return {name: match_parameters(base.replace(**change), target) for name, change in changes.items()}


def with_option(config: TitansConfig, option: Option) -> TitansConfig:
    """A model's configuration with what an option changes of it."""
    return config.replace(memory=config.memory.replace(**option.memory), **option.model)


def make_job(
    model: str,
    setting: str = "few",
    option: str = "paper",
    seeds: tuple[int, ...] = (0,),
    *,
    distances: tuple[int, ...] = DISTANCES,
    lengths: tuple[int, ...] = (64, 128, 256, 512, 1024),
    steps: int = 800,
    tokens_per_step: int = 2048,
    grid: tuple[tuple[float, float], ...] = ((3e-3, 0.1),),
    near_sequences: int = 32,
    far_sequences: int = 8,
    num_pairs: int = 8,
    train_pairs: tuple[int, ...] = (),
    label: str = "",
) -> Job:
    """One model, its learning rate chosen once, trained and tested with each seed.

    Args:
        model: a name of :func:`model_configs`.
        setting: ``few`` (30) or ``many`` (1,000) filler words.
        option: a name of :data:`OPTIONS`.
        seeds: of parameters and training batches.
        distances: where it is asked.
        lengths: of the training sequences, in tokens.
        steps: of training.
        tokens_per_step: of training, as many sequences of the step's length as they hold.
        grid: pairs of learning rate and weight decay, the preferred first; the one whose model of the first seed is
            best on validation sequences of the longest training length is kept, the earlier one if they are equal.
        near_sequences: test sequences up to a distance of 16,384.
        far_sequences: test sequences beyond.
        num_pairs: key-value pairs in a test sequence, all of them asked for.
        train_pairs: in a training sequence, drawn per step; none given: ``num_pairs``.
        label: put in front of the id.

    Raises:
        ValueError: if a name is unknown, a number out of range, or a length holds none of the numbers of pairs.
    """
    for name, value, allowed in (
        ("model", model, list(model_configs(SETTINGS["few"].vocab_size))),
        ("setting", setting, list(SETTINGS)),
        ("option", option, list(OPTIONS)),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {allowed}, got {value!r}")
    if OPTIONS[option].weight_decay is not None:
        grid = tuple((rate, OPTIONS[option].weight_decay) for rate in dict(grid))
    check_distances(distances)
    for name, values in (("seeds", seeds), ("grid", grid), ("lengths", lengths)):
        if not values:
            raise ValueError(f"{name} must have at least one entry, got {values!r}")
    for name, value in (
        ("steps", steps),
        ("tokens_per_step", tokens_per_step),
        ("near_sequences", near_sequences),
        ("far_sequences", far_sequences),
    ):
        check_count(name, value)
    settings = {
        "model": model,
        "setting": setting,
        "option": option,
        "seeds": list(seeds),
        "distances": list(distances),
        "lengths": list(lengths),
        "tokens_per_step": tokens_per_step,
        "grid": [list(pair) for pair in grid],
        "near_sequences": near_sequences,
        "far_sequences": far_sequences,
        "num_pairs": num_pairs,
        "train_pairs": list(train_pairs),
        "write_cost": OPTIONS[option].write_cost,
        "training": training_options(steps),
        "validation": {"seed": VALIDATION_SEED, "sequences": 64},
        # Scores of full attention are piece x length: smaller pieces keep them within a gigabyte.
        "test": {"seed": TEST_SEED, "piece": 256 if is_full_attention(model) else 1024},
        "architecture": with_option(model_configs(SETTINGS[setting].vocab_size)[model], OPTIONS[option]).to_dict(),
    }
    job = Job(job_id(label, setting, model, option), settings)
    recall_batches(task_of(job), lengths, 0, train_pairs, tokens_per_step)
    for entry, seed in [*product(grid, seeds[:1]), *product(grid[:1], seeds)]:
        train_config(settings["training"], entry, seed)
    return job


def is_full_attention(model: str) -> bool:
    """Whether a model, by its name, attends to everything."""
    return model in FULL


def jobs(profile: Profile) -> list[Job]:
    """The independent trainings of a profile.

    Raises:
        ValueError: if the profile is unknown.
    """
    check_profile(profile)
    if profile == "smoke":
        small = {"distances": (16, 64), "lengths": (48,), "steps": 4, "near_sequences": 4, "label": "smoke"}
        return [make_job(model, **small) for model in ("LMM matrix", SLIDING)]
    if profile == "quick":
        small = {"distances": (8, 16, 64, 256, 1024, 4096), "lengths": (32, 64), "steps": 150, "num_pairs": 4}
        small |= {"tokens_per_step": 4096, "grid": ((6e-3, 0.1),), "near_sequences": 16, "label": "quick"}
        return [make_job(model, **small) for model in ("LMM matrix", SLIDING)]
    made = [
        full_job(model, setting, option)
        for option in OPTIONS
        for model in (MODELS if option == "paper" else ["LMM matrix"])
        for setting in SETTINGS
    ]
    return made + [full_job(model, setting, more=True) for model in (*TITANS, SLIDING) for setting in SETTINGS]


def full_job(model: str, setting: str, option: str = "paper", more: bool = False) -> Job:
    """A job of the full profile; with ``more``, one of further seeds, which search the grid for themselves."""
    return make_job(
        model,
        setting,
        option,
        label="more" if more else "",
        seeds=MORE_SEEDS if more else SEEDS,
        grid=GRID,
        train_pairs=(8, 16, 24, 32),
        # Full attention over 65,536 tokens costs as much as all the rest. A window is held against chance.
        near_sequences=12 if is_full_attention(model) else 32,
        far_sequences=4 if is_full_attention(model) else 32 if model == SLIDING else 8,
    )
