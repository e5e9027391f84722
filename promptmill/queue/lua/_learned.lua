-- What prompts of one kind really take of a model class. The hash promptmill:learned:<class> holds for each kind
--   how many answers the means stand for, the mean output tokens, the mean ratio of real to estimated input tokens
-- Output cannot be known when a request is sent; reserving the most that it may be wastes the limit.
local MOST_KINDS = 1000
local PRIOR = 10    -- answers that a producer's estimate counts as: short answers come back first, and mislead
local MEMORY = 100  -- answers after which an older one fades

local function learned(class, kind)
  local raw = redis.call('HGET', LEARNED .. class, kind) or ''
  local answers, output, ratio = string.match(raw, '^([%d.]+) ([%d.]+) ([%d.]+)$')
  answers, output, ratio = tonumber(answers), tonumber(output), tonumber(ratio)
  if answers and output and ratio then return { answers = answers, output = output, ratio = ratio } end
end

-- What the next request is expected to cost: as submitted, until something is known of its kind.
local function expected_cost(record)
  local cost = { requests = record.requests, input = record.input, output = record.output }
  local known = record.kind ~= 0 and learned(record.budget, record.kind)
  if known then
    cost.input = math.ceil(record.input * known.ratio)
    cost.output = math.min(record.longest, math.ceil(known.output))
  end
  return cost
end

local function learn(record, input, output)
  input, output = tonumber(input), tonumber(output)
  if record.kind == 0 or record.charged == 0 or record.input == 0 or not input or not output or output == 0 then
    return
  end
  local known = learned(record.budget, record.kind)
  if not known then
    if redis.call('HLEN', LEARNED .. record.budget) >= MOST_KINDS then return end
    known = { answers = PRIOR, output = record.output, ratio = 1 }
  end
  local answers = known.answers + 1
  local mean = known.output + (output - known.output) / answers
  local ratio = known.ratio + (input / record.input - known.ratio) / answers
  local entry = string.format('%d %.3f %.6f', math.min(answers, MEMORY), mean, ratio)
  redis.call('HSET', LEARNED .. record.budget, record.kind, entry)
end
