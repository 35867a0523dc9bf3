"""Record: a frozen object that is validated, copied and written as JSON like a pydantic model.

The config, the summary of a run and what a run's folder says of it are records: the first picture
needs them, and pydantic with its models takes a quarter of the time until then. The validation is
pydantic-core's, with pydantic's errors. A pydantic model may hold records.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from functools import cache
from inspect import get_annotations
from types import MappingProxyType, NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Union,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic_core import SchemaValidator, core_schema

if TYPE_CHECKING:
    from typing import Self

    from pydantic_core import CoreSchema

_REQUIRED: Any = object()
"""The default of a field without one."""


class Bounds(NamedTuple):
    """What `Annotated[int, Bounds(ge=1)]`, or a field's metadata, demand of a value."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None

    @property
    def given(self) -> dict[str, Any]:
        """Those that there are, by pydantic's names."""
        return {name: bound for name, bound in self._asdict().items() if bound is not None}


_SIMPLE: Mapping[object, Callable[..., CoreSchema]] = {
    int: core_schema.int_schema,
    float: core_schema.float_schema,
    str: core_schema.str_schema,
    bool: core_schema.bool_schema,
    NoneType: core_schema.none_schema,
}


class Declared(NamedTuple):
    """A field with more than a type and a default, as its class declares it."""

    default: Any
    about: Mapping[str, Any]
    """Its bounds by name, and what else its class says of it."""


class FieldInfo(NamedTuple):
    """What a record says of one of its fields."""

    annotation: Any
    """Its type, without bounds."""
    bounds: Mapping[str, Any]
    about: Mapping[str, Any]
    """All that it was declared with."""

    @property
    def title(self) -> str:
        """Its label."""
        return str(self.about["title"])

    @property
    def description(self) -> str:
        """Its help."""
        return str(self.about["description"])


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Record:
    """The base of all records. Fields are annotations, with or without defaults; names of capital
    letters are none.

    The constructor takes values as they are; `model_validate` checks them.
    """

    STRICT: ClassVar[bool] = True
    """Whether text is never converted to numbers."""
    EXTRA: ClassVar[Literal["forbid", "ignore"]] = "forbid"
    """Whether an unknown key is an error."""
    FINITE: ClassVar[bool] = False
    """Whether a number that isn't finite is an error."""
    DECLARED: ClassVar[Mapping[str, Declared]] = MappingProxyType({})
    """The fields in their order."""

    def __init_subclass__(cls) -> None:
        found = {}
        for name in get_annotations(cls):
            if not name.isupper():
                default = cls.__dict__.get(name, _REQUIRED)
                found[name] = default if isinstance(default, Declared) else Declared(default, {})
                if default is not _REQUIRED:
                    setattr(cls, name, found[name].default)
        cls.DECLARED = {**cls.DECLARED, **found}

    def __init__(self, **values: Any) -> None:
        unknown = values.keys() - self.DECLARED.keys()
        missing = [
            name
            for name, declared in self.DECLARED.items()
            if declared.default is _REQUIRED and name not in values
        ]
        if unknown or missing:
            words = ", ".join((*sorted(unknown), *missing))
            raise TypeError(f"{type(self).__name__}: unknown or missing fields: {words}")
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} can't be changed: copy the record")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(tuple(self._values().values()))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self._values().items())
        return f"{type(self).__name__}({values})"

    def _values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.DECLARED}

    @property
    def model_fields_set(self) -> frozenset[str]:
        """Names of the fields that were given."""
        return frozenset(self.__dict__)

    @classmethod
    def model_validate(cls, values: object) -> Self:
        """Make a record of plain values.

        Raises:
            ValidationError: pydantic's, with all problems.
        """
        record: Self = _validator(cast(Any, cls)).validate_python(values)
        return record

    @classmethod
    def model_validate_json(cls, text: str | bytes) -> Self:
        """The same for JSON."""
        record: Self = _validator(cast(Any, cls)).validate_json(text)
        return record

    def model_copy(self, *, update: Mapping[str, Any]) -> Self:
        """Return a copy with other values."""
        return type(self)(**{**self.__dict__, **update})

    def model_dump(
        self,
        *,
        mode: Literal["python", "json"] = "python",
        include: Collection[str] | None = None,
        exclude: Collection[str] | Mapping[str, Any] = (),
        exclude_none: bool = False,
        exclude_unset: bool = False,
        exclude_defaults: bool = False,
    ) -> dict[str, Any]:
        """Return the values as a dict, those of records within as dicts too.

        Args:
            mode: "json": with lists for tuples, and None for numbers that aren't finite.
            exclude: names of fields, or a mapping of names to those to leave out below.
        """
        how: dict[str, Any] = {
            "mode": mode,
            "exclude_none": exclude_none,
            "exclude_unset": exclude_unset,
            "exclude_defaults": exclude_defaults,
        }
        below = exclude if isinstance(exclude, Mapping) else dict.fromkeys(exclude, True)
        found: dict[str, Any] = {}
        for name, value in self._values().items():
            left_out = below.get(name)
            if (
                left_out is True
                or (include is not None and name not in include)
                or (exclude_none and value is None)
                or (exclude_unset and name not in self.model_fields_set)
                or (exclude_defaults and value == self.DECLARED[name].default)
            ):
                continue
            found[name] = _plain(value, how, left_out or ())
        return found

    def model_dump_json(
        self, *, indent: int | None = None, exclude: Collection[str] | Mapping[str, Any] = ()
    ) -> str:
        """Return the values as JSON."""
        separators = (",", ":") if indent is None else None
        values = self.model_dump(mode="json", exclude=exclude)
        return json.dumps(values, indent=indent, separators=separators, ensure_ascii=False)

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: object) -> CoreSchema:
        return _schema_of_record(cast(Any, cls))


