"""Short names of observables for the terminal, a page and a figure."""

import re
from typing import NamedTuple


class Label(NamedTuple):
    """The short name of an observable in three notations."""

    plain: str
    page: str
    tex: str


_LABELS = {
    "topological_charge": Label("Q", "Q", r"$Q$"),
    "topological_charge_squared": Label("Q^2", "Q²", r"$Q^2$"),
    "topological_susceptibility": Label("chi_top", "χ_top", r"$\chi_\mathrm{top}$"),
    "topological_b2": Label("b2", "b₂", r"$b_2$"),
    "magnetisation": Label("M", "M", r"$M$"),
    "abs_magnetisation": Label("|M|", "|M|", r"$|M|$"),
    "susceptibility": Label("chi", "χ", r"$\chi$"),
    "connected_susceptibility": Label("chi_c", "χ_c", r"$\chi_\mathrm{c}$"),
    "binder_cumulant": Label("U", "U", r"$U$"),
    "energy": Label("E", "E", r"$E$"),
    "lowest_mode_squared": Label("F", "F", r"$F$"),
    "second_moment_correlation_length": Label("xi", "ξ", r"$\xi$"),
}


# Names with numbers in them, and their labels with these numbers in place of {0}, {1}.
_PATTERNS = {
    r"wilson_loop_(\d+)x(\d+)": Label("W({0}x{1})", "W({0}×{1})", r"$W_{{{0}\times{1}}}$"),
    r"creutz_ratio_(\d+)x(\d+)": Label("Creutz({0}x{1})", "Creutz({0}×{1})", r"$\chi_{{{0}\times{1}}}$"),
    r"polyakov_correlator_(\d+)_(\d+)": Label("P_{0}({1})", "P_{0}({1})", r"$P_{0}({1})$"),
    r"polyakov_loop_(\d)": Label("Re L_{0}", "Re L_{0}", r"$\mathrm{{Re}}\,L_{0}$"),
    r"polyakov_modulus_(\d)": Label("|L_{0}|", "|L_{0}|", r"$|L_{0}|$"),
    r"polyakov_modulus_squared_(\d)": Label("|L_{0}|^2", "|L_{0}|²", r"$|L_{0}|^2$"),
    r"two_point_(\d+)": Label("C({0})", "C({0})", r"$C({0})$"),
    r"effective_mass_(\d+)": Label("m_eff({0})", "m_eff({0})", r"$m_\mathrm{{eff}}({0})$"),
}
_FLOWED = re.compile(r"(.*)_t([0-9.e+-]+)")


def label(observable: str) -> Label:
    """The short names of an observable, or its own name if it has none."""
    if observable in _LABELS:
        return _LABELS[observable]
    for pattern, found in _PATTERNS.items():
        if numbers := re.fullmatch(pattern, observable):
            return Label(*(text.format(*numbers.groups()) for text in found))
    if flowed := _FLOWED.fullmatch(observable):
        unflowed, time = label(flowed[1]), flowed[2]
        return Label(f"{unflowed.plain} (t={time})", f"{unflowed.page} (t = {time})", f"{unflowed.tex} ($t = {time}$)")
    return Label(observable, observable, observable.replace("_", " "))
