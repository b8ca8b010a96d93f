"""Trainings and samplers ask of a flow no more than it offers."""

from dataclasses import replace

from lattice_flows.errors import InputError
from lattice_flows.flows import FlowPlan, abilities
from lattice_flows.samplers import Sampler
from lattice_flows.training import OBJECTIVES, TrainingSettings, needs_of


def check_training(settings: TrainingSettings, name: str, plan: FlowPlan) -> None:
    """Raise InputError if the training asks for what the flow of this card name does not offer."""
    offers = abilities(plan)
    if missing := sorted(needs_of(settings) - offers):
        able = [one for one in OBJECTIVES if needs_of(replace(settings, objective=one, data="direct")) <= offers]
        raise InputError(
            f"[training]: objective = {settings.objective!r} needs the {' and the '.join(missing)} of the flow, which "
            f"{name} does not have; use one of {', '.join(able)}"
        )
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
                "not have"
            )