def fields_of(record: type[Record]) -> Mapping[str, FieldInfo]:
    """The fields of a record in their order."""
    return _fields_of(cast(Any, record))


@cache
def _fields_of(record: type[Any]) -> Mapping[str, FieldInfo]:
    hints = get_type_hints(record, localns={"JsonValue": Any}, include_extras=True)
    found = {}
    for name, declared in record.DECLARED.items():
        annotation, bounds = _unwrapped(hints[name])
        own = {key: value for key, value in declared.about.items() if key in Bounds._fields}
        found[name] = FieldInfo(annotation, {**bounds, **own}, declared.about)
    return found


def _unwrapped(hint: Any) -> tuple[Any, dict[str, Any]]:
    """The type and its bounds."""
    if get_origin(hint) is not Annotated:
        return hint, {}
    kind, bounds = get_args(hint)
    return kind, bounds.given


def _plain(value: Any, how: dict[str, Any], exclude: Any) -> Any:
    if isinstance(value, tuple | list):
        items = [_plain(item, how, exclude) for item in value]
        return items if how["mode"] == "json" or isinstance(value, list) else tuple(items)
    if isinstance(value, dict):
        return {name: _plain(item, how, ()) for name, item in value.items()}
    if hasattr(value, "model_dump"):
        return value.model_dump(**how, **({"exclude": exclude} if exclude else {}))
    if how["mode"] == "json" and isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@cache
def _validator(record: type[Any]) -> SchemaValidator:
    return SchemaValidator(_schema_of_record(cast(Any, record)))


@cache
def _schema_of_record(record: type[Any]) -> CoreSchema:
    found = {
        name: core_schema.typed_dict_field(
            _schema_of_field(info),
            required=record.DECLARED[name].default is _REQUIRED,
        )
        for name, info in fields_of(record).items()
    }
    values = core_schema.typed_dict_schema(
        found,
        extra_behavior=record.EXTRA,
        config=core_schema.CoreConfig(strict=record.STRICT, allow_inf_nan=not record.FINITE),
    )

    def make(value: Any, handler: core_schema.ValidatorFunctionWrapHandler) -> Any:
        return value if isinstance(value, record) else record(**handler(value))

    return core_schema.no_info_wrap_validator_function(
        make,
        values,
        serialization=core_schema.plain_serializer_function_ser_schema(
            lambda value, info: value.model_dump(mode=info.mode), info_arg=True
        ),
    )


def _schema_of_field(info: FieldInfo) -> CoreSchema:
    schema = _schema_of(info.annotation, info.bounds)
    check = info.about.get("check")
    return core_schema.no_info_after_validator_function(check, schema) if check else schema


def _schema_of(hint: Any, bounds: Mapping[str, Any]) -> CoreSchema:
    """The schema of a type; `bounds` are those of its value, if it has one."""
    kind, own = _unwrapped(hint)
    bounds, origin, parts = {**own, **bounds}, get_origin(kind), get_args(kind)
    if kind in _SIMPLE:
        return _SIMPLE[kind](**({} if kind in (bool, NoneType) else bounds))
    if isinstance(kind, type) and issubclass(kind, Record):
        return _schema_of_record(cast(Any, kind))
    if origin is Literal:
        return core_schema.literal_schema([*parts])
    if origin in (Union, UnionType):
        others = [part for part in parts if part is not NoneType]
        schemas = [_schema_of(part, bounds) for part in others]
        union = schemas[0] if len(schemas) == 1 else core_schema.union_schema([*schemas])
        return core_schema.nullable_schema(union) if len(others) < len(parts) else union
    if origin is tuple:
        if parts[1:] == (...,):
            item = _schema_of(parts[0], {})
            return core_schema.tuple_variable_schema(item, strict=False, **bounds)
        return core_schema.tuple_positional_schema(
            [_schema_of(part, {}) for part in parts], strict=False
        )
    if origin is dict:
        keys, values = (_schema_of(part, {}) for part in parts)
        return core_schema.dict_schema(keys, values)
    if kind in (Any, object):
        return core_schema.any_schema()
    raise TypeError(f"a record can't have a field of the type {hint}")
