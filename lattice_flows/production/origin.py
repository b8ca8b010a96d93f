"""The origin of an ensemble: the root attributes of its file that are not part of the schema, written and read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lattice_flows.card.build import action_of
from lattice_flows.card.samplers import completed_options, options_as_before
from lattice_flows.production.job_array import Task, parse_task
from lattice_flows.production.provenance import git_commit, machine, software
from lattice_flows.theories.catalogue import completed_theory, theory_as_before
from lattice_flows.theories.measurement import Measurement


def origin_attributes(
    name: str,
    theory: Mapping[str, Any],
    sampler: Mapping[str, Any],
    measurements: Sequence[Measurement],
    *,
    weighted: bool = False,
    chains_per_set: int | None = None,
    populations: bool = False,
    seed: int = 0,
    threads: int = 1,
    device: str = "cpu",
    card: str = "",
    overrides: Sequence[str] = (),
    flow_sha256: str = "",
    plugins: Mapping[str, str] | None = None,
    sampler_given: Mapping[str, Any] | None = None,
    start_sha256: str = "",
) -> dict[str, str | int]:
    """The attributes for an ensemble made now, by this version on this machine.

    theory       the [theory] table with its defaults
    sampler      its card name as "name", its arguments as given or tuned, n_updates, start and n_thermalisation
    weighted     whether averages need the series log_w
    chains_per_set  how many consecutive chains form a set, None if they are all alike
    populations  whether a set is a population, and its constant of log_w that of all, see `Sampler.populations`
    card         the text of the card, "" if there is none
    flow_sha256  the checksum of the flow's weights, "" if there is no flow
    plugins      package and version of the code outside of this package, by its name on the card
    sampler_given  the sampler's arguments before tuning, null where the card leaves them open
    start_sha256  the checksum of the file in which the chains began, "" if there is none
    """
    attributes: dict[str, str | int] = {
        "name": name,
        "theory": json.dumps(theory),
        "sampler": json.dumps(sampler),
        "weighted": int(weighted),
        "observables": json.dumps([measurement.as_dict() for measurement in measurements]),
        "seed": seed,
        "threads": threads,
        "software": software(),
        "machine": machine(),
        "device": device,
        "git_commit": git_commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "card": card,
        "overrides": json.dumps(overrides),
        "flow_sha256": flow_sha256,
    }
    if chains_per_set is not None:
        attributes["chains_per_set"] = chains_per_set
    if populations:
        attributes["populations"] = int(populations)
    if plugins:
        attributes["plugins"] = json.dumps(dict(plugins))
    if start_sha256:
        attributes["start_sha256"] = start_sha256
    if sampler_given is not None:
        attributes["sampler_given"] = json.dumps(dict(sampler_given))
    return attributes


@dataclass(frozen=True)
class Origin:
    """The attributes of a file in Python's types.

    A file of another program may lack any of them. Then `sampler`, `observables`, `weighted` and `task` are empty,
    false or None, and the other properties raise KeyError.
    """

    attributes: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The ensemble's name in its card."""
        return str(self.attributes["name"])

    @property
    def theory(self) -> dict[str, Any]:
        """The [theory] table, complete where an older version wrote it."""
        return completed_theory(json.loads(str(self.attributes["theory"])))

    @property
    def sampler(self) -> dict[str, Any]:
        """The sampler's card name and arguments, complete where an older version wrote them."""
        table = json.loads(str(self.attributes.get("sampler", "{}")))
        return completed_options(table.get("name", ""), table)

    @property
    def sampler_as_given(self) -> dict[str, Any]:
        """The sampler's arguments before tuning; as they were tuned where an older version wrote the file."""
        table = json.loads(str(self.attributes.get("sampler_given", self.attributes.get("sampler", "{}"))))
        name, others = self.sampler.get("name", ""), ("name", "n_updates", "start", "n_thermalisation")
        return {key: value for key, value in completed_options(name, table).items() if key not in others}

    @property
    def knows_what_was_given(self) -> bool:
        """Whether the file tells arguments that were given from those that were tuned."""
        return "sampler_given" in self.attributes

    @property
    def weighted(self) -> bool:
        """Whether averages need the series log_w."""
        return bool(self.attributes.get("weighted", 0))

    @property
    def chains_per_set(self) -> int | None:
        """How many consecutive chains form a set, with a constant of log_w of its own unless it is a population; None
        if all chains are alike."""
        return int(self.attributes["chains_per_set"]) if "chains_per_set" in self.attributes else None

    @property
    def populations(self) -> bool:
        """Whether the chains of a set are particles of one population, and their constant of log_w that of all."""
        return bool(self.attributes.get("populations", 0))

    @property
    def n_particles(self) -> int:
        """How many consecutive chains are the particles of one population; 1 if chains are independent."""
        return (self.chains_per_set or 1) if self.populations else 1

    @property
    def observables(self) -> list[dict[str, Any]]:
        """The [[observable]] tables of the measurements."""
        return json.loads(str(self.attributes.get("observables", "[]")))

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """The measurements of these tables."""
        action = action_of(self.theory)
        return tuple(Measurement.from_dict(table, action) for table in self.observables)

    @property
    def threads(self) -> int:
        """The number of threads in use."""
        return int(self.attributes["threads"])

    @property
    def card(self) -> str:
        """The card, verbatim; "" for an imported ensemble."""
        return str(self.attributes["card"])

    @property
    def overrides(self) -> list[str]:
        """The --set options that go with the card."""
        return json.loads(str(self.attributes["overrides"]))

    @property
    def plugins(self) -> dict[str, str]:
        """Package and version, or digest, of the code outside of this package, by its name on the card."""
        return json.loads(str(self.attributes.get("plugins", "{}")))

    @property
    def task(self) -> Task | None:
        """The task of the job array that made the file, or None."""
        return parse_task(str(self.attributes["task"])) if "task" in self.attributes else None


def text_as_before(attributes: Mapping[str, Any], key: str) -> str:
    """An attribute as an older version wrote it, where it means the same: to compare files, and to name what is random.

    What came later may stand in `theory` and `sampler`.
    """
    text = str(attributes.get(key))
    if key in attributes and key == "theory":
        return json.dumps(theory_as_before(json.loads(text)))
    if key in attributes and key == "sampler":
        table = json.loads(text)
        return json.dumps(options_as_before(table.get("name", ""), table))
    return text
