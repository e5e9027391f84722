-- Who comes back when. promptmill:idle holds every worker with free slots, by the time at which it will claim again
-- unless it is woken before. One worker watches for the next event; the others stand behind it, staggered,
-- so that one slot of budget wakes one worker, and a watcher that died is replaced by the next in line.
local SLACK_MS = 1      -- an alarm that much later still serves
local GRACE_MS = 250    -- an alarm that long overdue belongs to a worker that is dead or stopped
local REST_MS = 1000    -- somebody always looks that often: arq clients put jobs in without waking anybody
local LONGEST_MS = 15000 -- the last in line looks that often: all before it may have died at once

local function first_alarm(now)
  while true do
    local first = redis.call('ZRANGE', IDLE, 0, 0, 'WITHSCORES')
    if not first[1] then return nil end
    if tonumber(first[2]) >= now - GRACE_MS then return tonumber(first[2]) end
    redis.call('ZREM', IDLE, first[1])
  end
end

-- PUBLISH counts who heard it: a worker that nobody listens for is gone, and the next one is asked.
local function wake_one(now)
  for _, worker in ipairs(redis.call('ZRANGE', IDLE, 0, -1)) do
    if redis.call('PUBLISH', WAKE_CHANNEL .. worker, '1') > 0 then
      redis.call('ZADD', IDLE, now, worker)
      return
    end
    redis.call('ZREM', IDLE, worker)
  end
end

-- Make sure that somebody claims at `at`, if anybody is free.
local function ensure_alarm(at, now)
  local first = first_alarm(now)
  if not first or first > math.max(at, now) + SLACK_MS then wake_one(now) end
end

-- When a claim could lease the ready job of this record, were it the next; nobody need come sooner on its account.
local function claimable_at(record, now)
  local budget = record.ends == 0 and load_budget(record.budget)
  local urgent = budget and (record.lane == 1 or is_owed(budget, record.lane, now))
  return budget and math.max(now, admissible_at(budget, expected_cost(record), now, urgent)) or now
end

-- Enter the caller for `at` if nobody else comes by then, behind the last one otherwise; the time when it is to come.
local function set_alarm(worker, at, now)
  redis.call('ZREM', IDLE, worker)
  local first = first_alarm(now)
  if first and first <= at + SLACK_MS then
    local last = tonumber(redis.call('ZRANGE', IDLE, -1, -1, 'WITHSCORES')[2])
    at = math.min(math.max(last, at) + math.max(REST_MS, 3 * (at - now)), now + LONGEST_MS)
  end
  redis.call('ZADD', IDLE, string.format('%.3f', at), worker)
  return at
end
