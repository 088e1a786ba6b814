"""Dataclasses <-> Arrow: the schema a record type has on disk, and records to batches and back.

A field may be str, int (64 bits), float, bool, list[str], a Literal of strings, or any of these `| None`.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, Literal, TypeVar

import pyarrow as pa

from storage.errors import StorageFault

R = TypeVar("R")

_ARROW: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    list[str]: pa.list_(pa.string()),
}


@cache
def arrow_schema(kind: type) -> pa.Schema:
    """The Arrow schema of a record type, one column per field, in order. TypeError for a field type we do not store."""
    hints = typing.get_type_hints(kind)
    return pa.schema([_column(field.name, hints[field.name]) for field in dataclasses.fields(kind)])


def identity(kind: type) -> tuple[str, ...]:
    """The columns that tell one record of this type from another in its iteration: `identity`, else `key`, else all."""
    if named := getattr(kind, "identity", None):
        return tuple(named)
    if key := getattr(kind, "key", None):
        return (key,)
    return tuple(column.name for column in arrow_schema(kind) if not pa.types.is_list(column.type))


def fingerprint(record: Any) -> int:
    """64 bits that are equal for records of equal identity, within this process."""
    kind: type = type(record)
    return hash(_identity_of(kind)(record))


def fingerprints(table: pa.Table, kind: type) -> Iterable[int]:
    """The fingerprint of each row of a table that has (at least) the columns of `identity`."""
    columns = [column_values(table, kind, name) for name in identity(kind)]
    return map(hash, zip(*columns, strict=True) if len(columns) > 1 else columns[0])


def column_values(batch: pa.RecordBatch | pa.Table, kind: type, name: str) -> list[Any]:
    """A column's values; those of a column the part does not have yet are the field's default, or None."""
    if name in batch.schema.names:
        values: list[Any] = batch.column(name).to_pylist()
        return values
    (field,) = (field for field in dataclasses.fields(kind) if field.name == name)
    return [None if field.default is dataclasses.MISSING else field.default] * batch.num_rows


def characters(record: Any) -> int:
    """How much text a record holds, roughly: what its strings weigh in memory."""
    kind: type = type(record)
    return sum(map(len, _texts_of(kind)(record)))


@cache
def _identity_of(kind: type) -> Callable[[Any], Any]:
    return attrgetter(*identity(kind))


def to_batch(records: Sequence[Any], kind: type) -> pa.RecordBatch:
    """Records as one batch. Raises StorageFault naming the field when a value is not of its field's type."""
    schema = arrow_schema(kind)
    arrays = [_array([getattr(record, column.name) for record in records], column, kind) for column in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def from_batch(batch: pa.RecordBatch | pa.Table, kind: type[R]) -> Iterator[R]:
    """Batch rows as records. A column the part does not have yet takes the field's default, or None."""
    columns = [column_values(batch, kind, field.name) for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    return (kind(*row) for row in zip(*columns, strict=True))


def whole_text(text: str) -> str:
    """`text` as valid Unicode: halves of a surrogate pair are joined, lone ones become U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@cache
def _texts_of(kind: type) -> Callable[[Any], tuple[str, ...]]:
    names = [column.name for column in arrow_schema(kind) if column.type == pa.string() and not column.nullable]
    return attrgetter(*names) if len(names) > 1 else lambda record: tuple(getattr(record, name) for name in names)


def _column(name: str, hint: Any) -> pa.Field:
    nullable = False
    if typing.get_origin(hint) in {types.UnionType, typing.Union}:
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
        nullable = True
    if typing.get_origin(hint) is Literal:
        hint = str
    if hint not in _ARROW:
        raise TypeError(f"field {name!r}: {hint} cannot be stored; use one of {', '.join(map(str, _ARROW))}")
    return pa.field(name, _ARROW[hint], nullable=nullable)


def _array(values: list[Any], column: pa.Field, kind: type) -> pa.Array:
    try:
        array = pa.array(values, column.type)
    except UnicodeEncodeError:
        array = pa.array([_mended(value) for value in values], column.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise StorageFault(
            f"{kind.__name__}.{column.name} holds a value that is not {column.type}: {error}",
            hint="this is a mistake in the stage that made the record",
        ) from None
    if array.null_count and not column.nullable:
        raise StorageFault(
            f"{kind.__name__}.{column.name} is None in {array.null_count} records",
            hint="this is a mistake in the stage that made the record",
        )
    return array


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return whole_text(value)
    return [_mended(item) for item in value] if isinstance(value, list) else value
