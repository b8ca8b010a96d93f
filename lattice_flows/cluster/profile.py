"""A cluster profile: a TOML file that says what the site's scheduler needs, read and checked before anything runs."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from lattice_flows.card.arguments import checked
from lattice_flows.errors import InputError
from lattice_flows.regular_files import read_text

_TIME = re.compile(r"(?:(\d{1,3})-)?(\d{1,3}):([0-5]\d):([0-5]\d)")
_CLUSTERS = re.compile(r"(?:--clusters?[= ]|-M)\s*(\S+)")
_SHIPPED = Path("runs") / "cluster"
_TABLES = ("train", "sample", "analyse")


def seconds(time: str) -> int:
    """The seconds in "HH:MM:SS" or "D-HH:MM:SS". Raises ValueError for anything else, and for a time of zero."""
    found = _TIME.fullmatch(time)
    days, hours, minutes, rest = (int(part or 0) for part in found.groups()) if found else (0, 0, 0, 0)
    if not (total := 86_400 * days + 3600 * hours + 60 * minutes + rest):
        raise ValueError('must be a time, written "HH:MM:SS" or "D-HH:MM:SS"')
    return total


def _time(text: str) -> str:
    seconds(text)
    return text


def _line(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("must be one line of text")
    return text


SchedulerName = Literal["slurm", "pbs", "local"]
SCHEDULER_NAMES: tuple[str, ...] = get_args(SchedulerName)
Line = Annotated[str, AfterValidator(_line)]
Time = Annotated[str, AfterValidator(_time)]
Count = Annotated[int, Field(ge=1, le=100_000)]
Gigabytes = Annotated[float, Field(ge=0.01, le=1e6)]


class _Table(BaseModel):
    """The resources that every stage asks of the scheduler."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    time: Time = "01:00:00"
    memory_gb: Gigabytes | None = None  # of each node; None: what the site gives
    partition: Line | None = None  # None: that of the profile
    directives: tuple[Line, ...] = ()  # beside those of the profile


class TrainTable(_Table):
    """[train]: one job, of one process on each GPU, or of some processes of some cores each."""

    nodes: Count = 1
    processes_per_node: Count = 1
    gpus_per_node: Annotated[int, Field(ge=0, le=64)] = 0
    cpus_per_process: Count = 1


class SampleTable(_Table):
    """[sample]: an array of jobs for each ensemble."""

    chains_per_task: Count = 4
    array_limit: Count = 50  # tasks at once
    cpus: Count = 1
    gpus: Annotated[int, Field(ge=0, le=64)] = 0  # for ensembles with a flow only


class AnalyseTable(_Table):
    """[analyse]: one job at the end."""

    cpus: Count = 1


class _Site(BaseModel):
    """The keys outside all tables."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    scheduler: SchedulerName
    account: Line | None = None
    partition: Line | None = None
    qos: Line | None = None
    modules: tuple[Line, ...] = ()
    environment: tuple[Line, ...] = ()  # of shell, as they stand
    directives: tuple[Line, ...] = ()  # what follows #SBATCH or #PBS, as it stands
    max_requeues: Annotated[int, Field(ge=0, le=1000)] = 20
    save_seconds: Annotated[int, Field(ge=1, le=3600)] = 120  # from the signal to the time limit


@dataclass(frozen=True)
class Profile:
    """A checked profile; `text` is what it was read from."""

    scheduler: str
    account: str | None
    partition: str | None
    qos: str | None
    modules: tuple[str, ...]
    environment: tuple[str, ...]
    directives: tuple[str, ...]
    max_requeues: int
    save_seconds: int
    train: TrainTable
    sample: SampleTable
    analyse: AnalyseTable
    text: str

    def cluster(self, table: _Table) -> str | None:
        """The cluster of Slurm that the directives of a stage name, as --clusters=NAME or -M NAME; None without one."""
        if self.scheduler != "slurm":
            return None
        named = [found[1] for line in (*self.directives, *table.directives) if (found := _CLUSTERS.match(line))]
        return named[-1] if named else None


def read_profile(path: Path) -> Profile:
    """The profile at `path`. Raises InputError, in one line, for anything that is wrong with it."""
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise InputError(f"--cluster {path}: there is no such profile{shipped()}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise InputError(f"--cluster {path}: {reason}; a cluster profile is a TOML file") from None
    return parse_profile(text, str(path))


def parse_profile(text: str, where: str = "profile") -> Profile:
    """The profile of this TOML text; `where` begins every message."""
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not valid TOML: {error}") from None
    try:
        return _profile(table, text)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _profile(table: dict[str, Any], text: str) -> Profile:
    for key in _TABLES:
        if not isinstance(table.get(key, {}), dict):
            raise InputError(f"[{key}] must be a table, written [{key}]")
    site = checked(_Site, {k: v for k, v in table.items() if k not in _TABLES}, "top level", _TABLES)
    profile = Profile(
        **site,
        train=TrainTable(**checked(TrainTable, table.get("train", {}), "[train]")),
        sample=SampleTable(**checked(SampleTable, table.get("sample", {}), "[sample]")),
        analyse=AnalyseTable(**checked(AnalyseTable, table.get("analyse", {}), "[analyse]")),
        text=text,
    )
    if profile.train.nodes > 1 and profile.scheduler != "slurm":
        raise InputError(f"[train]: nodes = {profile.train.nodes}: more than one needs scheduler = 'slurm'")
    processes, gpus = profile.train.processes_per_node, profile.train.gpus_per_node
    if 0 < gpus < processes:
        raise InputError(
            f"[train]: processes_per_node = {processes}: gpus_per_node = {gpus}: each needs a GPU of its own"
        )
    clusters = {key: profile.cluster(getattr(profile, key)) for key in _TABLES}
    for key, name in clusters.items():
        if name is not None and "," in name:
            raise InputError(f"[{key}]: directives: --clusters={name}: name one, for jobs that depend on each other")
        if name != clusters[_TABLES[0]]:
            raise InputError(
                f"[{key}]: directives: --clusters={name}: [{_TABLES[0]}] has {clusters[_TABLES[0]]}, and Slurm has no "
                "dependencies from one cluster to another; name one for all stages"
            )
    for key in _TABLES:
        if seconds(time := getattr(profile, key).time) <= profile.save_seconds:
            raise InputError(f"[{key}]: time = {time!r}: must be longer than save_seconds = {profile.save_seconds}")
    return profile


def shipped() -> str:
    """The end of a message: the profiles in the checkout, empty if the package does not run from one."""
    profiles = sorted(map(str, _SHIPPED.glob("*.toml")))
    return f"; available: {', '.join(profiles)}" if profiles else ""
