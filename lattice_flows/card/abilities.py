"""Trainings and samplers ask of a flow no more than it offers."""

from collections.abc import Mapping
from dataclasses import replace

from lattice_flows.errors import InputError
from lattice_flows.flows import Ability, ComposedFlow, FlowPlan, SymmetrisedFlow, abilities
from lattice_flows.samplers import Sampler
from lattice_flows.training import OBJECTIVES, TrainingSettings, needs_of

_ABLE: Mapping[Ability, str] = {"layers": "stochastic_flow", "regions": "multiscale"}  # the one flow that offers it


def check_training(settings: TrainingSettings, name: str, plan: FlowPlan) -> None:
    """Raise InputError if the training asks for what the flow of this card name does not offer."""
    offers = abilities(plan)
    if missing := sorted(needs_of(settings) - offers):
        plain = replace(settings, data="direct", anneal=0.0, latent_moves=0)
        able = [one for one in OBJECTIVES if needs_of(replace(plain, objective=one)) <= offers]
        raise InputError(
            f"[training]: objective = {settings.objective!r} needs the {' and the '.join(missing)} of the flow, which "
            f"{name} does not have{_because(plan, missing)}; use one of {', '.join(able)}"
        )
    asked: dict[str, Ability | None] = {
        "latent_moves": "inverse" if settings.latent_moves > 0 else None,
        "reaction_coordinate": None if settings.reaction_coordinate is None else "gradient",
    }
    for key, ability in asked.items():
        if ability is not None and ability not in offers:
            because = _because(plan, [ability])
            raise InputError(f"[training]: {key} needs the {ability} of the flow, which {name} does not have{because}")
    if settings.precision is not None and settings.precision not in plan.precisions:
        raise InputError(
            f"[training]: precision = {settings.precision!r}: {name} is trained in {' or '.join(plan.precisions)}"
        )


def check_sampler(sampler: Sampler, name: str, plan: FlowPlan, where: str) -> None:
    """Raise InputError if the sampler, or one inside it, asks for what the flow of this card name does not offer."""
    for one in sampler.walk():
        if missing := sorted(one.needs - abilities(plan)):
            raise InputError(
                f"{where}: {type(one).__name__} needs the {' and the '.join(missing)} of the flow, which {name} does "
                f"not have{_because(plan, missing)}{_instead(missing)}"
            )


def _because(plan: FlowPlan, missing: list[Ability]) -> str:
    """Which of the transforms of a composed flow are to blame."""
    composed = plan.flow if isinstance(plan, SymmetrisedFlow) else plan
    places = composed.lacking(missing) if isinstance(composed, ComposedFlow) else []
    return f", because of {', '.join(places)}" if places else ""


def _instead(missing: list[Ability]) -> str:
    """What to take, where there is one flow that has what is missing."""
    able = [_ABLE[ability] for ability in missing if ability in _ABLE]
    return f"; use {able[0]}" if able else ""
