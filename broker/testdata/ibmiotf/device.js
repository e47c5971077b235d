// The platform's older SDK for Node.js, unmodified, as a device that shows a client
// certificate. It reads its settings from the first line of its input, prints one
// line for each thing that happens, and ends when its input does or it is refused.
'use strict'

const readline = require('readline')
const { IotfDevice } = require('ibmiotf')

const say = (...words) => process.stdout.write(words.join(' ') + '\n')

function run ({ port, config }) {
  const device = new IotfDevice(config)
  // It has no setting for the port, and hands these options to MQTT.js as they are.
  device.mqttConfig.port = port
  device.log.setLevel('silent')

  device.on('connect', () => setImmediate(() => { // after it subscribed
    device.publish('status', 'json', { d: { t: 21 } }, 2, (err) => say(err ? 'not published: ' + err : 'published'))
  }))
  device.on('command', (name, format, payload, topic) => say('command', name, format, topic, payload))
  device.on('disconnect', () => say('disconnected'))
  device.on('error', (err) => {
    say('error:', err.message || err)
    process.exit()
  })
  device.connect()
}

readline.createInterface({ input: process.stdin })
  .once('line', (line) => run(JSON.parse(line)))
  .on('close', () => process.exit())
