-- needs: keys, record, learned, seen, budget, breaker, alarm
-- Let nobody spend from a budget for a time: the provider asked for a pause, or the budget is parked.
-- ARGV  1 now (ms, or '')   2 model class   3 for how long (ms; 0 lifts a block, and closes an open breaker)   4 reason
--       5 id of the leased job whose request was refused, or ''
-- Returns until when (ms) the budget is blocked. A shorter block never cuts a longer one.
-- After a refusal the budget goes on at half its rate and comes back evenly. The pause needs no jitter against all
-- coming back at once: nobody sends but who is granted a slot here, and slots open one after the other.
local now, for_ms = clock(ARGV[1]), tonumber(ARGV[3])
local LEAST_SHARE = 1 / 16
run_when_full()
local budget = read_budget(ARGV[2])
if for_ms == 0 then
  redis.call('HDEL', budget.key, 'blocked_until', 'reason', 'slowed_at', 'ramp_from', 'ramp_share', 'ramp_growth',
    'failures', 'failing_since', 'failed_at', unpack(OPEN))
  ensure_alarm(now, now)
  return '0'
end
local current, until_ms = budget.blocked_until or 0, math.ceil(now + for_ms)
if until_ms <= current then return string.format('%.0f', current) end
redis.call('HSET', budget.key, 'blocked_until', string.format('%.0f', until_ms), 'reason', ARGV[4])

local growth = GROWTH[ARGV[4]]
if growth then
  local share = share_at(budget, now)
  if ARGV[4] == 'ramp_limited' then redis.call('HSET', budget.key, 'steep_at', string.format('%.0f', now)) end
  if share < 1 then growth = math.min(growth, budget.ramp_growth or growth) end
  -- Those that were under way when it was last slowed down say nothing about the rate since.
  local record = load_record(ARGV[5])
  local charged = record and record.charged > 0 and record.charged or now
  if charged > (budget.slowed_at or 0) then
    share = math.max(share / 2, math.min(share, LEAST_SHARE))
    redis.call('HSET', budget.key, 'slowed_at', string.format('%.0f', math.ceil(now)))
  end
  redis.call('HSET', budget.key, 'ramp_from', string.format('%.0f', until_ms),
    'ramp_share', string.format('%.6f', share), 'ramp_growth', growth)
end
return string.format('%.0f', until_ms)
