// MQTT.js, driven by lines of JSON. A command on standard input names the client
// it is for and has a number; its answer on standard output has the same number,
// and "error" where it failed. What a client receives is printed between the
// answers. The end of standard input ends everything.
'use strict'

const fs = require('fs')
const mqtt = require('mqtt')

const print = (event) => process.stdout.write(JSON.stringify(event) + '\n')

const members = new Map()

// Member is one client and the commands that it has not answered yet.
class Member {
  constructor (name) {
    this.name = name
    this.pending = new Set()
    this.aliased = 0 // messages that came and went without their topic
  }

  answer (seq, values) {
    if (this.pending.delete(seq)) print({ seq, ...values })
  }

  fail (seq, err) { this.answer(seq, { error: String(err.message || err) }) }

  // failAll answers what the library would leave without an answer.
  failAll (err) { for (const seq of this.pending) this.fail(seq, err) }

  connect (seq, { url, ca, options }) {
    this.client = mqtt.connect(url, { ...options, ca: fs.readFileSync(ca), reconnectPeriod: 0 })
    this.client.on('connect', (ack) => this.answer(seq, {
      resumed: ack.sessionPresent,
      id: (ack.properties && ack.properties.assignedClientIdentifier) || options.clientId
    }))
    this.client.on('error', (err) => this.failAll(err))
    this.client.on('close', () => this.failAll('connection closed'))
    this.client.on('message', (topic, payload, packet) => this.received(topic, payload, packet))
    this.client.on('packetsend', (packet) => {
      if (packet.cmd === 'publish' && packet.topic === '') this.aliased++
    })
    this.client.on('packetreceive', (packet) => {
      if (packet.cmd === 'publish' && packet.topic === '') this.aliased++
      if (packet.cmd === 'suback') this.granted = packet.granted
    })
  }

  subscribe (seq, { filters, qos }) {
    // A refused filter is an error to the library; the codes say it all.
    this.client.subscribe(filters, { qos }, (err) => {
      if (this.granted) this.answer(seq, { granted: this.granted })
      else this.fail(seq, err)
    })
  }

  unsubscribe (seq, { filters }) {
    this.client.unsubscribe(filters, (err) => err ? this.fail(seq, err) : this.answer(seq))
  }

  publish (seq, { topic, payload, options }) {
    const properties = options.properties
    if (properties && properties.correlationData) properties.correlationData = Buffer.from(properties.correlationData)
    this.client.publish(topic, payload, options, (err) => err ? this.fail(seq, err) : this.answer(seq))
  }

  count (seq) { this.answer(seq, { aliased: this.aliased }) }

  end (seq) {
    // What nobody will acknowledge is not waited for.
    this.client.end(!this.client.connected, () => this.answer(seq))
  }

  received (topic, payload, { qos, retain, properties = {} }) {
    const user = []
    for (const [key, value] of Object.entries(properties.userProperties || {})) {
      for (const one of [value].flat()) user.push(key + '=' + one)
    }
    print({
      client: this.name,
      message: {
        topic,
        payload: payload.toString(),
        qos,
        retain,
        expiry: properties.messageExpiryInterval,
        response: properties.responseTopic,
        correlation: properties.correlationData && properties.correlationData.toString(),
        user: user.join(',')
      }
    })
  }
}

require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const { seq, client, command, ...values } = JSON.parse(line)
  if (command === 'connect') members.set(client, new Member(client))
  const member = members.get(client)
  member.pending.add(seq)
  try {
    member[command](seq, values)
  } catch (err) {
    member.fail(seq, err)
  }
}).on('close', () => process.exit(0))
