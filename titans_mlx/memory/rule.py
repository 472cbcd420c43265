"""The rule of a configuration, as equations for people."""

from titans_mlx.config import MemoryConfig
from titans_mlx.memory.recipes import RECIPES, choices


def known_name(config: MemoryConfig) -> str | None:
    """The recipe with the same four choices, as :func:`titans_mlx.memory.recipes.choices` tells them apart; or None."""
    for name, recipe in RECIPES.items():
        if choices(recipe.make()) == choices(config):
            return name
    return None


def equations(config: MemoryConfig) -> list[str]:
    """The rule in LaTeX, an equation each: what is read, the loss, its gradient, the momentum, the weights.

    ``M`` is the memory with weights ``W``; ``t'`` the start of a token's chunk; ``theta, eta, alpha`` the gates.
    """
    written = r"S_t" if config.momentum == "learned" or config.orthogonal_writes else r"- " + _step(config)
    lines = [_structure(config), _objective(config), _gradient(config)]
    if written == "S_t":
        carried = r"\eta_t\, S_{t-1} - " if config.momentum == "learned" else "- "
        lines.append(rf"S_t = {carried}{_step(config)}")
    if config.orthogonal_writes:
        written = r"\theta_t\, \mathrm{NS}_5(S_t)"
    held = {"l2": "W", "lq": "A", "kl": "Z"}[config.retention]
    plus = written if written.startswith("-") else f"+ {written}"
    lines.append(rf"{held}_t = {_kept(config, held)} {plus}")
    if config.retention == "lq":
        power = f"{config.retention_power:g}"
        lines.append(rf"W_t = A_t / \lVert A_t \rVert_{{{power}}}^{{{config.retention_power - 2:g}}}")
    if config.retention == "kl":
        lines.append(r"W_t = d\, \mathrm{softmax}(Z_t)")
    return lines + _further(config)


def _structure(config: MemoryConfig) -> str:
    inside = "x"
    for layer in range(1, config.depth):
        inside = rf"\sigma(W^{{{layer}}} {inside})"
    inside = f"W^{{{config.depth}}} {inside}" if config.depth > 1 else "W x"
    inside = rf"\mathrm{{LN}}({inside})" if config.norm else inside
    read = r"M_t(\phi(q_t))" if config.key_degree == 2 else "M_t(q_t)"
    return rf"y_t = {read}, \quad M(x) = {'x + ' if config.residual else ''}{inside}"


def _objective(config: MemoryConfig) -> str:
    error = r"M(k_i) - v_i"
    loss = {
        "dot": r"-\langle M(k_i), v_i \rangle",
        "l2": rf"\lVert {error} \rVert^2",
        "lp": rf"\lVert {error} \rVert_{{{config.loss_power:g}}}^{{{config.loss_power:g}}}",
        "huber": rf"\mathrm{{Huber}}_{{\delta_i}}(\lVert {error} \rVert)",
    }.get(config.objective, rf"\text{{{config.objective}}}(M(k_i), v_i)")
    return rf"\ell_i = {loss}"


def _gradient(config: MemoryConfig) -> str:
    at = r"W_{t-1}" if config.update == "online" or config.chunk_size == 1 else r"W_{t'}"
    if config.decay_first and config.decay != "none":
        at = _kept(config, "W")
    at = r"W_t" if config.implicit_step else at
    losses = r"\ell_t"
    if config.omega > 1:
        losses = rf"\left(\ell_t + \textstyle\sum_{{i=t-{config.omega - 1}}}^{{t-1}} \gamma_i \ell_i\right)"
    return rf"u_t = \nabla {losses} \text{{ at }} {at}"


def _step(config: MemoryConfig) -> str:
    fixed = config.step_size == "fixed"
    step = ("" if config.max_step == 1 else rf"{config.max_step:g}\,") if fixed else r"\theta_t"
    shrunk = r" (1 - \eta_t)\," if config.normalized_step else ""
    return f"{step}{shrunk} u_t".strip()


def _kept(config: MemoryConfig, held: str) -> str:
    before = f"{held}_{{t-1}}"
    if config.decay == "none":
        return before
    alpha = r"\alpha" if config.decay == "fixed" else r"\alpha_t"
    zero = f"{held}_0" if config.decay_to == "birth" else ""
    before = f"({before} - {zero})" if zero else before
    kept = {
        "head": rf"(1 - {alpha}) {before}",
        "row": rf"\mathrm{{diag}}(1 - {alpha})\, {before}",
        "column": rf"{before}\, \mathrm{{diag}}(1 - {alpha})",
    }[config.decay_per]
    return f"{zero} + {kept}" if zero else kept


def _further(config: MemoryConfig) -> list[str]:
    lines = []
    if config.write_bound is not None:
        bounded = r"u_t" if config.omega == 1 else r"\nabla \ell_i"
        lines.append(rf"\lVert {bounded} \rVert \le {config.write_bound:g} \text{{ per layer, by scaling}}")
    if config.key_degree == 2:
        lines.append(r"\phi(x) = (x,\; \text{all } x_i x_j) / \sqrt 2 \text{ for keys and queries}")
    if config.reset_every:
        lines.append(rf"W_t, S_t \text{{ as at birth again after every {config.reset_every} tokens}}")
    return lines
