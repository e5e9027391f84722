"""What promptmill raises.

PromptmillError
├── BadInput                what a caller handed in cannot be used; the message says what was expected
│   ├── BadJob              a job that would be refused, found before it was queued
│   │   └── KeyReused       an idempotency key that stands for another request
│   ├── BadFile             a prompt file with lines that cannot be used
│   └── BadSettings         a mistyped or impossible setting
├── Unavailable             something outside this process does not answer
│   ├── QueueUnavailable    Redis
│   └── StoreUnavailable    the result store
│       └── StoreMissing    there is none at its address
├── StoreTooNew             the store was migrated by a later promptmill
├── MissingExtra            an optional package is needed for what was asked
├── LeaseLost               this worker no longer holds the job: it writes nothing (I2)
└── ResultNotFound          nobody knows a job of this id

The command line turns each into one line on standard error and exit code 2.
"""


class PromptmillError(Exception):
    """Anything that promptmill raises on purpose."""


class BadInput(PromptmillError):  # noqa: N818 - named by what it is, as in the tree above
    """What was handed in cannot be used."""


class BadJob(BadInput):
    """A job that cannot be queued as it is."""


class KeyReused(BadJob):
    """An idempotency key that stands for another request already."""

    def __init__(self) -> None:
        super().__init__(
            "idempotency_key: expected the request that it was used for before, got another; use a new key"
        )


class BadSettings(BadInput):
    """A setting that is unknown, malformed or impossible."""


class BadFile(BadInput):
    """A prompt file that cannot be used.

    `problems` holds (line number, field or "", reason) for each bad line found.
    """

    def __init__(self, message: str, problems: tuple[tuple[int, str, str], ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class Unavailable(PromptmillError):  # noqa: N818
    """Something outside this process does not answer."""


class QueueUnavailable(Unavailable):
    """Redis does not answer."""


class QueueFull(QueueUnavailable):
    """Redis has no memory left: it takes no job in, and goes on with those that it has."""


class StoreUnavailable(Unavailable):
    """The result store does not answer, or cannot write."""


class StoreMissing(StoreUnavailable):
    """There is no result store at its address: it was not made yet, or somebody moved or deleted it."""


class StoreTooNew(PromptmillError):  # noqa: N818
    """The store's schema is newer than this promptmill."""


class MissingExtra(PromptmillError):  # noqa: N818
    """An optional package is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f'{feature} needs an optional package: pip install "promptmill[{extra}]"')


class LeaseLost(PromptmillError):  # noqa: N818
    """The lease ran out or was taken over; whoever sees this must write nothing for the job."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"the lease on job {job_id} is no longer held by this worker")
        self.job_id = job_id


class ResultNotFound(PromptmillError):  # noqa: N818
    """No job of this id is queued, and no result of it is kept in Redis."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"no job {job_id!r} is queued and no result of it is kept in Redis; "
            "older results are in the result store (promptmill results)"
        )
        self.job_id = job_id
