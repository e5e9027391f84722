"""Names of log events. Logs are an interface: what is logged is in this table, and a test compares whole entries.

No event carries a prompt, an answer or a key (I7).
"""

from typing import Final

WORKER_STARTED: Final = "worker_started"
"""worker, concurrency, model_classes"""
WORKER_STOPPING: Final = "worker_stopping"
"""worker, running, grace_s: SIGTERM or SIGINT came; nothing is claimed any more"""
WORKER_STOPPED: Final = "worker_stopped"
"""worker, succeeded, failed, returned"""
METRICS_SERVED: Final = "metrics_served"
"""address: where Prometheus may scrape this worker with all of its processes"""
WORKER_DIED: Final = "worker_died"
"""pid, exit_code, restarts: the supervisor starts another"""

JOB_ENDED: Final = "job_ended"
"""job, status, outcome, model, lane, run, attempt, latency_s, queue_time_s, input_tokens, output_tokens, cost_usd"""
JOB_WENT_BACK: Final = "job_went_back"
"""job, outcome, blame, message, model, attempt, wait_s, uses_attempt, request_id"""
JOB_REROUTED: Final = "job_rerouted"
"""job, model, next: its model was out for longer than jobs with fallbacks wait"""
JOB_ADOPTED: Final = "job_adopted"
"""job: an arq client had enqueued it"""
MEASURE_FAILED: Final = "measure_failed"
"""job, what, error, where: a fault in pricing or in the metrics; the answer is kept without"""
METRIC_FAILED: Final = "metric_failed"
"""job, metric, error, where: a plug-in raised, or returned what its kind does not have; its value is left empty"""
METRIC_LATE: Final = "metric_late"
"""job, metric, off: a plug-in did not return in time; `off` once it is not asked any more until the worker restarts"""
LEASE_LOST: Final = "lease_lost"
"""job: somebody else runs it now; nothing was written"""
JOB_CRASHED: Final = "job_crashed"
"""job, error, where: a fault in the worker itself; the lease runs out and the job is tried again"""
HELPER_CRASHED: Final = "helper_crashed"
"""error, where: a fault beside the jobs (renewing, listening, cron); it goes on after a moment"""

BUDGET_PAUSED: Final = "budget_paused"
"""model_class, outcome, pause_s"""
BUDGET_PARKED: Final = "budget_parked"
"""model_class, outcome, says, probe_s: the owner has to do something; said once, by one worker of the fleet"""
BREAKER_OPENED: Final = "breaker_opened"
"""model_class, outcome, says, probe_s: the provider answers nobody; said once, likewise"""
BREAKER_CLOSED: Final = "breaker_closed"
"""model_class: a probe was answered, and the budget goes on; said once"""
WORKER_CUT_OFF: Final = "worker_cut_off"
"""longest_rest_s: this worker finds no connection to the provider while others are answered (its host's network, DNS or
certificates): it claims one job at a time, after a rest, until one gets through; its jobs go to the others"""
WORKER_REACHES_AGAIN: Final = "worker_reaches_again"
"""The worker that was cut off is not any more"""
PROVIDER_SAYS: Final = "provider_says"
"""indicator, description: what the provider's status page says, asked while requests come to nothing; said when it says
something else than before, by one worker. It opens and closes nothing"""
SPEND_CAP_REACHED: Final = "spend_cap_reached"
"""cap, action, spent_usd, lane, model_class: told once in its hour or day, by one worker; `park`: nothing more is sent
that the cap is for until the hour or day is over"""
BURST_WAITS: Final = "burst_waits"
"""why: in burst mode, jobs are left of which none may be sent; the worker stays until they can be, or until it is
stopped; said once for each reason"""
LIMIT_DIFFERS: Final = "limit_differs"
"""model_class, dimension, assumed, limit, obeyed: the provider names another limit than the settings, or than it did
before (units a minute); said once for all workers, and obeyed unless the budget is pinned"""
PRICE_UNKNOWN: Final = "price_unknown"
"""model: said once for each; the cost of its jobs is left empty"""

ANSWERS_WORSE: Final = "answers_worse"
"""asked_model, model, kind, lane, metric, direction, way, since, answers, once_in: an alarm was raised; `promptmill
alarms` shows its evidence"""
ANSWERS_RECOVERED: Final = "answers_recovered"
"""asked_model, model, kind, lane, metric: the alarm was resolved, answers are again as they were"""

REDIS_AWAY: Final = "redis_away"
"""error: nothing is sent until it is back"""
REDIS_BACK: Final = "redis_back"
REDIS_UNSAFE: Final = "redis_unsafe"
"""subject, says, advice: it may lose jobs or budgets (no persistence, eviction, ...); said once at the start"""
STORE_AWAY: Final = "store_away"
"""error: nothing is settled and nothing claimed until it is back"""
STORE_BACK: Final = "store_back"
