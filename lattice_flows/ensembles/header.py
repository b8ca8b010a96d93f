"""Root attributes: the caller's, checked, and those of the schema."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lattice_flows.ensembles.errors import EnsembleError
from lattice_flows.ensembles.layout import COMPRESSIONS, FORMAT, RESERVED, SCHEMA_VERSION, FieldSpec, check_name


@dataclass(frozen=True)
class Design:
    """The properties that all files of one ensemble share."""

    header: Mapping[str, str | int | float]  # the caller's attributes
    chains: range
    field: FieldSpec
    store_fields: bool
    compression: str = "none"  # of /fields

    def __post_init__(self) -> None:
        if self.compression not in COMPRESSIONS:
            raise EnsembleError(f"unknown compression {self.compression!r}; available: {', '.join(COMPRESSIONS)}")


def checked_header(header: Mapping[str, Any]) -> dict[str, str | int | float]:
    """Plain text and numbers by name. Raises EnsembleError for other types, and for names that belong to the schema."""
    checked: dict[str, str | int | float] = {}
    for name, value in header.items():
        check_name(name, "header")
        if name in RESERVED:
            raise EnsembleError(f"header {name!r}: this attribute is set by the file itself; leave it out")
        plain = value.item() if isinstance(value, np.generic) else value
        if isinstance(plain, str):
            if "\0" in plain:
                raise EnsembleError(f"header {name!r}: the text contains a NUL character, which HDF5 cannot keep")
            checked[name] = str(plain)
        elif isinstance(plain, int) and -(2**63) <= plain < 2**64:
            checked[name] = int(plain)
        elif isinstance(plain, float):
            checked[name] = float(plain)
        else:
            raise EnsembleError(f"header {name!r}: {value!r} is neither text nor a number of 64 bits")
    return checked


def file_attributes(
    design: Design, configs: range, proposals: range, next_segment: int, seconds: float
) -> dict[str, Any]:
    """All root attributes but the checksums, in the types in which they are stored."""
    field, chains = design.field, design.chains
    return {name: _stored(value) for name, value in design.header.items()} | {
        "format": FORMAT,
        "schema_version": np.int64(SCHEMA_VERSION),
        "shape": np.array(field.lattice_shape, np.int64),
        "field": field.name,
        "field_dims": " ".join(field.dims),
        "field_shape": np.array(field.shape, np.int64),
        "field_dtype": field.dtype,
        "compression": design.compression,
        "first_chain": np.int64(chains.start),
        "n_chains": np.int64(len(chains)),
        "first_config": np.int64(configs.start),
        "n_configs": np.int64(len(configs)),
        "first_proposal": np.int64(proposals.start),
        "n_proposals": np.int64(len(proposals)),
        "next_segment": np.int64(next_segment),
        "seconds": np.float64(seconds),
    }


def _stored(value: str | int | float) -> str | np.generic:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return np.float64(value)
    return np.int64(value) if value < 2**63 else np.uint64(value)
