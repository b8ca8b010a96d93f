"""Option values at their edges: every key of every theory, flow, sampler, objective and observable of a card.

Each card is read as `run` reads it, in this process: it is accepted, or refused by InputError in one short line.
"""

import inspect
import random
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

import torch
from cases import MOLECULE

from lattice_flows.card.card import Card, parse_card
from lattice_flows.card.memory import require_memory_for_chains, require_memory_for_training
from lattice_flows.errors import InputError
from lattice_flows.exit_status import exit_status
from lattice_flows.flows import CIRCLE_MAPS, FLOWS, LINE_MAPS, TRANSFORMS
from lattice_flows.samplers import SAMPLERS
from lattice_flows.theories import THEORIES
from lattice_flows.theories.measurement import observables_of
from lattice_flows.training import OBJECTIVES, TrainingSettings

NUMBERS = ["0", "-1", "1", "2", "3", "1000", "1000000", "1000000000", "1000000000000", "0.0", "-0.0", "0.5", "1.5"]
NUMBERS += [
    "1e-308",
    "5e-324",
    "1e-6",
    "1e6",
    "1e300",
    "1e308",
    "-1e308",
    "inf",
    "-inf",
    "nan",
    f"1{30 * '0'}",
    f"1{400 * '0'}",
]
OTHERS = ["true", '""', '"x"', '"hmc"', f'"{5000 * "x"}"', '"[bold]$x_{"', '"\\u0000"', '"\\u001b[31m"', '"../x.h5"']
OTHERS += ['"a\\nb"', "[]", "[0]", "[1]", "[-1]", "[1, 1]", "[1.5, 2.5]", "[nan, inf]", "[1e308, -1e308]", "[[1]]"]
OTHERS += [f"[{3000 * '1, '}1]", "{}", "{name = 3}", '{name = "spline", n_bins = -1}', "1979-05-27", "["]
OTHERS += [40 * "[" + 40 * "]"]
EDGES = (*NUMBERS, *OTHERS)

LIMIT, SLOW, LONGEST = 20, 5.0, 600  # seconds until it counts as hanging, and as slow; characters of a message

_COUPLINGS = {
    "u1": "beta = 1.5",
    "u1_improved": "beta = 1.5\nc1 = -0.1",
    "phi4": "m2 = 1.0\nlam = 1.0",
    "phi4_hopping": "kappa = 0.2\nlam = 0.1",
    "ising": "beta = 0.3",
    "xy": "beta = 0.8",
    "xy_villain": "beta = 0.8",
    "openmm_system": "topology = '{}'\npositions = '{}'".format(*MOLECULE),
    "peptide": "sequence = 'A'",
}
_FLOWS = {
    "plaquette_coupling": ("u1", "n_layers = 2", CIRCLE_MAPS),
    "hybrid": ("u1", "n_layers = 2", CIRCLE_MAPS),
    "multiscale": ("u1", "", None),
    "direct_draws": ("u1", "couplings = {beta = 1.0}", None),
    "checkerboard_coupling": ("phi4", "n_layers = 2", LINE_MAPS),
    "vector_coupling": ("double_well", "n_layers = 2", LINE_MAPS),
    "internal_coupling": ("alanine_dipeptide", "n_layers = 2", LINE_MAPS),
    "gradient_flow": ("u1", "area = 1", None),
    "fourier_scaling": ("phi4", "n_knots = 2", None),
    "composed": ("phi4", "transforms = ['coupling']", None),
    "symmetrised": ("phi4", "transforms = ['coupling']\nsymmetries = ['sign']", None),
    "plaquette_map": ("u1", "n_bins = 4", None),
    "stochastic_flow": ("u1", "initial = {beta = 0.5}\nlayers = [{sampler = 'heatbath'}]", None),
}
_FLOW_OF = {"u1": "plaquette_coupling", "phi4": "checkerboard_coupling", "double_well": "vector_coupling", "ising": ""}
_FLOW_FOR = {"localised_flow": "multiscale", "flow_smc": "stochastic_flow"}  # which refuse other flows of u1
_NEEDED = {
    "mixture": "parts = [{sampler = 'hmc'}]",
    "tempering": "last = 0.5\nreplica = {sampler = 'hmc'}",
    "umbrella": "n_windows = 2\nq_max = 1.0",
    "replica_exchange": "parts = [{sampler = 'hmc'}, {sampler = 'hmc'}]",
    "metadynamics": "q_max = 1.0",
    "annealed": "initial = {beta = 0.5}\nkernel = {sampler = 'heatbath'}",
    "smc": "initial = {beta = 0.5}\nkernel = {sampler = 'heatbath'}\nn_particles = 2",
    "flow_smc": "n_particles = 2",
}
_GIVEN = {"action", "flow", "rungs", "device", "shape"}  # arguments that no card gives
_COMMON = ["n_chains", "n_configs", "n_updates", "n_thermalisation", "start", "store_fields", "compression", "name"]
_SHAPES = ("[4096, 4096]", "[2]", "[2, 2, 2, 2, 2, 2, 2, 2, 2]", "[4097, 2]", "[true, 2]", "[4.0, 4]", "[2, -2]")
assert _FLOWS.keys() == set(FLOWS), f"no card with {set(FLOWS) ^ _FLOWS.keys()}"


@dataclass(frozen=True)
class Attempt:
    """A card, and an override at an edge."""

    what: str
    card: str
    override: str

    @property
    def label(self) -> str:
        return f"{self.what}: --set {self.override[:100]}"


