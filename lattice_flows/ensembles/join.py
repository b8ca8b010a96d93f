"""The contents of an ensemble's files: of a segment what was appended, of the joined file all that the parts hold."""

from collections.abc import Iterable, Mapping

import numpy as np

from lattice_flows.ensembles.contents import Contents, Table, axes_of
from lattice_flows.ensembles.file_sequence import Parts
from lattice_flows.ensembles.header import Design, file_attributes
from lattice_flows.ensembles.layout import config_axis


def file_contents(
    design: Design,
    tables: tuple[Table, ...],
    configs: range,
    proposals: range,
    next_segment: int,
    seconds: float,
    state: Mapping[str, np.ndarray],
) -> Contents:
    """The contents made of these tables, with their axes and attributes."""
    has_proposals = any(table.path.startswith("proposals/") for table in tables)
    axes = axes_of(
        design.field if design.store_fields else None,
        design.chains,
        configs,
        proposals if has_proposals else None,
        (table.every for table in tables),
    )
    return Contents(file_attributes(design, configs, proposals, next_segment, seconds), axes, tables, state)


def joined_contents(parts: Parts, design: Design | None = None, added: Iterable[Table] = ()) -> Contents:
    """The contents of all parts, streamed. Its tables do not depend on where the parts were cut.

    design  used in place of that of the parts
    added   series that the parts do not have
    """
    design, last = design or parts.first.design, parts.last
    tables = [_joined_table(parts, design, path) for path in {path for part in parts.parts for path in part.tables}]
    return file_contents(
        design,
        tuple(sorted([*tables, *added], key=lambda table: table.path)),
        range(parts.n_configs),
        range(parts.n_proposals),
        last.next_segment,
        parts.seconds,
        last.state(),
    )


def _joined_table(parts: Parts, design: Design, path: str) -> Table:
    info, group = parts.info(path), path.partition("/")[0]
    axes = {"fields": ("config", "chain", *design.field.dims), "proposals": ("proposal", "chain")}
    dims = axes.get(group, (config_axis(info.every), "chain"))
    compression = design.compression if group == "fields" else "none"
    return Table(path, info.dtype, dims, info.shape, parts.stream(path), info.every, compression)
