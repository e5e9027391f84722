-- needs: keys, record, learned, seen, budget
-- Take ended jobs out of Redis, leave their results for whoever waits, and announce them. Needs the leases.
-- ARGV  nine for each job:
--       id, token, result ('' for none), how long to keep it (ms), run or '', status,
--       input tokens used, output tokens used ('' where nobody knows), cost (nano-USD)
-- Returns for each job, in order: 'OK' or 'LEASE_LOST'.
local answers = {}
run_when_full()
for base = 0, #ARGV - 1, 9 do
  local id, token, result, keep_ms = ARGV[base + 1], ARGV[base + 2], ARGV[base + 3], tonumber(ARGV[base + 4])
  local run, status, input, output = ARGV[base + 5], ARGV[base + 6], ARGV[base + 7], ARGV[base + 8]
  local record = leased_record(id, token)
  if record then
    reconcile(record, input, output)
    if status == 'succeeded' then learn(record, input, output) end
    redis.call('ZREM', QUEUE, id)
    redis.call('HDEL', JOBS, id)
    redis.call('DEL', PAYLOAD .. id)
    if result ~= '' and keep_ms > 0 then redis.call('SET', RESULT .. id, result, 'PX', keep_ms) end
    if run ~= '' then
      redis.call('HINCRBY', RUN .. run, status, 1)
      redis.call('HINCRBY', RUN .. run, 'input_tokens', input == '' and 0 or input)
      redis.call('HINCRBY', RUN .. run, 'output_tokens', output == '' and 0 or output)
      redis.call('HINCRBY', RUN .. run, 'cost_nano_usd', ARGV[base + 9])
      touch_run(run)
      redis.call('PUBLISH', RUN_CHANNEL .. run, id)
    end
    redis.call('PUBLISH', DONE_CHANNEL .. id, status)
    answers[#answers + 1] = 'OK'
  else
    answers[#answers + 1] = 'LEASE_LOST'
  end
end
return answers
