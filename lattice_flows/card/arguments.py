"""Checks of card tables against the signature of what they construct, so that no second list of options is needed."""

import difflib
import inspect
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, Field, is_dataclass
from typing import Annotated, Any, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.fields import FieldInfo

from lattice_flows.catalogue import PluginError, is_foreign, one_line
from lattice_flows.errors import InputError
from lattice_flows.flows.map_catalogue import MapCatalogue

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_LONGEST_SHOWN = 100  # of a value in a message
_LONGEST_REASON = 300  # in which a constructor may show all of a long list
_BAD_PARTS = (TypeError, AttributeError, LookupError, AssertionError)  # what a class that is half written runs into


def arguments(
    constructor: Callable[..., Any], given: Collection[str] = (), taken: Collection[str] = ()
) -> type[BaseModel]:
    """The model of a constructor's arguments, without those that the program supplies itself.

    Types and defaults come from the signature; unknown keys and values of another type are refused. `taken` are keys
    of the same table that mean something else. Raises InputError for a constructor of another package that no table
    can describe.
    """
    with readable(constructor):
        return _arguments(constructor, given, taken)


@contextmanager
def readable(constructor: Any) -> Iterator[None]:
    """Raise InputError, with its name, where the signature of another package's class cannot be read."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{_name(constructor)}: {error}") from None
    except Exception as error:  # whatever Python and pydantic raise for strange signatures and types
        if not is_foreign(constructor):
            raise
        raise InputError(f"{_name(constructor)}: its arguments cannot be read: {_first_sentence(error)}") from None


def _arguments(constructor: Callable[..., Any], given: Collection[str], taken: Collection[str]) -> type[BaseModel]:
    hints = get_type_hints(constructor.__init__ if inspect.isclass(constructor) else constructor, include_extras=True)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(constructor).parameters.items():
        if name in given:
            continue
        if parameter.kind not in _NAMED:
            raise InputError(f"the arguments are {parameter}: each needs a name and a type, as in a frozen dataclass")
        if name not in hints:
            raise InputError(f"the argument {name!r} has no type; write it as in {name}: float")
        if name in taken:
            raise InputError(f"the argument {name!r} must have another name: the table has a key {name!r} of its own")
        fields[name] = (_field(hints[name]), _default(constructor, parameter))
    return create_model(constructor.__name__, __config__=ConfigDict(extra="forbid", strict=True), **fields)


def _default(constructor: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """The default of an argument, made anew where a dataclass makes it; ... without one.

    Raises InputError for one that cannot be stored with what is made by it.
    """
    if parameter.default is inspect.Parameter.empty:
        return ...
    field: Field[Any] | None = None
    if is_dataclass(constructor):
        field = constructor.__dataclass_fields__.get(parameter.name)
    default = parameter.default
    if field is not None and field.default_factory is not MISSING:
        default = field.default_factory()
    try:
        json.dumps(default)
    except (TypeError, ValueError):
        raise InputError(
            f"the default of {parameter.name!r} must be made of numbers and texts, got {default!r}"
        ) from None
    return default


def _name(constructor: Any) -> str:
    """As a reader would find it: the module and the name; of a method, those of its object's class."""
    if inspect.ismethod(constructor):
        constructor = type(constructor.__self__)
    name = getattr(constructor, "__qualname__", None)
    return repr(constructor) if name is None else f"{constructor.__module__}.{name}"


def _first_sentence(error: Exception) -> str:
    """The error in one line; pydantic goes on to explain itself."""
    return one_line(error).split(". ")[0]


def _field(hint: Any) -> Any:
    """The type of a model's field; that of a map, or of a list of maps, is checked by its catalogue, see `checked`."""
    catalogues = [one for one in getattr(hint, "__metadata__", ()) if isinstance(one, MapCatalogue)]
    if not catalogues:
        return hint
    several = get_origin(hint.__origin__) is tuple
    return Annotated[tuple[Any, ...], catalogues[0]] if several else Annotated[Any, catalogues[0]]


