-- needs: keys, budget, alarm
-- Let nobody spend from a budget for a time: the provider asked for a pause, or the budget is parked.
-- ARGV  1 now (ms, or '')   2 model class   3 for how long (ms; 0 lifts a block)   4 reason
-- Returns until when (ms) the budget is blocked. A shorter block never cuts a longer one.
local now, key, for_ms = clock(ARGV[1]), BUDGET .. ARGV[2], tonumber(ARGV[3])
run_when_full()
local current = tonumber(redis.call('HGET', key, 'blocked_until') or 0)
if for_ms == 0 then
  redis.call('HDEL', key, 'blocked_until', 'reason')
  ensure_alarm(now, now)
  return '0'
end
local until_ms = math.ceil(now + for_ms)
if until_ms <= current then return string.format('%.0f', current) end
redis.call('HSET', key, 'blocked_until', string.format('%.0f', until_ms), 'reason', ARGV[4])
return string.format('%.0f', until_ms)
