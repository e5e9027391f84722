"""A value that fits a JSON schema: for structured outputs and for the input of tools.

Knows the part of JSON Schema that people write for models. What it does not know, it leaves out of account:
`pattern`, `not`, `if`, conditional and dependent keywords.
"""

from random import Random
from typing import Any

from promptmill.testing.simulator.prose import sentence
from promptmill.testing.simulator.replies import invalid

_FORMATS = {
    "date": "2026-03-14",
    "date-time": "2026-03-14T09:26:53Z",
    "time": "09:26:53Z",
    "duration": "PT15M",
    "email": "someone@example.com",
    "hostname": "www.example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://www.example.com/",
    "uuid": "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
}
_DEEPEST = 8
"""From here on only required properties are generated, so that a recursive schema comes to an end."""
_TOO_DEEP = 40
_MOST_ITEMS = 1_000
_MOST_CHARS = 100_000


class SchemaWriter:
    """Generates values for one schema, with the words of one prompt."""

    def __init__(self, schema: dict[str, Any], *, rng: Random, topics: tuple[str, ...]) -> None:
        self._root = schema
        self._rng = rng
        self._topics = topics

    def value(self) -> Any:
        """Return a value of the whole schema. Raises `RejectedError` for a schema that is none."""
        try:
            return self._value(self._root, "", 0)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise invalid(f"schema: expected a JSON schema, and cannot make sense of this one: {error}") from error

    def _value(self, schema: Any, name: str, depth: int) -> Any:
        if not isinstance(schema, dict) or depth > _TOO_DEEP:  # true, false, or without an end
            return None
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._rng.choice(schema["enum"])
        for keyword in ("anyOf", "oneOf"):
            if options := schema.get(keyword):
                at = len(options) - 1 if depth > _DEEPEST else self._rng.randrange(len(options))
                return self._value(options[at], name, depth + 1)
        return self._of_kind(_kind(schema), schema, name, depth)

    def _of_kind(self, kind: str, schema: dict[str, Any], name: str, depth: int) -> Any:
        match kind:
            case "object":
                value: Any = self._object(schema, depth)
            case "array":
                value = self._array(schema, name, depth)
            case "integer" | "number":
                value = self._number(schema, kind)
            case "boolean":
                value = self._rng.random() < 0.5
            case "null":
                value = None
            case _:
                value = self._string(schema, name)
        return value

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        for _ in range(_TOO_DEEP):
            if "allOf" in schema:
                merged = {key: value for key, value in schema.items() if key != "allOf"}
                for part in schema["allOf"]:
                    merged = _merged(merged, self._resolved(part))
                schema = merged
            reference = schema.get("$ref")
            if not isinstance(reference, str):
                return schema
            target: Any = self._root
            for step in reference.removeprefix("#").split("/")[1:]:
                key = step.replace("~1", "/").replace("~0", "~")
                target = target.get(key, {}) if isinstance(target, dict) else {}
            schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
        return {}

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        names = [name for name in properties if depth <= _DEEPEST or name in required]
        names += [name for name in required if name not in properties]
        return {name: self._value(properties.get(name, {}), name, depth + 1) for name in names}

    def _array(self, schema: dict[str, Any], name: str, depth: int) -> list[Any]:
        fewest = min(schema.get("minItems", 0), _MOST_ITEMS)
        most = schema.get("maxItems", max(fewest, 3))
        length = fewest if depth > _DEEPEST else min(max(fewest, self._rng.randint(1, 3)), most)
        return [self._value(schema.get("items", {}), name, depth + 1) for _ in range(length)]

    def _number(self, schema: dict[str, Any], kind: str) -> float:
        step = schema.get("multipleOf") or (1 if kind == "integer" else 0.01)
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        if low is None:
            low = 0 if high is None or high > 0 else high - 100 * step
        if high is None:
            high = low + 100 * step
        first = -(-low // step) + (schema.get("exclusiveMinimum") is not None)
        last = high // step - (schema.get("exclusiveMaximum") is not None)
        value = step * self._rng.randint(int(first), max(int(last), int(first)))
        return int(value) if kind == "integer" else round(float(value), 6)

    def _string(self, schema: dict[str, Any], name: str) -> str:
        known = _FORMATS.get(schema.get("format", ""))
        if known is not None:
            return known
        longest = schema.get("maxLength", 400)
        text = sentence(self._rng, self._topics) if name else self._rng.choice(self._topics)
        while len(text) < min(schema.get("minLength", 0), _MOST_CHARS):
            text += " " + sentence(self._rng, self._topics)
        return text[:longest]


def _kind(schema: dict[str, Any]) -> str:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    return str(kind)


def _merged(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    return {
        **left,
        **right,
        "properties": {**left.get("properties", {}), **right.get("properties", {})},
        "required": [*left.get("required", []), *right.get("required", [])],
    }
