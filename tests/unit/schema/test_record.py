"""Records: they validate, copy and print as the same class made with pydantic does."""

from __future__ import annotations

import json
import math
import pickle
from copy import deepcopy
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from rnnlm_tui.schema.record import Bounds, Record, fields_of

STRICT = ConfigDict(frozen=True, extra="forbid", strict=True)


class Inner(Record):
    number: int
    table: dict[str, float] = {}  # noqa: RUF012


class Outer(Record):
    whole: Annotated[int, Bounds(ge=0, lt=10)] = 1
    share: Annotated[float, Bounds(gt=0, le=1)] = 0.5
    name: Annotated[str, Bounds(min_length=1, max_length=4, pattern="^[a-z]*$")] = "a"
    flag: bool = False
    choice: Literal["one", "two"] = "one"
    maybe: Annotated[int, Bounds(ge=0)] | None = None
    texts: tuple[Annotated[str, Bounds(max_length=3)], ...] = ()
    mixed: str | bool | int | float | None = None
    any: JsonValue = None
    inner: Inner | None = None
    pairs: dict[str, tuple[int, str]] = {}  # noqa: RUF012


class InnerModel(BaseModel):
    model_config = STRICT
    number: int
    table: dict[str, float] = {}


class OuterModel(BaseModel):
    model_config = STRICT
    whole: int = Field(1, ge=0, lt=10)
    share: float = Field(0.5, gt=0, le=1)
    name: str = Field("a", min_length=1, max_length=4, pattern="^[a-z]*$")
    flag: bool = False
    choice: Literal["one", "two"] = "one"
    maybe: Annotated[int, Field(ge=0)] | None = None
    texts: tuple[Annotated[str, Field(max_length=3)], ...] = Field((), strict=False)
    mixed: str | bool | int | float | None = None
    any: JsonValue = None
    inner: InnerModel | None = None
    pairs: dict[str, Annotated[tuple[int, str], Field(strict=False)]] = {}


class Holder(BaseModel):
    """A model of pydantic that holds a record."""

    outer: Outer = Outer()


SIMPLE = (
    st.none()
    | st.booleans()
    | st.integers(-2, 12)
    | st.floats(width=16)
    | st.text("ab1", max_size=5)
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SIMPLE | st.sampled_from(["one", "two"]),
    lambda some: (
        st.lists(some, max_size=3)
        | st.dictionaries(st.sampled_from([*fields_of(Inner), "x"]), some, max_size=2)
    ),
    max_leaves=5,
)
RAW = st.dictionaries(st.sampled_from([*fields_of(Outer), "other"]), VALUES, max_size=4)


def outcome(kind: type[Any], raw: object) -> object:
    """The JSON of a valid value, else the errors without pydantic's words."""
    try:
        return json.loads(kind.model_validate(raw).model_dump_json())
    except ValidationError as error:
        return [
            (one["loc"], one["type"])
            for one in error.errors(include_url=False, include_input=False)
        ]


@given(RAW)
def test_a_record_validates_and_prints_like_a_model(raw: dict[str, object]) -> None:
    found = outcome(Outer, raw)
    assert found == outcome(OuterModel, raw)
    if isinstance(found, dict):
        record = Outer.model_validate(raw)
        assert record.__pydantic_fields_set__ == raw.keys()
        assert Outer.model_validate_json(record.model_dump_json()) == Outer.model_validate(found)
        assert Holder.model_validate({"outer": raw}).model_dump(mode="json") == {"outer": found}
        assert Outer.model_validate({"inner": record.inner}).inner is record.inner


def test_a_dump_leaves_out_what_is_asked() -> None:
    record = Outer(whole=3, maybe=None, inner=Inner(number=1), texts=("a",))
    model = OuterModel(whole=3, maybe=None, inner=InnerModel(number=1), texts=("a",))
    for how in (
        {"exclude_none": True},
        {"exclude_unset": True},
        {"exclude_defaults": True},
        {"include": {"whole", "inner"}},
        {"exclude": {"whole", "inner"}},
        {"exclude": {"inner": {"table"}, "flag": True}},
        {"mode": "json"},
    ):
        assert record.model_dump(**how) == model.model_dump(**how), how
    assert record.model_copy(update={"whole": 4}).whole == 4
    assert record.whole == 3


def test_a_record_is_pickled_and_copied_with_what_was_given() -> None:
    record = Outer.model_validate({"whole": 3, "inner": {"number": 1}, "texts": ["a"]})
    for again in (pickle.loads(pickle.dumps(record)), deepcopy(record)):
        assert again == record
        assert again.__pydantic_fields_set__ == record.__pydantic_fields_set__


def test_numbers_that_are_not_finite_are_null_in_json_and_refused_where_asked() -> None:
    class Finite(Record):
        FINITE = True
        number: float

    class Loose(Record):
        number: float

    assert Loose.model_validate({"number": math.inf}).model_dump(mode="json") == {"number": None}
    assert Loose(number=math.inf).model_dump() == {"number": math.inf}
    with pytest.raises(ValidationError, match="finite"):
        Finite.model_validate({"number": math.nan})


def test_a_record_cannot_be_changed_and_needs_fields_of_known_types() -> None:
    with pytest.raises(AttributeError, match="can't be changed"):
        Outer().whole = 2  # type: ignore[misc]
    with pytest.raises(TypeError, match="unknown or missing fields: odd, number"):
        Inner(odd=1)  # type: ignore[call-arg]

    class Odd(Record):
        raw: bytes

    with pytest.raises(TypeError, match="field of the type"):
        Odd.model_validate({})
