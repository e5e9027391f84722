"""Every Redis key and channel, in one table. Scripts build the same names; `tests/architecture` compares the two.

| key | type | holds | ends |
|---|---|---|---|
| `promptmill:queue` | sorted set | every unsettled job's id; score 1: ready in its lane, else the time (ms) of the next event: when it is due, its deadline, or its lease's end. It is arq's queue as well: an id without a record was put there by an arq client and is adopted | settle |
| `promptmill:jobs` | hash | id to record (see lua/_record.lua): state, lane, budget, cost, counters, token | settle |
| `arq:job:<id>` | string | the payload: arq's envelope around the job, JSON | settle |
| `promptmill:lane:<budget>:<lane>` | sorted set | ids of ready jobs; score: order, fair between tenants | claim |
| `promptmill:due` | sorted set | ids of ready jobs that need no budget, since they only have to be ended (cancelled, expired); score: order | claim |
| `promptmill:budget:<model class>` | hash | limits, theoretical arrival times, what lower lanes are owed, whose turn it is in each lane, blocked until and why, how it comes back to its rate (see lua/_budget.lua), what the provider says of its own buckets (see lua/_seen.lua), its breaker (see lua/_breaker.lua) | kept |
| `promptmill:budgets` | set | model classes that have a budget | kept |
| `promptmill:tenants:<budget>:<lane>` | hash | tenant to the order of its newest job in that lane (see lua/_turns.lua); at most 10,000 and what one call adds | kept |
| `promptmill:learned:<model class>` | hash | kind of prompt to the means of its answers (see lua/_learned.lua); at most 1,000 | kept |
| `promptmill:spend` | hash | model class and lane to what was spent in the present hour and day; which caps were told of (see lua/_spend.lua) | kept |
| `promptmill:halts` | hash | lanes that are paused and models that are not used as fallbacks, since when, until when and why (see lua/_halts.lua) | lifted, or over |
| `promptmill:idle` | sorted set | workers with free slots; score: when each comes back by itself (ms) | worker |
| `promptmill:heard` | hash | when a worker last renewed its leases, and until when nobody's lease is taken over after nobody did for long (see lua/_heard.lua) | kept |
| `promptmill:workers` | hash | worker id to what it last said of itself, JSON | worker; of a killed one, when another begins a day later |
| `promptmill:status-page` | string | what the provider's status page said last, JSON | 5 minutes after it was asked |
| `promptmill:status-page-turn` | string | the worker that asked it last, while nobody else is to | a minute |
| `promptmill:run:<run>` | hash | jobs submitted and ended by status, tokens, cost in nano-USD; when it will be done, as whoever follows it last said, or which of its jobs are answered last | 30 days after the last change |
| `arq:result:<id>` | string | the result in arq's envelope, for whoever waits | `keep_result` |

| channel | says | to whom |
|---|---|---|
| `promptmill:wake:<worker>` | there may be something to claim | that worker |
| `promptmill:done:<id>` | the result is there | whoever waits for it |
| `promptmill:run-done:<run>` | one more job of the run ended: its id | whoever follows the run |
| `promptmill:cancel` | this id is to be stopped | every worker |
"""

from typing import Final

QUEUE: Final = "promptmill:queue"
JOBS: Final = "promptmill:jobs"
PAYLOAD: Final = "arq:job:"
RESULT: Final = "arq:result:"
LANE: Final = "promptmill:lane:"
DUE: Final = "promptmill:due"
BUDGET: Final = "promptmill:budget:"
BUDGETS: Final = "promptmill:budgets"
TENANTS: Final = "promptmill:tenants:"
LEARNED: Final = "promptmill:learned:"
SPEND: Final = "promptmill:spend"
HALTS: Final = "promptmill:halts"
IDLE: Final = "promptmill:idle"
HEARD: Final = "promptmill:heard"
WORKERS: Final = "promptmill:workers"
STATUS_PAGE: Final = "promptmill:status-page"
STATUS_PAGE_TURN: Final = "promptmill:status-page-turn"
RUN: Final = "promptmill:run:"

WAKE_CHANNEL: Final = "promptmill:wake:"
DONE_CHANNEL: Final = "promptmill:done:"
RUN_CHANNEL: Final = "promptmill:run-done:"
CANCEL_CHANNEL: Final = "promptmill:cancel"
