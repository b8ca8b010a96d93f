"""The joiners: run card -> train, generate, analyse, report."""

from lattice_flows.workflows.analyse import analyse_files, analyse_run
from lattice_flows.workflows.card import Card, parse_card, read_card
from lattice_flows.workflows.errors import InputError
from lattice_flows.workflows.interrupt import Stopped
from lattice_flows.workflows.run import run

__all__ = ["Card", "InputError", "Stopped", "analyse_files", "analyse_run", "parse_card", "read_card", "run"]
