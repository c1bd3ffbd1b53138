-- Says no, in the words of the protocol that was spoken. HAProxy's own refusal of a request that is still being sent
-- resets its stream, and a gRPC caller sees CANCELLED: so the rest of the request is read first, and thrown away.
-- `txn.refusal`: gRPC status, HTTP status, reason.

local MOST_CHUNKS = 4096 -- 64 MiB, the most that our client sends

core.register_service("refuse", "http", function(applet)
  local grpc_status, http_status, reason = applet:get_var("txn.refusal"):match("^(%d+) (%d+) (.+)$")
  for _ = 1, MOST_CHUNKS do
    if applet:receive(16384) == "" then break end
  end
  if applet:get_var("txn.is_grpc") then
    applet:set_status(200)
    applet:add_header("content-type", "application/grpc")
    applet:add_header("grpc-status", grpc_status)
    applet:add_header("grpc-message", reason)
    applet:start_response()
  else
    applet:set_status(tonumber(http_status))
    applet:add_header("content-type", "application/json")
    applet:start_response()
    applet:send('{"error":"' .. reason .. '"}')
  end
end)
