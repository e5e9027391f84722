-- needs: keys, record, learned, seen, budget, breaker, spend, turns, alarm
-- Give a job back to the queue, at once or until a time; perhaps for another model. Needs the lease.
-- ARGV  1 now (ms, or '')   2 id   3 token   4 wait (ms; 0: ready at once)   5 attempts used up (0 or 1)
--       6 input tokens used   7 output tokens used ('' where nobody knows)
--       8 route   9 budget   10 input   11 output: of the next request ('' as before)
--       12 whether the claim counts as one: 0 where no request was sent   13 what the request cost (nano-USD)
--       14 what the reply to it showed: 'answered', 'taken' or '' (see _breaker.lua)
--       15 the version of the halts at which no other model was left for it, or 0
-- Returns 'OK', 'GOES_ON' (likewise, and by that reply the open breaker of its budget closed) or 'LEASE_LOST'.
local now, id, wait_ms = clock(ARGV[1]), ARGV[2], tonumber(ARGV[4])
run_when_full()
local record = leased_record(id, ARGV[3])
if not record then return 'LEASE_LOST' end
reconcile(record, ARGV[6], ARGV[7])
count_spend(record, ARGV[13], now)
local closes = note_reply(record, ARGV[14], now)
record.attempts = record.attempts + tonumber(ARGV[5])
if ARGV[12] == '0' then record.claims = record.claims - 1 end
if ARGV[10] ~= '' then record.input, record.output = tonumber(ARGV[10]), tonumber(ARGV[11]) end
if ARGV[9] ~= record.budget then
  -- Orders of one budget mean nothing in another. All that come from there are as one tenant: an outage of one model
  -- must not put its whole backlog before those who asked for the other.
  record.order = next_order(ARGV[9], record.lane, 'from ' .. record.budget, record)
  save_turns()
  record.failed_at, record.blamed, record.refused_at = 0, 0, 0
end
record.route, record.budget, record.halted = tonumber(ARGV[8]), ARGV[9], tonumber(ARGV[15])
local at
if record.ends ~= 0 then
  make_ready(id, record)
  at = now
elseif wait_ms > 0 or record.budget == '' then -- a job that nobody has adopted yet belongs to no lane
  at = make_waiting(id, record, now + wait_ms)
else
  make_ready(id, record)
  at = claimable_at(record, now)
end
if record.budget ~= '' then redis.call('SADD', BUDGETS, record.budget) end
ensure_alarm(ARGV[14] == '' and at or now, now)
return closes and 'GOES_ON' or 'OK'