def attempts(rng: random.Random) -> list[Attempt]:
    """All of them, in random order."""
    found = [
        Attempt(what, card, key.replace("EDGE", edge) if "EDGE" in key else f"{key}={edge}")
        for what, card, key in _keys()
        for edge in EDGES
    ]
    found += [
        Attempt(f"theory {name}", card_of(name, sampler="hmc"), f"theory.shape={shape}")
        for name in THEORIES
        for shape in _SHAPES
    ]
    rng.shuffle(found)
    return found


def card_of(
    theory: str, flow: str = "", training: str = "max_steps = 2", sampler: str = "", observable: str = ""
) -> str:
    """A toy card."""
    shape = "shape = [4, 4]" if 0 not in THEORIES[theory].dimensions else ""
    text = f'[theory]\nname = "{theory}"\n{shape}\n{_COUPLINGS.get(theory, "")}\n'
    if flow:
        text += f'[flow]\nname = "{flow}"\n{_FLOWS[flow][1]}\n[training]\n{training}\n'
    if sampler:
        text += f'[[ensemble]]\nname = "e"\nsampler = "{sampler}"\nn_chains = 2\nn_configs = 2\nn_thermalisation = 2\n'
        text += _NEEDED.get(sampler, "") + "\n"
    if observable:
        text += f'[[observable]]\nname = "{observable}"\n'
    return text


def _keys() -> Iterator[tuple[str, str, str]]:
    """What it is a key of, a card, and the key, or a value with EDGE in it."""
    for key in ("seed", "device", "unknown", "theory", "flow", "training", "ensemble", "observable"):
        yield "card", card_of("u1", sampler="hmc"), key
    for name in THEORIES:
        yield from _keys_of_theory(name)
    for sampler in SAMPLERS:
        keys = [key for key in inspect.signature(SAMPLERS[sampler]).parameters if key not in _GIVEN]
        for theory, flow in _FLOW_OF.items():
            own = _FLOW_FOR.get(sampler, flow) if theory == "u1" else flow
            card = card_of(theory, own, sampler=sampler)
            for key in [*keys, *(_COMMON if theory == "u1" else [])]:
                yield f"sampler {sampler} of {theory}", card, f"ensemble.e.{key}"
    for flow, (theory, _, maps) in _FLOWS.items():
        for key in [key for key in inspect.signature(FLOWS[flow]).parameters if key not in _GIVEN]:
            yield f"flow {flow}", card_of(theory, flow), f"flow.{key}"
        for name in maps.maps if maps else ():
            for option in inspect.signature(maps.maps[name]).parameters:
                if option not in maps.given:
                    override = f"flow.transform={{name = '{name}', {option} = EDGE}}"
                    yield f"flow {flow}", card_of(theory, flow), override
    for name in TRANSFORMS.maps:
        options = inspect.signature(TRANSFORMS.maps[name]).parameters
        for option in options:
            inner = "transforms = ['coupling'], " if "transforms" in options and option != "transforms" else ""
            override = f"flow.transforms=[{{name = '{name}', {inner}{option} = EDGE}}]"
            for theory in ("phi4", "double_well", "xy"):
                yield f"transform {name} of {theory}", card_of(theory, "composed"), override
    for objective in OBJECTIVES:
        data = "\ndata = 'direct'" if objective in ("forward_kl", "mixture", "log_variance") else ""
        card = card_of("u1", "plaquette_coupling", f"max_steps = 2\nobjective = '{objective}'{data}")
        for key in inspect.signature(TrainingSettings).parameters:
            yield f"training by {objective}", card, f"training.{key}"


def _keys_of_theory(name: str) -> Iterator[tuple[str, str, str]]:
    for key in [*inspect.signature(THEORIES[name]).parameters, "shape", "boundary", "name"]:
        yield f"theory {name}", card_of(name, sampler="hmc"), f"theory.{key}"
    named = observables_of(parse_card(card_of(name)).theory.action)
    for observable, constructor in named.items():
        for key in [*inspect.signature(constructor).parameters, "every", "flow_time", "name"]:
            if key not in _GIVEN:
                card = card_of(name, sampler="hmc", observable=observable)
                yield f"observable {observable} of {name}", card, f"observable.{observable}.{key}"


def read(attempt: Attempt) -> Card:
    """The card, as far as it is looked at before anything is made. Raises InputError."""
    card = parse_card(attempt.card, [attempt.override])
    if card.flow is not None:
        require_memory_for_training(card, torch.device("cpu"))
    for table in card.ensembles:
        require_memory_for_chains(card, table, table.n_chains)
    return card


def tried(call: Callable[[], object]) -> tuple[str, tuple[str, str] | None]:
    """How the call ended, and the kind of fault and its words, if that is one."""

    def too_long(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    before, begun = signal.signal(signal.SIGALRM, too_long), time.monotonic()
    signal.alarm(LIMIT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            end, fault = _end_of(call)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    if fault is None and (seconds := time.monotonic() - begun) > SLOW:
        fault = ("slow", f"{seconds:.1f} s")
    return end, fault


def _end_of(call: Callable[[], object]) -> tuple[str, tuple[str, str] | None]:
    try:
        call()
    except InputError as error:
        text = str(error)
        if len(text.splitlines()) != 1 or len(text) > LONGEST:
            return "refused (2)", ("complaint", f"{len(text)} characters: {text[:200]!r}")
        return "refused (2)", None
    except TimeoutError:
        return "hang", ("hang", f"more than {LIMIT} s")
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        try:
            status, text = exit_status(error)
        except Exception:
            told = f"{type(error).__name__}: {str(error)[:200]!r} at {place.filename}:{place.lineno}"
            return "traceback", ("traceback", told)
        return ("refused (2)", None) if status == 2 else ("failed (1)", None)
    return "accepted", None
