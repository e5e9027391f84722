-- needs: keys, record, learned, seen, budget, turns, alarm
-- Take in a job that an arq client enqueued: what submit would have done for it. Needs the lease of a 'foreign' claim.
-- ARGV  1 now (ms, or '')   2 id   3 token   4 payload   5 the JSON array that submit takes for a job
-- Returns 'OK' or 'LEASE_LOST'.
local now, id = clock(ARGV[1]), ARGV[2]
run_when_full()
local record = leased_record(id, ARGV[3])
if not record then return 'LEASE_LOST' end
redis.call('SET', PAYLOAD .. id, ARGV[4])
local lane, budget, requests, input, output, not_before, deadline, run, before, tenant, kind, longest
  = unpack(cjson.decode(ARGV[5]))
record.lane, record.budget, record.requests, record.input, record.output = lane, budget, requests, input, output
if kind ~= '' then record.kind, record.longest = kind, longest end
record.deadline, record.claims = deadline, before
record.order = next_order(budget, lane, tenant, record)
save_turns()
redis.call('SADD', BUDGETS, record.budget)
local at
if not_before > now and record.ends == 0 then
  at = make_waiting(id, record, not_before)
else
  make_ready(id, record)
  at = claimable_at(record, now)
end
count_submitted(run, 1)
ensure_alarm(at, now)
return 'OK'
