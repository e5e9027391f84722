-- needs: keys, record, learned, seen, budget, breaker, alarm
-- Let the next probe of a model class that is out go at once, where nothing but the interval keeps it: a wait that the
-- provider asked for, a refused account and a budget that rests are left as they are.
-- ARGV  1 now (ms, or '')   2 model class
-- Returns 1 where it goes sooner by that, else 0.
local now = clock(ARGV[1])
run_when_full()
local budget = read_budget(ARGV[2])
local is_out = is_open(budget) and redis.call('HGET', budget.key, 'open_effect') == 'trips'
if not is_out or budget.probe_at <= now or budget.probe_at - now > budget.probe_every then return 0 end
put(budget, 'probe_at', now)
ensure_alarm(now, now)
return 1
