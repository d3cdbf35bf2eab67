-- For wrk: sends the requests of a file one after the other, and tells what came of it as one line of JSON.
-- Each is preceded by a line with its length. When all are sent it stops, or begins anew with REPLAY_CYCLE=1.
-- What other connections send while it stops is sent twice, and not counted.

local cycle = os.getenv("REPLAY_CYCLE") == "1"
local requests, sent = {}, 0

function init(args)
  local file = assert(io.open(os.getenv("REPLAY_FILE"), "rb"))
  for line in file:lines() do
    requests[#requests + 1] = file:read(tonumber(line))
  end
  file:close()
end

function request()
  sent = sent + 1
  if sent >= #requests and not cycle then
    wrk.thread:stop()
  end
  return requests[(sent - 1) % #requests + 1]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "max": %f, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency.max / 1e3, errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
