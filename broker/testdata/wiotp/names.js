// Loaded before the SDK, which stays as it is: names of the test's domain lead to
// this machine.
'use strict'

const dns = require('dns')

const lookup = dns.lookup
dns.lookup = function (name, options, callback) {
  if (name !== 'iot.test' && !String(name).endsWith('.iot.test')) return lookup.apply(dns, arguments)
  if (typeof options === 'function') return process.nextTick(options, null, '127.0.0.1', 4)
  if (options && options.all) return process.nextTick(callback, null, [{ address: '127.0.0.1', family: 4 }])
  return process.nextTick(callback, null, '127.0.0.1', 4)
}
