"""The constructions of the catalogue, as a card would list them."""

from typing import Any, NamedTuple


class Construction(NamedTuple):
    """Transforms, the first one next to the prior, and how often they are repeated."""

    transforms: tuple[str | dict[str, Any], ...]
    n_repeats: int = 1


def _coupling(line: str | dict[str, Any], n_repeats: int = 4) -> Construction:
    """Couplings of both coordinates by this map."""
    return Construction(({"name": "coupling", "map": line, "context": {"name": "mlp", "hidden": (32, 32)}},), n_repeats)


def _both_orders(name: str, line: str, n_repeats: int) -> Construction:
    """Autoregressive transforms from the first variable on and from the last one on."""
    one = {"name": name, "map": line, "hidden": (32, 32)}
    return Construction((one, {**one, "reverse": True}), n_repeats)


PLANE = {
    "shift": _coupling("shift"),
    "affine": _coupling("affine"),
    "sinh_arcsinh": _coupling("sinh_arcsinh"),
    "spline": _coupling({"name": "spline", "n_bins": 12}, 2),
    "logistics": _coupling({"name": "logistics", "n_components": 8}, 2),
    "monotone": _coupling("monotone", 2),
    "planar": Construction(({"name": "planar", "n_terms": 24},)),
    "sylvester": Construction(({"name": "sylvester", "rank": 2},), 16),
    "glow": Construction(("actnorm", "convolution_1x1", *_coupling("affine").transforms), 4),
    "maf": _both_orders("maf", "affine", 4),
    "iaf": _both_orders("iaf", "affine", 4),
    "naf": _both_orders("maf", "naf", 1),
    "umnn": _both_orders("maf", "umnn", 1),
    "residual": Construction(({"name": "residual", "hidden": (32, 32)},), 4),
    "continuous": Construction(("continuous",)),
}
"""By name, for densities of the plane."""


def _sites(line: str = "affine", n_repeats: int = 3, **context: Any) -> Construction:
    """Checkerboard couplings of all sites."""
    coupling = {"name": "coupling", "map": line, "context": {"name": "stencil", **context}}
    return Construction((coupling,), n_repeats)


def _v_cycle(levels: int, line: str = "spline") -> tuple[str | dict[str, Any], ...]:
    """Couplings of block sums inside couplings of the sites, `levels` blockings deep."""
    coupling = {"name": "coupling", "map": line}
    if levels == 0:
        return (coupling,)
    return (coupling, {"name": "coarse", "transforms": _v_cycle(levels - 1, line)}, coupling)


_DETAILS = {"name": "coupling", "mask": "first_channel", "context": {"name": "stencil", "reach": 1}}

LATTICE = {
    "checkerboard, shift": _sites("shift"),
    "checkerboard, affine": _sites("affine"),
    "checkerboard, sinh-arcsinh": _sites("sinh_arcsinh"),
    "checkerboard, spline": _sites("spline"),
    "checkerboard, logistics": _sites("logistics"),
    "checkerboard, monotone": _sites("monotone"),
    "checkerboard, rotations": _sites("spline", rotations=True),
    "checkerboard, cnn": Construction(({"name": "coupling", "context": "cnn"},), 3),
    "checkerboard, resnet": Construction(({"name": "coupling", "context": "resnet"},), 3),
    "checkerboard, mlp": Construction(({"name": "coupling", "context": {"name": "mlp", "odd": True}},), 3),
    "stripes": Construction(({"name": "coupling", "mask": "stripes"},), 2),
    "hierarchical": Construction(({"name": "coupling", "mask": "hierarchical"},), 2),
    "random masks": Construction(
        ({"name": "coupling", "mask": {"name": "random", "n_halves": 2}, "context": {"name": "mlp", "odd": True}},), 2
    ),
    "V-cycle": Construction(_v_cycle(2)),
    "V-cycle with details": Construction(
        ("coupling", {"name": "blocks", "basis": "sums", "transforms": (_DETAILS, _DETAILS)}, "coupling")
    ),
    "glow": Construction(
        (
            {
                "name": "blocks",
                "transforms": (
                    "actnorm",
                    "convolution_1x1",
                    {"name": "coupling", "mask": "channels", "context": "cnn"},
                ),
            },
        ),
        4,
    ),
    "spectrum and sites": Construction(("spectrum", "elementwise"), 3),
    "planar and sites": Construction(({"name": "planar", "n_terms": 32}, "elementwise")),
    "sylvester and sites": Construction(({"name": "sylvester", "rank": 16}, "elementwise"), 2),
    "maf": Construction(({"name": "maf", "map": "spline", "passes": 4},), 2),
    "iaf": Construction(({"name": "iaf", "map": "spline"}, {"name": "iaf", "map": "spline", "reverse": True})),
    "residual and sites": Construction(({"name": "residual", "odd": True, "log_det": "roulette"}, "elementwise"), 2),
    "continuous": Construction(("continuous_lattice",)),
    "elementwise": Construction(("elementwise",)),
}
"""By name, for phi^4."""
