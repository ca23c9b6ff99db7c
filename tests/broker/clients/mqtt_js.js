/* mqtt_js.js — MQTT.js, steered by lines on stdin; tests/broker/makes.py has the other end and the manual. */
'use strict'

const mqtt = require('mqtt')
const readline = require('readline')

// name in our lines -> [name in MQTT.js, from text, to text]
const text = [String, String], number = [Number, String]
const PROPERTIES = {
  payload_format: ['payloadFormatIndicator', value => value === '1', value => value ? '1' : '0'],
  message_expiry: ['messageExpiryInterval', ...number],
  content_type: ['contentType', ...text],
  response_topic: ['responseTopic', ...text],
  correlation_data: ['correlationData', Buffer.from, String],
  subscription_id: ['subscriptionIdentifier', ...number],
  session_expiry: ['sessionExpiryInterval', ...number],
  topic_alias: ['topicAlias', ...number]
}

let client = null

function say (verb, values, users = []) {
  const words = Object.entries(values).filter(([, value]) => value !== undefined).map(([name, value]) => `${name}=${value}`)
  process.stdout.write([verb, ...words, ...users].join(' ') + '\n')
}

function propertiesFrom (words) {
  const found = {}
  for (const [name, value] of words) {
    if (name === 'user') {
      const [key, ...rest] = value.split(':')
      found.userProperties = found.userProperties || {}
      found.userProperties[key] = [...(found.userProperties[key] || []), rest.join(':')]
    } else if (PROPERTIES[name]) {
      found[PROPERTIES[name][0]] = PROPERTIES[name][1](value)
    }
  }
  return found
}

function propertiesTo (properties) {
  const words = {}
  for (const [name, [theirs, , toText]] of Object.entries(PROPERTIES)) {
    if (properties[theirs] !== undefined) words[name] = toText(properties[theirs])
  }
  const users = []
  for (const [key, values] of Object.entries(properties.userProperties || {})) {
    for (const value of [].concat(values)) users.push(`user=${key}:${value}`)
  }
  return [words, users]
}

const COMMANDS = {
  connect (get) {
    const version = Number(get('version', 4))
    const options = {
      host: '127.0.0.1', port: Number(get('port')), clientId: get('id'), clean: get('clean', '1') === '1',
      protocolVersion: version, protocolId: version === 3 ? 'MQIsdp' : 'MQTT', reconnectPeriod: 0, resubscribe: false
    }
    if (version === 5) {
      options.properties = {}
      if (get('session_expiry')) options.properties.sessionExpiryInterval = Number(get('session_expiry'))
      if (get('alias_maximum')) options.topicAliasMaximum = Number(get('alias_maximum'))
      if (get('alias_use')) options.autoAssignTopicAlias = true
    }
    if (get('will_topic')) {
      options.will = {
        topic: get('will_topic'), payload: get('will_payload', ''), qos: Number(get('will_qos', 0)), retain: get('will_retain') === '1'
      }
    }
    client = mqtt.connect(options)
    client.on('connect', packet => say('connected', { reason: packet.reasonCode || packet.returnCode || 0, present: packet.sessionPresent ? 1 : 0 }))
    client.on('error', error => say('error', { code: error.code, text: String(error.message).replace(/\s/g, '_') }))
    client.on('disconnect', packet => say('lost', { reason: packet.reasonCode }))
    client.on('close', () => { if (version < 5) say('lost', {}) })
    client.on('message', (topic, payload, packet) => {
      const [words, users] = propertiesTo(packet.properties || {})
      say('message', { topic, payload, qos: packet.qos, retain: packet.retain ? 1 : 0, ...words }, users)
    })
    client.on('packetreceive', packet => {
      const complete = packet.cmd === 'puback' || packet.cmd === 'pubcomp' || (packet.cmd === 'pubrec' && packet.reasonCode >= 0x80)
      if (packet.cmd === 'pubrec') COMMANDS.pubrec = packet.reasonCode
      if (complete) say('published', { reason: packet.cmd === 'pubcomp' ? COMMANDS.pubrec : packet.reasonCode })
    })
  },
  subscribe (get, words) {
    const properties = propertiesFrom(words)
    client.subscribe(get('filter'), { qos: Number(get('qos', 0)), properties: Object.keys(properties).length ? properties : undefined },
      (error, granted) => say('subscribed', { code: error ? error.code : granted[0] && granted[0].qos }))
  },
  unsubscribe (get) {
    client.once('packetreceive', packet => { if (packet.cmd === 'unsuback') say('unsubscribed', { code: packet.granted && packet.granted[0] }) })
    client.unsubscribe(get('filter'))
  },
  publish (get, words) {
    const properties = propertiesFrom(words)
    const qos = Number(get('qos', 0))
    client.publish(get('topic'), get('payload', ''), {
      qos, retain: get('retain') === '1', properties: Object.keys(properties).length ? properties : undefined
    }, () => { if (qos === 0) say('published', {}) })
  },
  disconnect () {
    client.end(false, {}, () => say('disconnected', {}))
  }
}

readline.createInterface({ input: process.stdin }).on('line', line => {
  const [verb, ...rest] = line.split(' ').filter(Boolean)
  const words = rest.map(word => [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)])
  const get = (name, otherwise) => (words.find(([one]) => one === name) || [name, otherwise])[1]
  COMMANDS[verb](get, words)
}).on('close', () => process.exit(0))
