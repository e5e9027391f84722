"""What the doctor looks at. Nothing here is judged, and nothing holds a password or a key (I7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """The Redis or Valkey server. With `error`, nothing else is known."""

    address: str
    embedded: bool
    local: bool = True
    """On this machine, as far as its address tells."""
    error: str | None = None
    product: str = "redis"
    version: tuple[int, ...] = ()
    compatible_with: tuple[int, ...] = ()
    """The Redis version whose commands it speaks; the same as `version` unless it is a Valkey."""
    append_only: bool = False
    snapshots: bool | None = None
    """None: the server does not let its configuration be read."""
    last_write_ok: bool = True
    """Of the append-only file; a server that could not write it refuses jobs."""
    eviction: str = "noeviction"
    memory_limit: int = 0
    """Bytes; 0: none."""
    memory_used: int = 0
    cluster: bool = False
    replica: bool = False
    clock_ahead: timedelta = timedelta(0)
    """How far its clock is ahead of this machine's."""
    clock_uncertainty: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """The result store. With `error`, nothing else is known."""

    address: str
    error: str | None = None
    sqlite: bool = True
    schema: str | None = None
    """None: there is no schema yet."""
    newest_schema: str = ""
    write_error: str | None = None


@dataclass(frozen=True, slots=True)
class LimitFacts:
    """What is taken to be the account's limits for one model class, a minute, and who says so."""

    model_class: str
    requests: int
    input_tokens: int
    output_tokens: int
    sources: Mapping[str, str]
    """Dimension (`requests`, `input`, `output`) to where its limit comes from."""

    @property
    def assumed(self) -> bool:
        """Whether nobody stated the limits."""
        return set(self.sources.values()) == {ASSUMED}


ASSUMED = "assumed: the lowest tier"


@dataclass(frozen=True, slots=True)
class PackageFacts:
    """An optional package."""

    name: str
    extra: str
    version: str | None
    """None: not installed."""


@dataclass(frozen=True, slots=True)
class CanaryFacts:
    """The set of canaries that the settings name."""

    name: str
    count: int = 0
    models: tuple[str, ...] = ()
    every: timedelta = timedelta(0)
    error: str | None = None
    """What is wrong with the set, or with a model that it is sent to."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that was looked at."""

    redis: RedisFacts
    store: StoreFacts
    key_given: bool
    key_is_clean: bool
    """Neither white space nor a line end in it."""
    base_url: str | None
    limits: tuple[LimitFacts, ...]
    unknown_models: tuple[str, ...]
    """One message for each model of the settings that belongs to no known class."""
    data_dir: Path
    disk_free: int
    """Bytes, where the data directory is or will be."""
    python: str
    promptmill: str
    packages: tuple[PackageFacts, ...] = field(default=())
    canaries: CanaryFacts | None = None
    """None: none are to be sent."""
