-- needs: keys, seen, budget
-- Set a budget's limits. One that Redis does not know (yet, or any more) starts empty, never full: what was spent
-- a moment ago may have been forgotten with it. Limits that the provider has named stay, unless they are pinned.
-- ARGV  1 now (ms, or '')   2 model class   3 whether the provider's word does not count (1, else 0)
--       4 how long (ms) a budget that has rested takes to its whole rate
--       then three for each dimension (requests, input, output):
--       its limit in units a minute, units a minute that may be spent, units that may go at once
-- Returns 1 if the budget is new, else 0.
local now, key, pinned = clock(ARGV[1]), BUDGET .. ARGV[2], tonumber(ARGV[3])
local is_new = 0
run_when_full()
local known = read_budget(ARGV[2])
redis.call('HSET', key, 'pinned', pinned, 'warm_up', ARGV[4])
for n, d in ipairs(DIMENSIONS) do
  local setting, rate, burst = tonumber(ARGV[2 + 3 * n]), tonumber(ARGV[3 + 3 * n]), tonumber(ARGV[4 + 3 * n])
  local said = known[d .. '_limit']
  if said and pinned == 0 then rate, burst = scaled(d, rate, burst, said / setting) end
  if not known[d .. '_tat'] then
    is_new = 1
    redis.call('HSET', key, d .. '_tat', string.format('%.3f', now + burst * 60000 / rate))
  end
  redis.call('HSET', key, d .. '_setting', setting, d .. '_rate', rate, d .. '_burst', burst)
end
redis.call('SADD', BUDGETS, ARGV[2])
return is_new
