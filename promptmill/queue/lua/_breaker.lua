-- A breaker for each budget. When the provider answers nobody, or refuses the account, one request at every interval
-- finds out whether that is over, and nobody else is sent. It is kept in the budget's hash:
--   answered        when (ms) the newest of the answered requests was sent
--   answered_at, answered_by              when (ms) the last answer came, and to which worker
--   others_at       when (ms) the last one came to any other worker
--   answer_ms       how long answers usually take
--   failures        how many requests in a row came to nothing
--   failing_since   when (ms) the first of them was reported, and failed_at the last
-- and, while it is open:
--   open_since, open_until                since when (ms), and when it ends at the latest, or 0 where nobody knows
--   open_reason, open_effect              why: the outcome, and what it tells ('trips' or 'parks')
--   probe_at, probe_every                 when (ms) the next request may go, and how long the one after it has to wait
--   probed_lane                           which lane the last one was of
--   tried1, tried2, tried3                how many probes each lane has sent: the next one is of the job that many behind
--   reroute_at                            from then (ms) on jobs that may ask another model are handed out to do so
--   looked_at                             when (ms) it was last begun to look for them from the head of each lane
--   looked1, looked2, looked3             how many jobs of each lane were looked at since
-- and for retries, which may take a share of the rate at most:
--   retry_tat, retry_step                 theoretical arrival time (ms), and what each of them adds to it
-- Rules: see promptmill/breaker.py, the same in Python, which a test compares step by step.
local ENOUGH = 20           -- failures in a row that are no coincidence
local TIMES_AN_ANSWER = 2   -- ... unless answers that take longer than failures are still under way
local LEAST_MS, MOST_MS, UNKNOWN_MS = 2000, 60000, 10000
local FORGOTTEN_MS = 3600000
local SMOOTHING = 20
local RESTART_SHARE, RESTART_GROWTH = 0.5, 2
local RETRY_BURST = 10
local OPEN = {
  'open_since', 'open_reason', 'open_effect', 'open_until', 'probe_at', 'probe_every', 'probed_lane', 'reroute_at',
  'tried1', 'tried2', 'tried3', 'looked_at', 'looked1', 'looked2', 'looked3',
}

local function put(budget, name, value)
  budget[name] = value
  if loaded[budget.key] ~= budget then loaded[budget.key] = nil end
  redis.call('HSET', budget.key, name, string.format('%.3f', value))
end

-- Somebody who deletes fields by hand closes it.
local function is_open(budget)
  return budget.open_since and budget.open_until and budget.probe_at and budget.probe_every
end

local function is_probe(budget, record)
  return is_open(budget) and record.charged > budget.open_since
end

-- Probes are no use: it rises again no faster than after a rest, and not before a pause that the provider asked for is
-- over.
local function close_breaker(budget, now)
  local share, growth = share_at(budget, now), math.min(RESTART_GROWTH, start_growth(budget, now) or RESTART_GROWTH)
  if share < 1 then growth = math.min(growth, budget.ramp_growth or growth) end
  redis.call('HDEL', budget.key, unpack(OPEN))
  local from = math.max(math.ceil(now), budget.blocked_until or 0)
  redis.call('HSET', budget.key, 'ramp_from', string.format('%.0f', from),
    'ramp_share', string.format('%.6f', math.min(share, RESTART_SHARE)), 'ramp_growth', growth)
  loaded[budget.key] = nil
end

-- Every token is the name of the worker and two numbers.
local function worker_of(record)
  return string.match(record.token, '^(.*)%.%d+%.%d+$') or record.token
end

-- A request was answered. Returns whether the budget goes on by that: it was a probe. What was sent before the breaker
-- opened says nothing about the time since.
local function note_answer(record, now)
  local budget = load_budget(record.budget)
  if not budget then return false end
  local took = math.max(0, now - record.charged)
  put(budget, 'answer_ms', budget.answer_ms and budget.answer_ms + (took - budget.answer_ms) / SMOOTHING or took)
  put(budget, 'answered', math.max(budget.answered or 0, record.charged))
  local worker = worker_of(record)
  if redis.call('HGET', budget.key, 'answered_by') ~= worker then
    put(budget, 'others_at', budget.answered_at or 0)
    redis.call('HSET', budget.key, 'answered_by', worker)
  end
  put(budget, 'answered_at', now)
  if budget.failures then
    redis.call('HDEL', budget.key, 'failures', 'failing_since', 'failed_at')
    budget.failures = nil
  end
  if record.failed_at > 0 and budget.retry_tat and budget.retry_step then
    put(budget, 'retry_tat', budget.retry_tat - budget.retry_step)
  end
  if not is_probe(budget, record) then return false end
  close_breaker(budget, now)
  return true
end

