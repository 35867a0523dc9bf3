"""Record: a frozen object that is validated, copied and written as JSON like a pydantic model.

The config, the summary of a run and what a run's folder says of it are records: the first picture
needs them, and pydantic with its models takes a quarter of the time until then. The validation is
pydantic-core's, with pydantic's errors. A pydantic model may hold records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    TypedDict,
    Union,
    Unpack,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic_core import SchemaSerializer, SchemaValidator, core_schema, from_json

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


class LeftOut(TypedDict, total=False):
    """What a dump of a record contains: names of fields, or a mapping of names to those below."""

    include: set[str] | frozenset[str]
    exclude: set[str] | frozenset[str] | dict[str, Any]
    exclude_none: bool
    exclude_unset: bool
    exclude_defaults: bool


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Record:
    """The base of all records. Fields are annotations, with or without defaults; names of capital
    letters are none.

    The constructor takes values as they are; `model_validate` checks them.
    """

    __slots__ = (
        "__dict__", "__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__",
    )  # fmt: skip
    """Where pydantic-core keeps a record's values."""
    __pydantic_fields_set__: set[str]

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
        filled = {
            name: values.get(name, declared.default) for name, declared in self.DECLARED.items()
        }
        missing = [name for name, value in filled.items() if value is _REQUIRED]
        if unknown or missing:
            words = ", ".join((*sorted(unknown), *missing))
            raise TypeError(f"{type(self).__name__}: unknown or missing fields: {words}")
        object.__setattr__(self, "__dict__", filled)
        object.__setattr__(self, "__pydantic_fields_set__", set(values))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} can't be changed: copy the record")

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are made of the values that were given."""
        given = {name: self.__dict__[name] for name in self.__pydantic_fields_set__}
        return _made, (type(self), given)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__.values()))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({values})"

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
        given = {name: getattr(self, name) for name in self.__pydantic_fields_set__}
        return type(self)(**{**given, **update})

    def model_dump(
        self, *, mode: Literal["python", "json"] = "python", **left_out: Unpack[LeftOut]
    ) -> dict[str, Any]:
        """Return the values as a dict, those of records within as dicts too.

        Args:
            mode: "json": with lists for tuples, and None for numbers that aren't finite.
        """
        serializer = _serializer(cast(Any, type(self)))
        how: Any = {**left_out, "warnings": False}
        # to_python would leave infinite numbers as they are in JSON.
        found = (
            from_json(serializer.to_json(self, **how))
            if mode == "json"
            else serializer.to_python(self, **how)
        )
        return cast(dict[str, Any], found)

    def model_dump_json(self, *, indent: int | None = None, **left_out: Unpack[LeftOut]) -> str:
        """Return the values as JSON."""
        serializer = _serializer(cast(Any, type(self)))
        written = serializer.to_json(self, indent=indent, **cast(Any, left_out), warnings=False)
        return written.decode()

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: object) -> CoreSchema:
        return _schema_of_record(cast(Any, cls))


def _made(record: type[Record], given: dict[str, Any]) -> Record:
    return record(**given)


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


@cache
def _validator(record: type[Any]) -> SchemaValidator:
    return SchemaValidator(_schema_of_record(cast(Any, record)))


@cache
def _serializer(record: type[Any]) -> SchemaSerializer:
    return SchemaSerializer(_schema_of_record(cast(Any, record)))


@cache
def _schema_of_record(record: type[Any]) -> CoreSchema:
    found = {
        name: core_schema.model_field(_schema_of_field(info, record.DECLARED[name].default))
        for name, info in fields_of(record).items()
    }
    return core_schema.model_schema(
        record,
        core_schema.model_fields_schema(found, extra_behavior=record.EXTRA),
        config=core_schema.CoreConfig(strict=record.STRICT, allow_inf_nan=not record.FINITE),
    )


def _schema_of_field(info: FieldInfo, default: Any) -> CoreSchema:
    schema = _schema_of(info.annotation, info.bounds)
    if check := info.about.get("check"):
        schema = core_schema.no_info_after_validator_function(check, schema)
    if default is _REQUIRED:
        return schema
    return core_schema.with_default_schema(schema, default=default)


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
        has_word = any(get_origin(part) is Literal for part in others)
        error = "int_type" if has_word else None  # of a number or a word: one error, not two
        union = (
            schemas[0]
            if len(schemas) == 1
            else core_schema.union_schema([*schemas], custom_error_type=error)
        )
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
