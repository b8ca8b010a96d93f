"""Sums of Wilson loops of 2D U(1) and the expansion of the trivializing flow in them.

A loop is a pattern of whole numbers n(p) on plaquettes of the infinite plane, W_n = sum over translations of
cos(sum_p n(p) P(p)): n = 1 on a patch is the loop around it, a 2 goes around twice. Whatever is gauge invariant and
even is a sum of them, and each is an eigenfunction of L_0 = -sum_links d^2 / d theta^2.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import product

Loop = tuple[tuple[int, int, int], ...]
"""(x0, x1, n) of its plaquettes in order, the first one at (0, 0) with n > 0."""

LoopSum = dict[Loop, float]
"""sum of coefficient * W, constants left out."""

PLAQUETTE: Loop = ((0, 0, 1),)
RECTANGLES: tuple[Loop, Loop] = (((0, 0, 1), (1, 0, 1)), ((0, 0, 1), (0, 1, 1)))

_Sites = Mapping[tuple[int, int], int]


def loop_of(charges: _Sites) -> Loop:
    """The loop with n = charges[x0, x1], which is that of all translations and of -n; () where all are zero."""
    held = sorted((site, n) for site, n in charges.items() if n)
    if not held:
        return ()
    (first0, first1), n_first = held[0]
    sign = 1 if n_first > 0 else -1
    return tuple((x0 - first0, x1 - first1, sign * n) for (x0, x1), n in held)


def link_charges(loop: Loop) -> dict[tuple[int, int, int], int]:
    """How often the loop runs through the link theta_mu(x), by (mu, x0, x1); those of zero are left out."""
    charges: Counter[tuple[int, int, int]] = Counter()
    for x0, x1, n in loop:  # P = theta_0(x) + theta_1(x + 0) - theta_0(x + 1) - theta_1(x)
        for link, sign in (((0, x0, x1), 1), ((1, x0 + 1, x1), 1), ((0, x0, x1 + 1), -1), ((1, x0, x1), -1)):
            charges[link] += sign * n
    return {link: n for link, n in charges.items() if n}


def eigenvalue(loop: Loop) -> int:
    """Of L_0: the sum of the squared charges of its links."""
    return sum(n * n for n in link_charges(loop).values())


def gradient_product(a: LoopSum, b: LoopSum) -> LoopSum:
    """(da, db) = sum_links da/dtheta db/dtheta, but for a constant.

    From sin A sin B = [cos(A - B) - cos(A + B)] / 2 for each relative position of two loops, weighted by the product of
    the charges of their links, summed.
    """
    total: defaultdict[Loop, float] = defaultdict(float)
    for (one, of_one), (other, of_other) in product(a.items(), b.items()):
        for offset, overlap in _overlaps(one, other).items():
            for sign in (1, -1):
                total[_together(one, other, offset, sign)] -= 0.5 * sign * overlap * of_one * of_other
    return {loop: value for loop, value in total.items() if loop and value}


def inverse_laplacian(of: LoopSum) -> LoopSum:
    """L_0^-1, which divides by eigenvalues."""
    return {loop: value / eigenvalue(loop) for loop, value in of.items()}


def luescher_series(action: LoopSum, n_orders: int) -> list[LoopSum]:
    """S~(0), S~(1), ... of arXiv:0907.5491, eqs. (4.8) to (4.12): the flow theta' = -d S~_t / d theta with
    S~_t = sum_k t^k S~(k) carries the Haar measure at t = 0 to exp(-S) at t = 1, up to the orders left out.

    exp(-t S) stays the density along it where L_0 S~_t + t (dS, dS~_t) = S + constant, power by power of t.
    """
    orders = [inverse_laplacian(action)]
    for _ in range(n_orders - 1):
        product_of_both = gradient_product(action, orders[-1])
        orders.append(inverse_laplacian({loop: -value for loop, value in product_of_both.items()}))
    return orders


def loops_of_area(area: int) -> set[Loop]:
    """All loops that products of up to `area` plaquettes bring about in the series of the Wilson action."""
    found = new = {PLAQUETTE}
    for _ in range(area - 1):
        new = {more for loop in new for more in gradient_product({loop: 1.0}, {PLAQUETTE: 1.0})}
        found = found | new
    return found


def orbit(loop: Loop) -> tuple[Loop, ...]:
    """The loops that rotations and reflections make of it, in order."""
    found = set()
    for s0, s1, swap in product((1, -1), (1, -1), (False, True)):
        moved = {(s0 * x0, s1 * x1): n for x0, x1, n in loop}
        found.add(loop_of({(x1, x0): n for (x0, x1), n in moved.items()} if swap else moved))
    return tuple(sorted(found))


def orbits(loops: Iterable[Loop]) -> list[tuple[Loop, ...]]:
    """Those of all loops, each once: small loops first."""
    found = {orbit(loop) for loop in loops}
    return sorted(found, key=lambda one: (sum(abs(n) for *_, n in one[0]), eigenvalue(one[0]), one))


def _overlaps(a: Loop, b: Loop) -> dict[tuple[int, int], int]:
    """sum_links of the products of the charges of a, and of b moved by (s0, s1); those of zero are left out."""
    overlaps: Counter[tuple[int, int]] = Counter()
    for (mu, x0, x1), n in link_charges(a).items():
        for (nu, y0, y1), m in link_charges(b).items():
            if mu == nu:
                overlaps[x0 - y0, x1 - y1] += n * m
    return {offset: value for offset, value in overlaps.items() if value}


def _together(a: Loop, b: Loop, offset: tuple[int, int], sign: int) -> Loop:
    """a + sign * (b moved by the offset)."""
    charges = Counter({(x0, x1): n for x0, x1, n in a})
    for x0, x1, n in b:
        charges[x0 + offset[0], x1 + offset[1]] += sign * n
    return loop_of(charges)
