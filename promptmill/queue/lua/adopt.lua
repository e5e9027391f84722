-- needs: keys, record, learned, budget, turns, alarm
-- Take in a job that an arq client enqueued: what submit would have done for it. Needs the lease of a 'foreign' claim.
-- ARGV  1 now (ms, or '')   2 id   3 token   4 payload   5 lane (1..3)   6 budget   7 requests   8 input   9 output
--       10 not before (ms or 0)   11 deadline (ms or 0)   12 run or ''
--       13 tenant   14 kind or ''   15 max_tokens
-- Returns 'OK' or 'LEASE_LOST'.
local now, id, run = clock(ARGV[1]), ARGV[2], ARGV[12]
run_when_full()
local record = leased_record(id, ARGV[3])
if not record then return 'LEASE_LOST' end
redis.call('SET', PAYLOAD .. id, ARGV[4])
record.lane, record.budget = tonumber(ARGV[5]), ARGV[6]
record.requests, record.input, record.output = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
if ARGV[14] ~= '' then record.kind, record.longest = ARGV[14], tonumber(ARGV[15]) end
record.deadline, record.claims = tonumber(ARGV[11]), 0
record.order = next_order(record.budget, record.lane, ARGV[13])
save_turns()
redis.call('SADD', BUDGETS, record.budget)
local not_before, at = tonumber(ARGV[10]), nil
if not_before > now and record.ends == 0 then
  at = make_waiting(id, record, not_before)
else
  make_ready(id, record)
  at = claimable_at(record, now)
end
count_submitted(run, 1)
ensure_alarm(at, now)
return 'OK'
