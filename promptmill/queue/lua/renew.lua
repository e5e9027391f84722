-- needs: keys, record, heard
-- Prolong leases. Every worker calls it three times within a lease, also with no job: it tells that somebody lives.
-- ARGV  1 now (ms, or '')   2 lease (ms); then two for each job: id, token
-- Returns for each job, in order: 'OK', 'CANCELLED' (prolonged, but it is to be stopped) or 'LEASE_LOST'.
local now, lease_ms = clock(ARGV[1]), tonumber(ARGV[2])
local answers = {}
run_when_full()
spared_until(now, lease_ms, true)
for i = 3, #ARGV, 2 do
  local record = leased_record(ARGV[i], ARGV[i + 1])
  local answer = 'LEASE_LOST'
  if record then
    redis.call('ZADD', QUEUE, math.ceil(now + lease_ms), ARGV[i])
    answer = record.ends == 'cancelled' and 'CANCELLED' or 'OK'
  end
  answers[#answers + 1] = answer
end
return answers