-- The API dealt with a request without asking the model. So it takes the account, but whoever says so stands at the
-- door, and goes on saying so while the models are out: the next probe goes at once, and it is that which finds out.
-- Returns whether the budget goes on.
local function note_taken(record, now)
  local budget = load_budget(record.budget)
  if not budget or not is_probe(budget, record) then return false end
  if redis.call('HGET', budget.key, 'open_effect') == 'parks' then
    close_breaker(budget, now)
    return true
  end
  put(budget, 'probe_at', now)
  return false
end

-- What a request showed by its reply: 'answered' (by the model), 'taken' (by the API, without asking the model), or ''.
-- Returns whether the budget goes on by that.
local function note_reply(record, reply, now)
  if record.charged == 0 or reply == '' then return false end
  if reply == 'answered' then return note_answer(record, now) end
  return note_taken(record, now)
end

-- What a lease of a job that failed before has to remember, to tell whose fault it is should it fail again.
local function seen_by(budget, record)
  return record.failed_at > 0 and math.floor(budget.answered or 0) or 0
end

-- Whether the job is to blame for its failure: as its request was sent, the provider had answered others since the
-- failure before.
local function is_to_blame(record)
  return record.blamed == 1 or (record.failed_at > 0 and record.seen > record.failed_at)
end

-- Whether nothing was answered lately: a row of failures that ended long ago is none.
local function is_failing(budget, now)
  return budget.failures and budget.failing_since and budget.failed_at and now - budget.failed_at <= FORGOTTEN_MS
end

-- Those of a job that fails alone are no news, nor is what was sent before a request that was answered.
local function note_failure(budget, record, now)
  if is_to_blame(record) or record.charged <= (budget.answered or 0) then return end
  local counted = is_failing(budget, now) and budget.failures or 0
  if counted == 0 then put(budget, 'failing_since', now) end
  put(budget, 'failed_at', now)
  put(budget, 'failures', counted + 1)
end

-- So long (ms) nobody must have been answered to mean anything.
local function long_enough(budget)
  local within = budget.answer_ms and budget.answer_ms * TIMES_AN_ANSWER or UNKNOWN_MS
  return math.max(LEAST_MS, math.min(within, MOST_MS))
end

local function is_out(budget, now)
  return is_failing(budget, now)
    and budget.failures >= ENOUGH
    and now - budget.failing_since >= long_enough(budget)
end

-- Whether a worker that cannot connect is cut off by itself: another one was answered lately.
local function is_cut_off(budget, record, now)
  local by = redis.call('HGET', budget.key, 'answered_by')
  local others_at = budget.answered_at
  if by == worker_of(record) then others_at = budget.others_at end
  return by and now - (others_at or 0) <= long_enough(budget)
end

-- Open it, or tell one that is open why it stays so. Returns whether that is news: an outage changes its face all the
-- time, but each refusal of the account is mended in another way.
local function open_breaker(budget, now, reason, effect, every_ms, until_ms, wait_ms)
  local before = redis.call('HMGET', budget.key, 'open_reason', 'open_effect')
  local is_news = not is_open(budget) or before[2] ~= effect or (effect == 'parks' and before[1] ~= reason)
  redis.call('HSET', budget.key, 'open_reason', reason, 'open_effect', effect)
  if not is_open(budget) then put(budget, 'open_since', math.ceil(now)) end
  if is_news then
    local at = now + every_ms
    if until_ms > now then at = math.min(at, until_ms) end
    put(budget, 'probe_every', every_ms)
    put(budget, 'open_until', until_ms)
    put(budget, 'probe_at', at)
  end
  put(budget, 'probe_at', math.max(budget.probe_at, now + wait_ms))
  return is_news
end

-- The request that is about to go is the probe of this interval, whatever becomes of it.
local function let_probe(budget, lane, now)
  local at = now + budget.probe_every
  if budget.open_until > now then at = math.min(at, budget.open_until) end
  put(budget, 'probe_at', at)
  put(budget, 'probed_lane', lane)
  put(budget, 'tried' .. lane, (budget['tried' .. lane] or 0) + 1)
  local looked = budget['looked' .. lane]
  if looked and looked > 0 then put(budget, 'looked' .. lane, looked - 1) end -- those behind it have moved up
end

-- Which job of a lane, counted from 0, is its next probe. One that failed keeps its place, but it may be what fails: so
-- the one behind it is tried next, and round again from the head.
local function probe_rank(budget, lane, jobs)
  return (budget['tried' .. lane] or 0) % jobs
end

-- How long (ms) a job that failed has to wait for its retry; one that is answered gives its place back. Whoever waits
-- at a screen does not wait for that.
local function retry_wait(budget, record, now, share)
  if not budget.requests_rate then return 0 end
  put(budget, 'retry_step', 60000 / (budget.requests_rate * share))
  put(budget, 'retry_tat', math.max(budget.retry_tat or 0, now) + budget.retry_step)
  if record.lane == 1 then return 0 end
  return math.max(0, budget.retry_tat - RETRY_BURST * budget.retry_step - now)
end
