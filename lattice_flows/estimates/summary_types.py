"""The types of summary.json, key by key.

Numbers are in lattice units. "float | None" is null in the file where the number is undefined (not-a-number, infinite,
not known); before the file is written, the value itself may be there. Keys that are NotRequired exist only if there is
something to say. Files of older versions may lack further keys: scripts that read them should use `.get`.
"""

from typing import Any, Literal, NotRequired, TypedDict

Theory = dict[str, Any]
"""A [theory] table with its defaults: name, shape, boundary and the couplings, whose names depend on the theory."""

Settings = dict[str, Any]
"""A sampler's card name, and its arguments under their own names."""


class ValueWithError(TypedDict):
    """A figure and its standard deviation."""

    value: float | None
    error: float | None


class ObservableRow(TypedDict):
    """The estimate of one quantity."""

    value: float | None
    error: float | None  # one standard deviation, autocorrelation included
    tau_int: (
        float | None
    )  # in stored configurations, 1/2 where they are independent; N / (2 n_eff) of weighted averages
    tau_int_error: float | None
    window: int  # stored configurations that tau_int is summed over
    n_eff: float | None  # independent configurations of all chains; of weighted estimates variance / error^2
    r_hat: float | None  # agreement of the chains; null for a single one
    exact: float | None  # the closed form
    pull: float | None  # (value - exact) / error
    trusted: bool  # whether the error means what it says; the warnings tell why it does not
    label: NotRequired[dict[str, str]]  # its short name: plain, on a page, and in TeX


Observables = dict[str, ObservableRow]
"""Rows by the quantity's name."""


class Reliable(TypedDict):
    """What weights can carry: enough effective samples, and a tail light enough for errors."""

    log_z_reliable: bool  # an average and log Z, with their errors; else log Z is at least what is shown
    ess_reliable: bool  # an ESS with its error; else it is at most what is shown
    reliable: bool  # both


class Weights(Reliable):
    """Quality figures of the weights w = exp(log_w) of independent samples of a flow."""

    ess: float  # (sum w)^2 / (N sum w^2), in (0, 1]
    ess_error: float
    log_z: float  # log of the mean weight
    log_z_error: float
    n_samples: int
    pareto_k: float | None  # shape of the weights' tail; null: no tail at all, or too few weights to tell
    largest_weight_share: float  # of the sum of all
    largest_weight_over_mean: float
    dominated: bool  # whether the ESS hangs on one sample


class PartESS(TypedDict):
    """The effective sample size within a part of the configurations."""

    n_configs: int  # of the part, over all chains
    ess: float
    ess_error: float | None  # null of a single configuration


class Sector(TypedDict):
    """One topological sector."""

    charge: int
    probability: float | None  # P(Q); null where the sector is visited too rarely
    probability_error: float | None
    exact: float | None  # P(Q) by the closed form
    gaussian: float  # P(Q) by a Gaussian over the integers with the measured <Q^2>
    observables: dict[str, ValueWithError]  # <O>_Q by the observable's name


class FixedCharge(TypedDict):
    """The fit <O>_Q = value + slope (Q^2 - <Q^2>) through the sectors."""

    value: float | None  # <O>
    error: float | None
    slope: float | None  # per unit of Q^2
    slope_error: float | None
    chi2_per_dof: float | None  # null for two sectors
    linear: bool  # whether the sectors allow a straight line in Q^2: a larger chi^2 is not too unlikely
    charge_squared: Literal["ensemble", "exact"]  # whose <Q^2> was taken


class ThetaPoint(TypedDict):
    """Z(theta) / Z(0) = <exp(i theta Q)> at one angle."""

    theta: float  # radians
    value: float | None
    error: float | None
    exact: float | None
    resolved: bool  # from zero


class SectorWeight(PartESS):
    """The share of all weight in one sector, and the ESS within it."""

    charge: int
    share: float  # of the sum of weights: the estimate of P(Q)
    share_error: float | None
    exact: float | None  # P(Q) by the closed form


class Topology(TypedDict):
    """The topological sectors of an ensemble, or of fresh samples of a flow."""

    tunnelling_rate: ValueWithError  # changes of Q from one configuration that counts to the next
    sectors: list[Sector]  # by charge
    fixed_charge: dict[str, FixedCharge]  # by the observable's name
    theta: list[ThetaPoint]
    weights: list[SectorWeight] | None  # by charge; null where all weights are equal
    trusted: bool  # that of <Q^2>


