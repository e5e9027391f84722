-- needs: keys, record
-- What is queued for one model class: for whoever wants to know how long it will take. Changes nothing, and takes the
-- same time however much is queued: of a long queue a sample is read. Whoever asks does the sums, off Redis' time.
-- ARGV  1 now (ms, or '')   2 model class   3 records to read, at most about
--       4 id of a job, or '': of its lane only those before it then count
-- Returns {now, budget, learned, halts, free, job, queues}
--   budget, learned, halts   fields and values of those hashes
--   free     1 where a worker has a free slot, else 0
--   job      the record of that job, or false
--   queues   for each: {members, record (false where there is none), ...}: lanes 1 to 3; then, of all model classes,
--            jobs outside their lanes whose next event is less than a minute away; and those where it is further
local now, class, most, asked = clock(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4]
local SOON_MS = 60000 -- leases end and short waits are over before; what comes later is rare and must not hide them
local AWAY_MS = 5000  -- a worker that should have claimed so long ago is gone
local STRETCH = 10
local job = asked ~= '' and load_record(asked) or false

-- Neighbours from evenly spaced places: neither a file in the order of size nor one that alternates is misjudged.
local function sample(key, first, last, most)
  local ids, count = {}, math.max(0, last - first + 1)
  local stretches = count <= most and 1 or math.max(1, math.floor(most / STRETCH))
  local length = count <= most and count or STRETCH
  for n = 0, stretches - 1 do
    local from = first + math.floor((n + 0.5) * count / stretches - length / 2)
    if length > 0 then
      for _, id in ipairs(redis.call('ZRANGE', key, from, from + length - 1)) do
        if id ~= asked or job and job.state == 'l' then ids[#ids + 1] = id end
      end
    end
  end
  local found = #ids > 0 and redis.call('HMGET', JOBS, unpack(ids)) or {}
  table.insert(found, 1, count)
  return found
end

local counts, busy = {}, 0
for lane = 1, 3 do
  local key = LANE .. class .. ':' .. lane
  counts[lane] = redis.call('ZCARD', key)
  if job and job.budget == class and job.lane == lane then
    counts[lane] = redis.call('ZRANK', key, asked)
      or redis.call('ZCOUNT', key, '-inf', string.format('(%.0f', job.order))
  end
  if counts[lane] > 0 then busy = busy + 1 end
end
local queues = {}
for lane = 1, 3 do
  queues[lane] = sample(LANE .. class .. ':' .. lane, 0, counts[lane] - 1, math.ceil(most / math.max(1, busy)))
end
-- Ready jobs stand before all others in the queue, by their score.
local soon = redis.call('ZCOUNT', QUEUE, '-inf', now + SOON_MS)
queues[4] = sample(QUEUE, redis.call('ZCOUNT', QUEUE, '-inf', 1), soon - 1, math.ceil(most / 3))
queues[5] = sample(QUEUE, soon, redis.call('ZCARD', QUEUE) - 1, math.ceil(most / 3))

return {
  string.format('%.3f', now), redis.call('HGETALL', BUDGET .. class), redis.call('HGETALL', LEARNED .. class),
  redis.call('HGETALL', HALTS),
  redis.call('ZCOUNT', IDLE, now - AWAY_MS, '+inf') > 0 and 1 or 0, job and redis.call('HGET', JOBS, asked), queues,
}
