"""What happens to one request, from its bytes to the decision what to send. No I/O: `wire` carries it out.

The way of a request: key, form, fault, limit, answer. Each step can end it. All of it runs in one go on the
event loop, so nothing here needs a lock.
"""

import itertools
import math
from dataclasses import dataclass
from random import Random

import orjson

from promptmill.testing.simulator import validation
from promptmill.testing.simulator.answer import Answer, InputUsage
from promptmill.testing.simulator.budget import Account, Budget, Refusal
from promptmill.testing.simulator.clock import SECOND_NS, Clock, to_ns
from promptmill.testing.simulator.config import Control, Limits, SimulatorConfig
from promptmill.testing.simulator.fault_plan import MARKER, FaultPlan, Marker, markers_in
from promptmill.testing.simulator.faults import OVERLOADED, Disruption, Fault, Reached
from promptmill.testing.simulator.models import CATALOGUE, find_model
from promptmill.testing.simulator.prompt import Prompt, read_prompt
from promptmill.testing.simulator.prompt_cache import PromptCache
from promptmill.testing.simulator.replies import ErrorReply, PlainReply, RejectedError
from promptmill.testing.simulator.stats import Stats, StatsSnapshot
from promptmill.testing.simulator.writer import write_answer

_SLOW_FIRST_BYTE_NS = 3 * SECOND_NS


