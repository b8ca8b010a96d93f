"""The z-matrix of a molecule: by which three atoms each atom is placed."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Tree = dict[int, list[int]]
"""The children of each atom."""

FIRST_POINT, SECOND_POINT = -2, -1


class ZMatrix(NamedTuple):
    """Row k places atom `atoms[k]` by its distance from the atom of row `bonded[k]`, the angle there with that of
    `angled[k]`, and the torsion about these two with that of `turned[k]`; (n_atoms,) each.

    Row 0 is the root, which nothing places. Rows 1 and 2 lack some of the three atoms: two points at rest beside the
    root stand for them, row -2 at root + (0, 0, 1) and row -1 at root + (1, 0, 1).

    `proper[k]`: the torsion is one about a bond, which turns all that hangs on it. The others are angles between atoms
    at the same end of a bond, or turn the molecule as a whole (rows 0 to 2). `levels` are slices of the rows, each of
    which depends on rows of the slices before it alone.
    """

    atoms: NDArray[np.int64]
    bonded: NDArray[np.int64]
    angled: NDArray[np.int64]
    turned: NDArray[np.int64]
    proper: NDArray[np.bool_]
    levels: tuple[slice, ...]


def z_matrix(heavy: Sequence[bool], bonds: Sequence[tuple[int, int]]) -> ZMatrix:
    """The z-matrix along the tree of bonds from the middle of a molecule.

    Of the atoms at one end of a bond the first one has the torsion about it, and the others angles to the first. The
    heaviest branch is the first: in a peptide the torsions are phi, psi, omega and the chi of side chains. Of a ring
    the last bond is left out.

    heavy: of each atom, whether it is no hydrogen. bonds: pairs of atoms. Raises ValueError for fewer than three atoms
    and for more than one molecule.
    """
    neighbours = _neighbours(len(heavy), bonds)
    root = _middle(neighbours, heavy)
    parents, children = _tree(neighbours, heavy, root)
    first, second = children[root][:2]
    rows: list[tuple[int, int, int, int, bool]] = [(root, -1, -1, -1, False)]
    depths = {root: 0, FIRST_POINT: 0, SECOND_POINT: 0}
    for atom in _order(root, children)[1:]:
        bonded = parents[atom]
        proper = bonded != root and atom == children[bonded][0]
        if bonded == root:
            angled = FIRST_POINT if atom == first else first
            turned = {first: SECOND_POINT, second: FIRST_POINT}.get(atom, second)
        else:
            angled = parents[bonded]
            behind = parents[angled] if angled != root else (second if bonded == first else first)
            turned = behind if proper else children[bonded][0]
        rows.append((atom, bonded, angled, turned, proper))
        depths[atom] = 1 + max(depths[bonded], depths[angled], depths[turned])
    rows.sort(key=lambda row: depths[row[0]])
    row_of = {row[0]: k for k, row in enumerate(rows)} | {FIRST_POINT: FIRST_POINT, SECOND_POINT: SECOND_POINT}
    ends = np.cumsum(np.bincount([depths[row[0]] for row in rows])).tolist()
    return ZMatrix(
        np.array([row[0] for row in rows]),
        np.array([row_of[row[1]] for row in rows]),
        np.array([row_of[row[2]] for row in rows]),
        np.array([row_of[row[3]] for row in rows]),
        np.array([row[4] for row in rows]),
        tuple(slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)),
    )


def _neighbours(n_atoms: int, bonds: Sequence[tuple[int, int]]) -> list[list[int]]:
    if n_atoms < 3:
        raise ValueError(f"internal coordinates need three atoms or more, got {n_atoms}")
    neighbours: list[list[int]] = [[] for _ in range(n_atoms)]
    for one, other in bonds:
        neighbours[one].append(other)
        neighbours[other].append(one)
    return neighbours


def _middle(neighbours: list[list[int]], heavy: Sequence[bool]) -> int:
    """The atom with two bonds or more that is the fewest bonds away from the farthest one; a heavy one where it can."""
    found = []
    for atom, own in enumerate(neighbours):
        distances = _distances(neighbours, atom)
        if len(distances) < len(neighbours):
            raise ValueError(
                f"internal coordinates need one molecule; of {len(neighbours)} atoms {len(distances)} hang together "
                f"with atom {atom}"
            )
        if len(own) > 1:
            found.append((not heavy[atom], max(distances.values()), -sum(heavy[other] for other in own), atom))
    return min(found)[-1]


def _distances(neighbours: list[list[int]], start: int) -> dict[int, int]:
    """Bonds from `start` to every atom that hangs together with it."""
    found, waiting = {start: 0}, deque([start])
    while waiting:
        atom = waiting.popleft()
        for other in neighbours[atom]:
            if other not in found:
                found[other] = found[atom] + 1
                waiting.append(other)
    return found


def _tree(neighbours: list[list[int]], heavy: Sequence[bool], root: int) -> tuple[dict[int, int], Tree]:
    """The parent of each atom on the shortest way from the root, and the children, the heaviest branch first."""
    parents, order = {root: -1}, [root]
    for atom in order:  # which grows
        for other in neighbours[atom]:
            if other not in parents:
                parents[other] = atom
                order.append(other)
    size = dict.fromkeys(order, 1)  # of the branch
    children: Tree = {atom: [] for atom in order}
    for atom in reversed(order[1:]):
        size[parents[atom]] += size[atom]
        children[parents[atom]].append(atom)
    for own in children.values():
        own.sort(key=lambda atom: (not heavy[atom], -size[atom], atom))
    return parents, children


def _order(root: int, children: Tree) -> list[int]:
    """All atoms, parents before children and the first child before the others."""
    order = [root]
    for atom in order:  # which grows
        order.extend(children[atom])
    return order
