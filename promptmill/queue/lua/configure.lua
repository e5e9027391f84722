-- needs: keys, budget
-- Set a budget's limits. One that Redis does not know (yet, or any more) starts empty, never full: what was spent
-- a moment ago may have been forgotten with it.
-- ARGV  1 now (ms, or '')   2 model class; then two for each dimension (requests, input, output):
--       units a minute, units that may go at once
-- Returns 1 if the budget is new, else 0.
local now, key = clock(ARGV[1]), BUDGET .. ARGV[2]
local is_new = 0
run_when_full()
for n, d in ipairs(DIMENSIONS) do
  local rate, burst = tonumber(ARGV[1 + 2 * n]), tonumber(ARGV[2 + 2 * n])
  if redis.call('HEXISTS', key, d .. '_tat') == 0 then
    is_new = 1
    redis.call('HSET', key, d .. '_tat', string.format('%.3f', now + burst * 60000 / rate))
  end
  redis.call('HSET', key, d .. '_rate', rate, d .. '_burst', burst)
end
redis.call('SADD', BUDGETS, ARGV[2])
return is_new
