// The platform's own SDK for Node.js, unmodified, through a day of an
// administrator, an application and a device. It prints one line for each thing
// that worked and ends with "done".
'use strict'

const assert = require('assert')
const { ApplicationClient, ApplicationConfig, ApiClient, DeviceClient, DeviceConfig } = require('@wiotp/sdk')

const [key, token, mqttPort, httpsPort] = process.argv.slice(2)
const org = key.split('-')[1]

const auth = { key, token }
// The SDK has no setting for the port of the REST interface: it is a part of the
// domain, in a client that makes no MQTT connection.
const rest = new ApplicationClient(new ApplicationConfig({ appId: 'rest' }, auth, { domain: 'iot.test:' + httpsPort, logLevel: 'error' }))
const api = new ApiClient(rest.config)
const overMQTT = { domain: 'iot.test', logLevel: 'error', mqtt: { port: Number(mqttPort) } }

const said = (what) => console.log('ok ' + what)

async function fails (status, promise) {
  try { await promise } catch (err) {
    assert.strictEqual(err.response && err.response.status, status, err.message)
    return
  }
  assert.fail('no error, want ' + status)
}

// until waits for the event of an emitter that fits.
function until (emitter, event, fits) {
  return new Promise((resolve) => {
    const listener = (...args) => {
      if (!fits(...args)) return
      emitter.removeListener(event, listener)
      resolve(args)
    }
    emitter.on(event, listener)
  })
}

