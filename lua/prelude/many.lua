-- The same operation on many effects in one call. It is told behind which key and which argument of the lists its item begins.
-- An item that fails tells its error in its place and spoils no other.
local many = {}
do
  function many.run(operation, count, keys_each, args_each)
    local replies = {}
    for item = 1, count do
      local ok, reply = pcall(operation, (item - 1) * keys_each, (item - 1) * args_each)
      replies[item] = ok and reply or { err = type(reply) == 'table' and reply.err or 'ERR ' .. tostring(reply) }
    end
    return replies
  end
end
