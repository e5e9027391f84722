-- needs: keys, record, budget, alarm
-- Put jobs into the queue: payload, record, place and cost at once, each once by its id.
-- ARGV  1 now (ms, or '' for Redis' clock); then ten for each job:
--       id, payload, lane (1..3), budget, requests, input, output, not before (ms or 0), deadline (ms or 0), run or ''
-- Returns for each job, in order: 1 queued, 0 there already, 2 ended already (its result is still kept).
local now = clock(ARGV[1])
local count = (#ARGV - 1) / 10
local order = redis.call('INCRBY', SEQUENCE, count) - count
local answers, runs, soonest, classes = {}, {}, nil, {}

for n = 1, count do
  local base = 1 + (n - 1) * 10
  local id = ARGV[base + 1]
  if redis.call('ZSCORE', QUEUE, id) or redis.call('HEXISTS', JOBS, id) == 1 then
    answers[n] = 0
  elseif redis.call('EXISTS', RESULT .. id) == 1 then
    answers[n] = 2
  else
    answers[n] = 1
    redis.call('SET', PAYLOAD .. id, ARGV[base + 2])
    local record = {
      lane = tonumber(ARGV[base + 3]), budget = ARGV[base + 4],
      requests = tonumber(ARGV[base + 5]), input = tonumber(ARGV[base + 6]), output = tonumber(ARGV[base + 7]),
      order = order + n, claims = 0, attempts = 0, lost = 0, route = 0,
      deadline = tonumber(ARGV[base + 9]), ends = 0,
    }
    local not_before = tonumber(ARGV[base + 8])
    if not_before > now then make_waiting(id, record, not_before) else make_ready(id, record) end
    if not soonest or not_before < soonest then soonest = not_before end
    classes[record.budget] = true
    local run = ARGV[base + 10]
    if run ~= '' then runs[run] = (runs[run] or 0) + 1 end
  end
end

for class in pairs(classes) do redis.call('SADD', BUDGETS, class) end
for run, added in pairs(runs) do
  redis.call('HINCRBY', RUN .. run, 'submitted', added)
  redis.call('EXPIRE', RUN .. run, 2592000)
end
if soonest then ensure_alarm(soonest, now) end
return answers
