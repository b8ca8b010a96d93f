"""Colours of blocks: those of one colour change nothing in common, and are tested at once, each by itself."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lattice_flows.flows.latent_terms import Cones, Labels


class Changed(NamedTuple):
    """Variables that any block of a colour changes: their places, and which of the colour's blocks changes each, in
    the order of the blocks."""

    places: Labels
    by: Labels


class Colour(NamedTuple):
    """The numbers of some blocks (n,), and the latents, terms and values that they change.

    The terms of each begin at `starts` (n,).
    """

    blocks: Labels
    latents: Changed
    terms: Changed
    values: Changed
    starts: Labels


def colours_of(blocks: Labels, cones: Cones) -> list[Colour]:
    """Few colours for all blocks; blocks (n_latents,) are the numbers of the latents' blocks."""
    colour = _greedy(cones, int(blocks.max()) + 1)
    return [_colour(np.flatnonzero(colour == k), blocks, cones) for k in range(int(colour.max()) + 1)]


def _colour(chosen: Labels, blocks: Labels, cones: Cones) -> Colour:
    latents, terms, values = (
        _changed(chosen, *pairs) for pairs in ((blocks, np.arange(len(blocks))), cones.terms, cones.values)
    )
    return Colour(chosen, latents, terms, values, np.searchsorted(terms.by, np.arange(len(chosen))))


def _changed(chosen: Labels, block: Labels, place: Labels) -> Changed:
    """The places that the chosen blocks change, from pairs of block and place."""
    mine = np.isin(block, chosen)
    by = np.searchsorted(chosen, block[mine])
    order = np.argsort(by, kind="stable")
    return Changed(place[mine][order], by[order])


def _greedy(cones: Cones, n_blocks: int) -> Labels:
    """The colour of each block: a colour takes every block, in their order, that is apart from those it has."""
    n_terms = cones.terms[1].max() + 1
    block = np.concatenate([cones.terms[0], cones.values[0]])
    place = np.concatenate([cones.terms[1], cones.values[1] + n_terms])
    colour = np.full(n_blocks, -1)
    for k in range(n_blocks):
        left = colour[block] < 0
        block, place = block[left], place[left]
        if not len(block):
            break
        colour[_apart(block, place, colour < 0)] = k
    return colour


def _apart(block: Labels, place: Labels, candidate: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which candidates a colour takes: in each round those that come first at all of their places."""
    taken, candidate = np.zeros_like(candidate), candidate.copy()
    while candidate.any():
        mine = candidate[block]
        block, place = block[mine], place[mine]
        first = np.full(place.max() + 1, len(candidate))
        np.minimum.at(first, place, block)
        wait = np.zeros_like(candidate)
        wait[block[first[place] < block]] = True
        now = candidate & ~wait
        taken |= now
        occupied = np.zeros(len(first), np.bool_)
        occupied[place[now[block]]] = True
        candidate &= ~now
        candidate[block[occupied[place]]] = False
    return taken
