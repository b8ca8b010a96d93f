"""Colours of blocks: those of one colour change nothing in common, and are tested at once, each by itself."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

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
    chosen = [np.flatnonzero(colour == k) for k in range(int(colour.max()) + 1)]
    pairs = (blocks, np.arange(len(blocks))), cones.terms, cones.values
    return [
        Colour(own, latents, terms, values, np.searchsorted(terms.by, np.arange(len(own))))
        for own, latents, terms, values in zip(chosen, *(_by_colour(chosen, colour, *both) for both in pairs))
    ]


def _by_colour(chosen: list[Labels], colour: Labels, block: Labels, place: Labels) -> list[Changed]:
    """What each colour's blocks change, from pairs of block and place."""
    order = np.lexsort((block, colour[block]))
    block, place = block[order], place[order]
    ends = np.searchsorted(colour[block], np.arange(len(chosen) + 1))
    parts = [slice(start, end) for start, end in pairwise(ends)]
    return [Changed(place[part], np.searchsorted(own, block[part])) for own, part in zip(chosen, parts)]


def _greedy(cones: Cones, n_blocks: int) -> Labels:
    """The colour of each block: in their order, the first one in which nothing that the block changes is taken."""
    n_values = int(cones.values[1].max()) + 1
    block = np.concatenate([cones.values[0], cones.terms[0]])
    place = np.concatenate([cones.values[1], cones.terms[1] + n_values])
    order = np.argsort(block, kind="stable")
    cone_of = np.split(place[order], np.searchsorted(block[order], np.arange(1, n_blocks)))
    taken = np.zeros((1, int(place.max()) + 1), np.bool_)  # of each colour, and of none yet
    colour = np.empty(n_blocks, np.int64)
    for k, cone in enumerate(cone_of):
        colour[k] = np.argmin(taken[:, cone].any(1))
        if colour[k] == len(taken) - 1:
            taken = np.concatenate([taken, np.zeros_like(taken)[:1]])
        taken[colour[k], cone] = True
    return colour
