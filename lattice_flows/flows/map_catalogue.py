"""Maps of one variable by name, with options: "spline", or {"name": "spline", "n_bins": 8}."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

Map = TypeVar("Map")

MapTable = str | dict[str, Any]
"""The name of a map, or a table of the name and arguments of its constructor. A plan's field of this type is annotated
with the catalogue, by which a card checks the table."""


class MapCatalogue(Generic[Map]):
    """Maps by name. A table gives arguments of their constructors, all but those that are `given` by the flow.

    `what` an entry is stands in messages.
    """

    def __init__(
        self, maps: Mapping[str, Callable[..., Map]], given: tuple[str, ...] = (), what: str = "transform"
    ) -> None:
        self.maps, self.given, self.what = dict(maps), given, what

    def build(self, table: MapTable, **values: Any) -> Map:
        """The map of this table. `values` are arguments that it does not give, of whichever map takes them.

        Raises ValueError for an unknown name or option, and for values that the map refuses.
        """
        name, options = self.split(table)
        constructor = self.maps[name]
        known = inspect.signature(constructor).parameters
        return constructor(**{key: value for key, value in values.items() if key in known}, **options)

    def split(self, table: MapTable) -> tuple[str, dict[str, Any]]:
        """The name and the options of a table. Raises ValueError for unknown ones."""
        options = {"name": table} if isinstance(table, str) else dict(table)
        name = options.pop("name", None)
        if name not in self.maps:
            names = ", ".join(f'"{known}"' for known in self.maps)
            raise ValueError(f"{self.what} must be one of {names}, got {name!r}")
        known = [key for key in inspect.signature(self.maps[name]).parameters if key not in self.given]
        if unknown := [key for key in options if key not in known]:
            raise ValueError(f"{self.what}: {name} has no option {unknown[0]!r}; it has {', '.join(known) or 'none'}")
        return name, options


def name_of(table: MapTable) -> Any:
    """The name of a map, which stands alone or in a table; None where it has none."""
    return table if isinstance(table, str) else table.get("name")


def settle_options(plan: Any, catalogue: MapCatalogue[Any], **usual: Any) -> None:
    """Move those options of a frozen plan's `transform` into its own fields that stand there, too.

    Before maps had tables these fields were the only place for such an option. They keep it, so that checkpoints say
    what they always said; with `usual` values where neither place gives one. Raises ValueError for an option in both.
    """
    name, options = catalogue.split(plan.transform)
    for key, value in usual.items():
        beside = getattr(plan, key)
        if beside is not None and key in options:
            raise ValueError(f"{key} is given twice, in transform and beside it")
        object.__setattr__(plan, key, options.pop(key, value if beside is None else beside))
    object.__setattr__(plan, "transform", {"name": name, **options} if options else name)
