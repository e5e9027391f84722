-- Names of keys and channels. promptmill/queue/keys.py says what each holds; a test compares the two.
local QUEUE, JOBS, LANE, DUE = 'promptmill:queue', 'promptmill:jobs', 'promptmill:lane:', 'promptmill:due'
local BUDGET, BUDGETS, TENANTS = 'promptmill:budget:', 'promptmill:budgets', 'promptmill:tenants:'
local SPEND, HALTS = 'promptmill:spend', 'promptmill:halts'
local IDLE, RUN, LEARNED = 'promptmill:idle', 'promptmill:run:', 'promptmill:learned:'
local HEARD = 'promptmill:heard'
local PAYLOAD, RESULT = 'arq:job:', 'arq:result:'
local WAKE_CHANNEL, DONE_CHANNEL = 'promptmill:wake:', 'promptmill:done:'
local RUN_CHANNEL, CANCEL_CHANNEL = 'promptmill:run-done:', 'promptmill:cancel'

-- Redis at its `maxmemory` refuses a script whose first write might take memory; later writes pass. What makes room
-- (claiming, renewing, settling, ...) would be refused with the rest, so its first write is this one, which takes none.
local function run_when_full()
  redis.call('ZREM', IDLE, '')
end

-- Milliseconds since the epoch on Redis' clock, with microseconds behind the point. Hosts' clocks disagree;
-- only tests hand in a time of their own.
local function clock(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return time[1] * 1000 + time[2] / 1000
end
