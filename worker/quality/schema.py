"""Whether a value satisfies a JSON Schema that nobody checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Final

import orjson
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from referencing.jsonschema import SchemaRegistry

from worker.quality.patterns import Deadline, Undecided, search

_MAX_SCHEMA_BYTES: Final = 20_000
_MAX_UNIQUE_OBJECTS: Final = 300
"""`uniqueItems` compares every pair of items that cannot be sorted."""
_UNSUPPORTED: Final = (
    b'"$schema":',  # below the root it would switch to a validator class without our limits
    b'"patternProperties":',  # the library searches property names with `re`, which cannot be stopped
)

_Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]

_deadline: ContextVar[Deadline] = ContextVar("_deadline")


def satisfies(value: Any, schema: Mapping[str, Any], deadline: Deadline) -> bool | None:
    """Return whether the value satisfies the schema (draft 2020-12), or None where that cannot be told.

    That is: the schema is not one, is larger than 20 kB, refers to another document, uses `patternProperties` or a
    nested `$schema`, or checking takes longer than the deadline allows. Nothing is ever fetched.
    """
    try:
        canonical = orjson.dumps(
            {key: part for key, part in schema.items() if key != "$schema"}, option=orjson.OPT_SORT_KEYS
        )
    except (TypeError, RecursionError):  # not JSON: a value of another type, or nested too deep
        return None
    token = _deadline.set(deadline)
    try:
        validator = _validator(canonical)
        return None if validator is None else validator.is_valid(value)
    except Exception:  # noqa: BLE001 - the schema is a program from outside: whatever it makes the library raise
        return None
    finally:
        _deadline.reset(token)


@lru_cache(maxsize=128)
def _validator(canonical: bytes) -> Validator | None:
    """Build a validator, or None where there can be none. A deadline that passes is raised, and so not kept."""
    if len(canonical) > _MAX_SCHEMA_BYTES or any(keyword in canonical for keyword in _UNSUPPORTED):
        return None
    schema = orjson.loads(canonical)
    registry: SchemaRegistry = SchemaRegistry()  # empty, and without a way to retrieve: no reference leaves the schema
    if not _Bounded(_Bounded.META_SCHEMA, registry=registry).is_valid(schema):
        return None
    validator: Validator = _Bounded(schema, registry=registry)
    return validator


def _bounded(keyword: _Keyword) -> _Keyword:
    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError] | None:
        _deadline.get().left()
        return keyword(validator, value, instance, schema)

    return check


def _pattern(validator: Any, pattern: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not search(pattern, instance, _deadline.get()):
        yield ValidationError("does not match the pattern")


def _unique_items(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError] | None:
    if isinstance(instance, list) and len(instance) > _MAX_UNIQUE_OBJECTS:
        kinds = {type(item) for item in instance}
        if kinds & {dict, list} or len(kinds) > 1:
            raise Undecided
    return _ORIGINAL["uniqueItems"](validator, wanted, instance, schema)


_ORIGINAL: Mapping[str, _Keyword] = Draft202012Validator.VALIDATORS
_Bounded: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {name: _bounded(keyword) for name, keyword in _ORIGINAL.items()}
    | {"pattern": _pattern, "uniqueItems": _unique_items},
)