async function eventually (what, ask) {
  for (let i = 0; i < 500; i++) {
    if (await ask()) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  assert.fail('never: ' + what)
}

async function registry () {
  const r = rest.registry
  assert.strictEqual((await api.getOrganizationDetails()).id, org)
  const type = await r.registerDeviceType('sdk', 'of the SDK', { manufacturer: 'Acme' }, { n: 1 }, 'Device')
  assert.strictEqual(type.id, 'sdk')
  await fails(409, r.registerDeviceType('sdk'))
  assert.strictEqual((await r.getDeviceType('sdk')).deviceInfo.manufacturer, 'Acme')
  assert.strictEqual((await r.updateDeviceType('sdk', 'changed', null, null)).description, 'changed')
  assert((await r.getAllDeviceTypes()).results.some((t) => t.id === 'sdk'))
  said('types')

  const made = await r.registerDevice('sdk', 'd1', null, { serialNumber: '1' }, null, { m: 1 })
  assert.strictEqual(made.clientId, 'd:' + org + ':sdk:d1')
  assert(made.authToken.length >= 8)
  await fails(409, r.registerDevice('sdk', 'd1'))
  assert.strictEqual((await r.updateDevice('sdk', 'd1', { model: 'M' }, null, null, null)).deviceInfo.model, 'M')
  assert.strictEqual((await r.getDevice('sdk', 'd1')).deviceInfo.serialNumber, '1')
  assert.strictEqual((await r.listAllDevicesOfType('sdk')).results.length, 1)
  await fails(404, r.getDevice('sdk', 'nobody'))
  said('devices')

  const bulk = await r.registerMultipleDevices([{ typeId: 'sdk', deviceId: 'b1' }, { typeId: 'sdk', deviceId: 'b2', authToken: 'self-chosen-1' }])
  assert(bulk.every((entry) => entry.success && entry.authToken))
  assert.strictEqual((await api.getAllDevices({ _limit: 2, typeId: 'sdk' })).results.length, 2)
  assert((await r.deleteMultipleDevices([{ typeId: 'sdk', deviceId: 'b1' }, { typeId: 'sdk', deviceId: 'b2' }])).every((entry) => entry.success))
  said('bulk')

  await fails(404, r.getDeviceLocation('sdk', 'd1'))
  await r.updateDeviceLocation('sdk', 'd1', { longitude: 13.4, latitude: 52.5, elevation: null })
  assert.strictEqual((await r.getDeviceLocation('sdk', 'd1')).latitude, 52.5)
  said('location')

  await fails(404, r.getDeviceManagementInformation('sdk', 'd1'))
  await r.addDeviceDiagLogs('sdk', 'd1', { message: 'reboot', severity: 1 })
  const [entry] = await r.getAllDiagnosticLogs('sdk', 'd1')
  assert.strictEqual((await r.getDiagnosticLog('sdk', 'd1', entry.id)).message, 'reboot')
  await r.deleteDiagnosticLog('sdk', 'd1', entry.id)
  await r.clearAllDiagnosticLogs('sdk', 'd1')
  await r.addErrorCode('sdk', 'd1', { errorCode: 100 })
  assert.strictEqual((await r.getDeviceErrorCodes('sdk', 'd1'))[0].errorCode, 100)
  await r.clearDeviceErrorCodes('sdk', 'd1')
  said('diagnostics')

  assert.strictEqual((await api.getDataUsage('2026', '2026', true)).start, '2026-01-01')
  await fails(410, api.getActiveDevices('2026', '2026', false))
  assert.strictEqual((await api.getServiceStatus()).local.messaging, 'green')
  said('usage')
  return made.authToken
}

async function messages (deviceToken) {
  await api.callApi('PUT', 200, true, ['config', 'lec'], JSON.stringify({ enabled: true }))
  const app = new ApplicationClient(new ApplicationConfig({ appId: 'sdkapp' }, auth, overMQTT))
  app.on('error', (err) => { throw err })
  const online = until(app, 'connect', () => true)
  app.connect()
  await online
  const status = until(app, 'deviceStatus', (type, id) => type === 'sdk' && id === 'd1')
  const event = until(app, 'deviceEvent', (type, id, name) => name === 'status')
  await new Promise((resolve, reject) => app.subscribeToEvents('sdk', '+', '+', 'json', 1, (err) => err ? reject(err) : resolve()))
  app.subscribeToDeviceStatus('sdk', 'd1', 0)

  const device = new DeviceClient(new DeviceConfig({ orgId: org, typeId: 'sdk', deviceId: 'd1' }, { token: deviceToken }, overMQTT))
  device.on('error', (err) => { throw err })
  const deviceOnline = until(device, 'connect', () => true)
  device.connect()
  await deviceOnline
  const [, , statusText] = await status
  assert.strictEqual(JSON.parse(statusText).Action, 'Connect')
  said('device status')

  device.publishEvent('status', 'json', JSON.stringify({ t: 21 }), 1)
  const [type, id, name, format, payload] = await event
  assert.deepStrictEqual([type, id, name, format, JSON.parse(payload)], ['sdk', 'd1', 'status', 'json', { t: 21 }])
  said('events')

  const command = until(device, 'command', (name) => name === 'blink')
  // The device subscribes when it is connected, and does not say when it has.
  let got = false
  command.then(() => { got = true })
  await eventually('the command arrives', async () => {
    app.publishCommand('sdk', 'd1', 'blink', 'json', JSON.stringify({ times: 3 }), 1)
    await new Promise((resolve) => setTimeout(resolve, 50))
    return got
  })
  said('commands')

  await eventually('the last event is kept', async () => (await rest.lec.getLastEvents('sdk', 'd1').catch(() => [])).length === 1)
  const last = await rest.lec.getLastEventsByEventType('sdk', 'd1', 'status')
  assert.strictEqual(Buffer.from(last.payload, 'base64').toString(), '{"t":21}')
  said('last events')

  const state = await api.getConnectionState('d:' + org + ':sdk:d1')
  assert.strictEqual(state.connectionStatus, 'connected')
  assert((await api.getConnectedClientsConnectionStates()).results.length >= 2)
  assert.strictEqual((await api.getCustomConnectionState('?deviceType=sdk')).results.length, 1)
  assert((await rest.registry.getDeviceConnectionLogs('sdk', 'd1'))[0].message)
  said('connection states')

  device.disconnect()
  app.disconnect()
}

async function main () {
  await messages(await registry())
  await rest.registry.unregisterDevice('sdk', 'd1')
  await rest.registry.deleteDeviceType('sdk')
  said('deletion')
  console.log('done')
  process.exit(0)
}

main().catch((err) => {
  console.error(err.stack || err)
  if (err.response) console.error(err.response.status, JSON.stringify(err.response.data))
  process.exit(1)
})