class SignShare(PartESS):
    """The share of all weight at one sign of the magnetisation, and the ESS within it."""

    sign: int  # 1 or -1
    share: float  # of the sum of weights
    share_error: float | None
    exact: float  # 1/2, by symmetry


class ForwardESS(TypedDict):
    """The mode-collapse test: the flow's ESS from configurations of an ensemble sampled without it."""

    ess: float | None
    ess_error: float | None
    n_samples: int  # configurations that were looked at
    collapsed: bool
    verdict: str  # in words


class Integration(TypedDict):
    """How a flow is integrated that is no product of layers."""

    n_steps: int  # that its weights ask for
    step_error: float  # of log w: its largest change, of some samples, with twice as many steps


class FlowSummary(Weights):
    """The quality of the trained flow, from fresh samples at the card's couplings."""

    warnings: list[str]
    log_z_exact: float | None
    train_seconds: float  # wall time
    round_trip: float | None  # largest difference of log q by the map and by its inverse: of log w; null: not known
    integration: Integration | None  # null of a product of layers
    train_processes: int
    n_steps: int
    n_parameters: int
    observables: Observables  # reweighted
    topology: Topology | None  # with the samples' weights; null where there is no charge
    signs: list[SignShare] | None  # null where there is no magnetisation
    forward: NotRequired[dict[str, ForwardESS]]  # by ensemble; where the summary is of the card's couplings


_From = TypedDict("_From", {"from": Theory})  # the theory that was sampled; `from` cannot be written as an attribute


class Reweighting(_From, Reliable):
    """The overlap of an ensemble with the couplings to which it is reweighted."""

    ess: float
    ess_error: float
    n_samples: int  # configurations of all chains
    n_effective: float  # ess * n_samples / (2 tau_int of log w)
    pareto_k: float | None  # as of Weights
    largest_weight_share: float


class BreakEven(TypedDict):
    """When the flow's training has paid."""

    against: str  # the cheapest ensemble without a flow
    configs: float | None  # independent ones, of which more are cheaper with the flow; null: never
    at_most: bool  # the other ensemble is frozen, and its cost a bound


class Cost(TypedDict):
    """Whether an ensemble is frozen, and the cost of an independent configuration of it."""

    frozen: bool  # too few changes of Q, or passages of the slowest observable: no error is to be trusted
    cost_observable: str | None  # what independent configurations are counted by; null where nothing was estimated
    seconds_per_independent_config: float | None  # core seconds; null when frozen, and where no time is known
    seconds_per_independent_config_at_least: NotRequired[float | None]  # core seconds; of frozen ensembles


class Acceptance(TypedDict):
    """The acceptance rate of proposals."""

    acceptance_rate: float | None  # mean over all updates; null where nothing is tested


class Diagnostics(TypedDict, total=False):
    """Figures that exist only for some samplers or selections."""

    reweighting: Reweighting  # where averages are of other couplings than those that were sampled
    round_trips: int  # of replicas of tempering, all chains together
    updates_per_round_trip: float | None  # null without any
    longest_rejection_run: int  # proposals that a chain rejected in a row
    proposals: Weights  # of a flow, accepted or not
    break_even: BreakEven  # of an ensemble that needs the flow, where another one needs none


class EnsembleSummary(Cost, Acceptance, Diagnostics):
    """One ensemble, or the selected part of it."""

    files: list[str]  # their names, or paths where names are equal; chains of several are taken together
    sampler: str  # its card name
    n_chains: int
    n_configs: int  # per chain, of the shortest chain
    n_configs_of_longest: int
    seconds: float | None  # wall time of production, all chains together; null where it is not known
    threads: int
    thermalisation_dropped: int  # configurations at the beginning of each chain
    every: int  # one configuration in so many was kept
    settings: Settings
    observables: Observables
    topology: Topology | None  # null where there is no charge, or nothing can be said
    signs: list[SignShare] | None  # null where all weights are equal or there is no magnetisation
    warnings: list[str]


class Summary(TypedDict):
    """The whole of summary.json."""

    theory: Theory  # that averages are of
    flow: FlowSummary | None  # null where there is none, or it is not trained
    ensembles: dict[str, EnsembleSummary]  # by name, in the card's order
    made_from: NotRequired[dict[str, str]]  # checksums of ensembles and flow, by their files' places in the run folder
