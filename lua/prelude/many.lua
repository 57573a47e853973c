-- The same operation on many effects in one call: `keys_each` and `args_each` of the lists are one item's. An item that
-- fails tells its error in its place and spoils no other.
local many = {}
do
  function many.run(operation, keys, args, keys_each, args_each)
    local replies = {}
    for item = 1, #keys / keys_each do
      local key, arg = (item - 1) * keys_each, (item - 1) * args_each
      local ok, reply =
        pcall(operation, { unpack(keys, key + 1, key + keys_each) }, { unpack(args, arg + 1, arg + args_each) })
      replies[item] = ok and reply or { err = type(reply) == 'table' and reply.err or 'ERR ' .. tostring(reply) }
    end
    return replies
  end
end