def checked(
    model: type[BaseModel], table: Mapping[str, Any], where: str, known: Collection[str] = ()
) -> dict[str, Any]:
    """The table's values with the model's defaults, or InputError with the first thing that is wrong.

    `where` names the table in the message; `known` are further keys that belong in the same table, for its advice.
    """
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    try:
        parsed = model.model_validate(values, strict=True)
    except ValidationError as error:
        keys = [*known, *model.model_fields]
        raise InputError(describe(error, where, keys)) from None
    return {
        name: _with_checked_options(getattr(parsed, name), field, f"{where}: {name}")
        for name, field in type(parsed).model_fields.items()
    }


def _with_checked_options(value: Any, field: FieldInfo, where: str) -> Any:
    """The value; if a catalogue of maps is among the metadata, the same with its options checked, without defaults."""
    for catalogue in field.metadata:
        if isinstance(catalogue, MapCatalogue):
            if get_origin(field.annotation) is tuple:
                return tuple(_with_known_options(one, catalogue, f"{where}[{k}]") for k, one in enumerate(value))
            return None if value is None else _with_known_options(value, catalogue, where)
    return value


def _with_known_options(value: Any, catalogue: MapCatalogue[Any], where: str) -> Any:
    """The name or table of a map, its options checked."""
    if not isinstance(value, (str, dict)):
        example = "spline" if "spline" in catalogue.maps else next(iter(catalogue.maps))
        raise InputError(f"{where} = {shown(value)}: should be a name, or a table such as {{name = {example!r}}}")
    options = {"name": value} if isinstance(value, str) else dict(value)
    name = options.pop("name", None)
    constructor = lookup(catalogue.maps, name, where)
    values = checked(arguments(constructor, given=catalogue.given), options, where, ["name"])
    return value if isinstance(value, str) else {"name": name, **{key: values[key] for key in options}}


def built(constructor: Any, where: str, *parts: Any, **values: Any) -> Any:
    """The constructed object. A ValueError of its constructor is the user's to correct and becomes an InputError.

    So does what a class of another package gets wrong, such as a TypeError.
    """
    try:
        return constructor(*parts, **values)
    except InputError:  # of something inside, which says where
        raise
    except ValueError as error:
        raise InputError(f"{where}: {_shortened(' '.join(str(error).split()), _LONGEST_REASON)}") from None
    except _BAD_PARTS as error:
        if not is_foreign(constructor):
            raise
        raise InputError(f"{where}: {_name(constructor)}: {one_line(error)}") from None


def describe(error: ValidationError, where: str, keys: Collection[str]) -> str:
    """The message for the first of pydantic's errors, in one line."""
    first, *others = error.errors(include_url=False)
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        text = unknown_key(key, where, keys)
    elif first["type"] == "missing":
        text = f"{where}: the key {key!r} is missing"
    else:
        message = first["msg"].removeprefix("Value error, ").replace("valid tuple", "valid list")
        message = message.replace("valid dictionary", "table")
        told = f"{key} = {shown(first['input'])}: " if key else ""
        text = f"{where}: {told}{message[:1].lower()}{message[1:]}"
    return text + (f" (and {len(others)} more)" if others else "")


def shown(value: Any) -> str:
    """The value as Python writes it, so much of it as fits into a message."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of more digits than Python writes, or tables in tables
        return f"a {type(value).__name__} beyond writing"
    return _shortened(text, _LONGEST_SHOWN)


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}..."


def unknown_key(key: str, where: str, keys: Collection[str]) -> str:
    """The message for an unknown key, with the nearest known one or all of them."""
    return f"{where}: unknown key {shown(key)}; {_advice(key, keys)}"


def _advice(word: str, known: Collection[str]) -> str:
    """The nearest known word, or all of them."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"available: {', '.join(sorted(known))}"


def lookup(catalogue: Mapping[str, Any], name: object, where: str) -> Any:
    """The catalogue's entry. Raises InputError with the nearest name, or all that there are."""
    if not isinstance(name, str) or name not in catalogue:
        raise InputError(
            f"{where}: unknown name {shown(name)}; {_advice(str(name)[:_LONGEST_SHOWN], catalogue.keys())}"
        )
    try:
        return catalogue[name]
    except PluginError as error:
        raise InputError(f"{where}: {error}") from None
