"""Motion between two walls."""

from numba import njit


@njit(forceinline=True)
def reflected(x: float, low: float, high: float) -> tuple[float, float]:
    """x after its reflections by the walls, and the sign of what its momentum becomes: -1 after an odd number of them.

    The arithmetic is that of `lattice.Interval`.
    """
    if low <= x <= high:
        return x, 1.0
    # Distances from the lower wall repeat after twice the length, and run backwards in the second half.
    length = high - low
    distance = (x - low) % (2.0 * length)
    if distance > length:
        return min(max(low + (2.0 * length - distance), low), high), -1.0
    return min(max(low + distance, low), high), 1.0