@dataclass(frozen=True, slots=True)
class Delivery:
    """An answer to be delivered at the pace it is generated, perhaps disrupted on the way."""

    answer: Answer
    streams: bool
    start_ns: int
    """When the first token is there."""
    per_token_ns: int
    disruption: Disruption | None = None

    @property
    def end_ns(self) -> int:
        """When the last token is there."""
        return self.start_ns + self.answer.output_tokens * self.per_token_ns


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be sent for one request."""

    request_id: str
    does: ErrorReply | PlainReply | Disruption | Delivery | bytes
    """`bytes` is the JSON body of a 200."""
    due_ns: int
    """Not before this moment."""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Arrival:
    """One request to `POST /v1/messages`, as it came in."""

    number: int
    now_ns: int
    request_id: str
    job: str | None


@dataclass(frozen=True, slots=True)
class _Call:
    """An arrival that was read and found to be in order."""

    arrival: _Arrival
    prompt: Prompt
    markers: tuple[Marker, ...]
    rng: Random
    """Of this content and seed alone: the same request draws the same latency and the same answer."""


@dataclass(frozen=True, slots=True)
class _Admission:
    """What the rate limiter said yes to, and when the model will have the first token."""

    usage: InputUsage
    budget: Budget
    headers: tuple[tuple[str, str], ...]
    start_ns: int
    per_token_ns: int


class Provider:
    """The simulated API behind its HTTP server. Owns limits, cache, faults and counts."""

    def __init__(self, config: SimulatorConfig, clock: Clock) -> None:
        now_ns = clock.now_ns()
        self.config = config
        self.stats = Stats(track=config.track)
        self._clock = clock
        self._account = Account(now_ns)
        self._cache = PromptCache()
        self._faults = FaultPlan(config.seed)
        self._numbered = 0
        self._ids = itertools.count(1)
        self._set_limits(now_ns)
        self._faults.set_rules(config.faults, now_ns=now_ns, requests_so_far=0)

    def control(self, control: Control) -> None:
        """Change settings while running. `refuse_connections` is the server's part, not this one's."""
        now_ns = self._clock.now_ns()
        self.config = self.config.changed_by(control)
        self._set_limits(now_ns)
        if "faults" in control.model_fields_set:
            self._faults.set_rules(self.config.faults, now_ns=now_ns, requests_so_far=self._numbered)
        for _, _, bucket in self._account.buckets():
            if control.refill:
                bucket.refill(now_ns)
            if control.reset_stats:
                bucket.restart_counts(now_ns)
        if control.reset_stats:
            self.stats.reset()

    def snapshot(self, *, keys: bool = False) -> StatsSnapshot:
        """Return the counts so far; by job and content only when `keys` (and `track` is on)."""
        return self.stats.snapshot(self._account.buckets(), now_ns=self._clock.now_ns(), keys=keys)

    def create(self, raw: bytes | None, *, authorization: str, job: str | None) -> Plan:
        """Decide a `POST /v1/messages`. `raw` None: the body was too large to be read."""
        self._numbered += 1
        now_ns = self._clock.now_ns()
        self.stats.arrival(now_ns)
        arrival = _Arrival(self._numbered, now_ns, self._request_id("req"), job)
        fault = None
        try:
            plan, fault = self._decide(arrival, raw, authorization)
        except RejectedError as rejected:
            plan = Plan(arrival.request_id, rejected.reply, now_ns, rejected.headers)
        self.stats.decided(_status(plan), fault=None if fault is None else fault.name, job=job)
        return plan

    def count(self, raw: bytes | None, *, authorization: str) -> Plan:
        """Decide a `POST /v1/messages/count_tokens`. Faults do not strike here."""
        now_ns = self._clock.now_ns()
        request_id = self._request_id("req_count")
        try:
            validation.check_key(authorization, self.config.rejected_keys)
            if raw is None:
                raise validation.too_large()
            body = validation.parse(raw)
            prompt = read_prompt(body, validation.check_count(body))
            budget = self._account.counting
            refusal = budget.admit(input_tokens=0, max_tokens=0, now_ns=now_ns)
            headers = self._headers(budget, now_ns)
            if refusal is not None:
                raise _too_many(refusal, "token counting", headers)
            plan = Plan(request_id, orjson.dumps({"input_tokens": prompt.tokens}), now_ns, headers)
        except RejectedError as rejected:
            plan = Plan(request_id, rejected.reply, now_ns, rejected.headers)
        self.stats.count_tokens[_status(plan)] += 1
        return plan

    def list_models(self, *, authorization: str, limit: int, after: str | None) -> Plan:
        """Decide a `GET /v1/models`: up to `limit` models, those after the id `after`."""
        names = list(CATALOGUE)
        start = names.index(after) + 1 if after in names else 0
        page = names[start : start + limit]
        listing = {
            "data": [CATALOGUE[name].describe() for name in page],
            "first_id": page[0] if page else None,
            "last_id": page[-1] if page else None,
            "has_more": start + limit < len(names),
        }
        return self._looked_up(authorization, orjson.dumps(listing))

    def get_model(self, name: str, *, authorization: str) -> Plan:
        """Decide a `GET /v1/models/{id}`."""
        model = find_model(name)
        if model is None:
            return self._looked_up(authorization, ErrorReply(404, "not_found_error", f"model: {name}"))
        return self._looked_up(authorization, orjson.dumps(model.describe()))

    def not_found(self, path: str) -> Plan:
        """Decide a request to a path that does not exist."""
        return Plan(
            self._request_id("req_lost"), ErrorReply(404, "not_found_error", f"Not found: {path}"), self._clock.now_ns()
        )

    def _decide(self, arrival: _Arrival, raw: bytes | None, authorization: str) -> tuple[Plan, Fault | None]:
        """Take a request its way, step by step; also the fault that struck it. Raises `RejectedError`."""
        validation.check_key(authorization, self.config.rejected_keys)
        call = self._read(arrival, raw)
        fault = self._fault_for(call)
        if fault is not None and fault.reached is Reached.EDGE:
            plan = Plan(arrival.request_id, fault.sent_instead(), arrival.now_ns)
        else:
            admission = self._admit(call)
            if fault is not None and fault.reached is Reached.LIMITER:
                plan = self._fail(call, admission, fault)
            else:
                plan = self._answer(call, admission, fault)
        if call.markers:
            self._faults.use_marker(call.prompt.digest)
        return plan, fault

    def _read(self, arrival: _Arrival, raw: bytes | None) -> _Call:
        if raw is None:
            raise validation.too_large()
        body = validation.parse(raw)
        prompt = read_prompt(body, validation.check_create(body))
        validation.check_length(prompt)
        self.stats.by_model[prompt.model.id] += 1
        self.stats.key(job=arrival.job, content=prompt.digest.hex())
        return _Call(
            arrival,
            prompt,
            markers_in(body) if MARKER in raw else (),
            Random(int.from_bytes(prompt.digest) << 64 | self.config.seed),
        )

    def _fault_for(self, call: _Call) -> Fault | None:
        return self._faults.choose(
            number=call.arrival.number,
            now_ns=call.arrival.now_ns,
            model_class=call.prompt.model.model_class,
            content=call.prompt.digest,
            markers=call.markers,
        )

    def _admit(self, call: _Call) -> _Admission:
        """Charge a request at its start, or refuse it with 429."""
        now_ns = call.arrival.now_ns
        usage = self._cache.split(call.prompt, now_ns)
        budget = self._account.budgets[call.prompt.model.model_class]
        refusal = budget.admit(input_tokens=usage.limited, max_tokens=call.prompt.max_tokens, now_ns=now_ns)
        headers = self._headers(budget, now_ns)
        if refusal is not None:
            self.stats.refused(refusal.dimension, usage.limited)
            raise _too_many(refusal, call.prompt.model.id, headers)
        self.stats.granted(usage.limited)
        self._cache.remember(call.prompt, now_ns)
        start_ns, per_token_ns = self._pace(now_ns, call.rng)
        return _Admission(usage, budget, headers, start_ns, per_token_ns)

    def _fail(self, call: _Call, admission: _Admission, fault: Fault) -> Plan:
        """Break down on an admitted request, without any output."""
        due_ns = admission.start_ns
        admission.budget.generate(0, max_tokens=call.prompt.max_tokens, start_ns=due_ns, end_ns=due_ns)
        return Plan(call.arrival.request_id, fault.sent_instead(), due_ns, admission.headers)

    def _answer(self, call: _Call, admission: _Admission, fault: Fault | None) -> Plan:
        """Generate an answer, and spoil it if there is a fault."""
        prompt, request_id = call.prompt, call.arrival.request_id
        answer = write_answer(
            prompt,
            admission.usage,
            message_id=f"msg_{prompt.digest.hex()}{call.arrival.number:08d}",
            settings=self.config.answers,
            rng=call.rng,
        )
        action = None if fault is None else fault.action
        if callable(action):
            answer = action(answer, call.rng)
        delivery = Delivery(
            answer,
            streams=prompt.streams,
            start_ns=admission.start_ns + (_SLOW_FIRST_BYTE_NS if action is Disruption.SLOW_FIRST_BYTE else 0),
            per_token_ns=admission.per_token_ns,
            disruption=action if isinstance(action, Disruption) else None,
        )
        output_tokens = answer.output_tokens
        admission.budget.generate(
            output_tokens, max_tokens=prompt.max_tokens, start_ns=delivery.start_ns, end_ns=delivery.end_ns
        )
        self.stats.generated(output_tokens, job=call.arrival.job, content=prompt.digest.hex())
        if isinstance(action, ErrorReply | PlainReply):
            return Plan(request_id, action, delivery.end_ns, admission.headers)
        if action is Disruption.STREAM_ERROR and not prompt.streams:
            return Plan(request_id, OVERLOADED, delivery.end_ns, admission.headers)
        due_ns = delivery.start_ns if prompt.streams else delivery.end_ns
        return Plan(request_id, delivery, due_ns, admission.headers)

    def _pace(self, now_ns: int, rng: Random) -> tuple[int, int]:
        """Return when the first token of an answer is there, and the time each one takes."""
        latency = self.config.latency
        drawn = math.exp(latency.sigma * rng.gauss(0, 1))  # drawn in any case: latency must not change answers
        first_byte_ns = int(to_ns(latency.first_byte) * latency.scale * drawn)
        return now_ns + first_byte_ns, int(to_ns(latency.per_token) * latency.scale)

    def _headers(self, budget: Budget, now_ns: int) -> tuple[tuple[str, str], ...]:
        return tuple(budget.headers(now_ns=now_ns, utc=self._clock.utc())) if budget.buckets else ()

    def _looked_up(self, authorization: str, found: bytes | ErrorReply) -> Plan:
        now_ns = self._clock.now_ns()
        request_id = self._request_id("req_models")
        try:
            validation.check_key(authorization, self.config.rejected_keys)
        except RejectedError as rejected:
            return Plan(request_id, rejected.reply, now_ns)
        return Plan(request_id, found, now_ns)

    def _request_id(self, kind: str) -> str:
        return f"{kind}_{self.config.seed:04x}{next(self._ids):012d}"

    def _set_limits(self, now_ns: int) -> None:
        self._account.change(
            self.config.limits_by_class(),
            counting=Limits(rpm=self.config.count_tokens_rpm),
            charge_max_tokens=self.config.charge_max_tokens,
            foreign_load=self.config.foreign_load,
            now_ns=now_ns,
        )


def _too_many(refusal: Refusal, what: str, headers: tuple[tuple[str, str], ...]) -> RejectedError:
    words = refusal.dimension.value.replace("-", " ")
    message = (
        f"This request would exceed your organization's rate limit of {refusal.per_minute} {words} per minute ({what})."
    )
    reply = ErrorReply(429, "rate_limit_error", message, retry_after=refusal.retry_after)
    return RejectedError(reply, headers)


def _status(plan: Plan) -> int:
    """Return the status that is sent for a plan; 0 when none is."""
    match plan.does:
        case ErrorReply() | PlainReply() as reply:
            return reply.status
        case Disruption():
            return 0
        case _:
            return 200
