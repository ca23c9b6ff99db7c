/* web_mqtt.js — MQTT.js over WebSocket: URL VERSION [CA-FILE]. Subscribes, publishes small and large messages to itself at
 * each QoS, says "ok" and ends; or says what went wrong. */
'use strict'

const fs = require('fs')
const mqtt = require('mqtt')

const [url, version, ca] = process.argv.slice(2)
const payloads = ['small', 'x'.repeat(300000)]
const wanted = 3 * payloads.length
let received = 0

const client = mqtt.connect(url, {
  protocolVersion: Number(version), reconnectPeriod: 0, connectTimeout: 10000, ...(ca ? { ca: fs.readFileSync(ca) } : {})
})

function fail (error) {
  console.log(`failed: ${error && error.message ? error.message : error}`)
  process.exit(1)
}

client.on('error', fail)
client.on('close', () => { if (received < wanted) fail('closed') })
client.on('connect', () => {
  client.subscribe(`web/${client.options.clientId}/#`, { qos: 2 }, error => {
    if (error) fail(error)
    for (const qos of [0, 1, 2]) {
      for (const payload of payloads) client.publish(`web/${client.options.clientId}/${qos}`, payload, { qos }, fail_if)
    }
  })
})

function fail_if (error) {
  if (error) fail(error)
}

client.on('message', (topic, message, packet) => {
  if (!payloads.includes(message.toString()) || packet.qos !== Number(topic.split('/')[2])) fail(`not what was sent to ${topic}`)
  if (++received === wanted) {
    client.end(false, {}, () => { console.log('ok'); process.exit(0) })
  }
})

setTimeout(() => fail(`only ${received} of ${wanted} messages`), 20000)
