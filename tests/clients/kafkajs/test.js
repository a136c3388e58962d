// kafkajs: produce, consume, groups, restart, timestamps, delete.
const assert = require('assert')
const { execFileSync } = require('child_process')
const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require('kafkajs')
const lz4 = require('lz4js')

const TOPIC = 'kafkajs'
const GROUP = 'kafkajs-group'
const PARTS = 3
const PER_CODEC = 31
const BIG = 1_000_000
const BASE = 1_700_000_000_000
const KILLS = Boolean(process.env.ESKER_KILL_EVERY)
const CODECS = ['None', 'GZIP', 'Snappy', 'LZ4', 'ZSTD']

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => Buffer.from(lz4.compress(encoder.buffer)),
  decompress: async buffer => Buffer.from(lz4.decompress(buffer)),
})
const zstd = new Promise(done => require('zstd-codec').ZstdCodec.run(lib => done(new lib.Streaming())))
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from((await zstd).compress(encoder.buffer)),
  decompress: async buffer => Buffer.from((await zstd).decompress(buffer)),
})

const kafka = new Kafka({
  clientId: 'test', brokers: process.env.BOOTSTRAP.split(','), logLevel: logLevel.NOTHING,
  retry: { initialRetryTime: 100, retries: 12, maxRetryTime: 2000 },
})

const step = text => console.log(new Date().toISOString().slice(11, 19), text)
const pause = () => new Promise(done => setTimeout(done, 20))
const range = (from, to) => Array.from({ length: to - from }, (_, i) => from + i)

async function wait(what, check, seconds = 60) {
  const end = Date.now() + seconds * 1000
  while (Date.now() < end) {
    if (await check()) return
    await pause()
  }
  throw new Error(`not in ${seconds} s: ${what}`)
}

function record(number) {
  const at = number % PER_CODEC
  let value = Buffer.from(`value-${number}`)
  if (at === PER_CODEC - 1) value = Buffer.alloc(BIG, 65 + (number % 26))
  else if (at % 10 === 9) value = null
  return {
    key: Buffer.from(`key-${number}`), value, partition: number % PARTS,
    headers: { number: `${number}`, empty: '' }, timestamp: `${BASE + number * 1000}`,
  }
}

async function produce(numbers, codec, idempotent) {
  // What a broker wrote before it was killed must not be there twice.
  const producer = kafka.producer({ idempotent: idempotent || KILLS, maxInFlightRequests: 1 })
  await producer.connect()
  // One partition in a call: when another attempt finds a partition at a broker that has answered for others, kafkajs forgets its
  // records (tulios/kafkajs#1303).
  for (const part of range(0, PARTS)) {
    const messages = numbers.map(record).filter(message => message.partition === part)
    await producer.send({ topic: TOPIC, acks: -1, compression: CompressionTypes[codec], messages })
  }
  await producer.disconnect()
}

function verify(partition, message) {
  const number = Number(message.headers.number.toString())
  const want = record(number)
  assert(want.key.equals(message.key), `key of ${number}`)
  assert(want.value === null ? message.value === null : want.value.equals(message.value), `value of ${number}`)
  assert.strictEqual(message.timestamp, want.timestamp, `timestamp of ${number}`)
  assert.strictEqual(message.headers.empty.length, 0, `headers of ${number}`)
  assert.strictEqual(partition, number % PARTS, `partition of ${number}`)
  return number
}

// A running member: what it has of the topic now, and every number it read into seen.
async function join(group, seen, failures) {
  const member = { mine: [] }
  const client = kafka.consumer({
    groupId: group, sessionTimeout: 10000, heartbeatInterval: 500, rebalanceTimeout: 10000,
    maxBytesPerPartition: 2_000_000, maxWaitTimeInMs: 200,
  })
  client.on(client.events.GROUP_JOIN, event => { member.mine = event.payload.memberAssignment[TOPIC] || [] })
  client.on(client.events.REBALANCING, () => { member.mine = [] })
  client.on(client.events.CRASH, event => { if (!event.payload.restart) failures.push(event.payload.error) })
  await client.connect()
  await client.subscribe({ topics: [TOPIC], fromBeginning: true })
  await client.run({
    autoCommit: false,
    eachMessage: async ({ partition, message }) => {
      try {
        seen.push(verify(partition, message))
      } catch (error) {
        failures.push(error)
      }
    },
  })
  member.client = client
  return member
}

const sorted = list => [...list].sort((a, b) => a - b)

async function main() {
  const admin = kafka.admin()
  await admin.connect()
  step('create')
  await admin.createTopics({
    waitForLeaders: true,
    topics: [{ topic: TOPIC, numPartitions: PARTS, replicationFactor: Number(process.env.REPLICAS),
      configEntries: [{ name: 'max.message.bytes', value: '2000000' }] }],
  })
  const about = await admin.fetchTopicMetadata({ topics: [TOPIC] })
  assert.strictEqual(about.topics[0].partitions.length, PARTS)
  const total = CODECS.length * PER_CODEC
  for (const [index, codec] of CODECS.entries()) {
    step(`produce ${codec}`)
    await produce(range(index * PER_CODEC, (index + 1) * PER_CODEC), codec, index % 2 === 1)
  }
  const count = part => range(0, total).filter(n => n % PARTS === part).length
  for (const end of await admin.fetchTopicOffsets(TOPIC)) {
    assert.strictEqual(Number(end.high), count(end.partition))
    assert.strictEqual(Number(end.low), 0)
  }

  step('consume all')
  const failures = []
  const whole = (seen, from, to) => () => {
    if (failures.length) throw failures[0]
    const set = new Set(seen)
    return range(from, to).every(n => set.has(n))
  }
  let seen = []
  let one = await join('kafkajs-reader', seen, failures)
  await wait('all records', whole(seen, 0, total))
  assert.deepStrictEqual(sorted(seen), range(0, total))
  for (const part of range(0, PARTS)) {
    const mine = seen.filter(n => n % PARTS === part)
    assert.deepStrictEqual(mine, sorted(mine), `order in ${part}`)
  }

  step('seek by timestamp')
  const goal = Math.floor(total / 2)
  seen.length = 0
  for (const { partition, offset } of await admin.fetchTopicOffsetsByTimestamp(TOPIC, BASE + goal * 1000)) {
    one.client.seek({ topic: TOPIC, partition, offset })
  }
  await wait('records after a timestamp', whole(seen, goal, total))
  assert.strictEqual(Math.min(...seen), goal)
  await one.client.disconnect()

  step('group with two members')
  seen = []
  one = await join(GROUP, seen, failures)
  await wait('one member has all', () => one.mine.length === PARTS)
  const two = await join(GROUP, seen, failures)
  await wait('two members share', () => one.mine.length && two.mine.length
    && sorted([...one.mine, ...two.mine]).join() === range(0, PARTS).join())
  await wait('the group has read all', whole(seen, 0, total))
  for (const member of [one, two]) {
    await member.client.commitOffsets(
      member.mine.map(partition => ({ topic: TOPIC, partition, offset: `${count(partition)}` })))
  }
  const state = await admin.describeGroups([GROUP])
  assert.strictEqual(state.groups[0].members.length, 2)
  await one.client.disconnect()
  await two.client.disconnect()
  const [{ partitions }] = await admin.fetchOffsets({ groupId: GROUP, topics: [TOPIC] })
  for (const { partition, offset } of partitions) assert.strictEqual(Number(offset), count(partition))

  let from = total
  for (const how of ['restart', 'kill9restart']) {
    step(how)
    execFileSync(process.env.ESKER_CTL, [how], { stdio: 'inherit' })
    await produce(range(from, from + PER_CODEC), 'ZSTD', false)
    seen = []
    one = await join(GROUP, seen, failures)
    await wait('records after the restart', whole(seen, from, from + PER_CODEC))
    assert.deepStrictEqual(sorted(seen), range(from, from + PER_CODEC), 'resumed from the committed offset')
    from += PER_CODEC
    await one.client.commitOffsets(range(0, PARTS).map(partition => ({
      topic: TOPIC, partition, offset: `${range(0, from).filter(n => n % PARTS === partition).length}` })))
    await one.client.disconnect()
  }

  step('delete')
  await admin.deleteGroups([GROUP])
  await admin.deleteTopics({ topics: [TOPIC] })
  await wait('topic gone', async () => !(await admin.listTopics()).includes(TOPIC))
  await admin.disconnect()
  step('ok')
}

main().then(() => process.exit(0), error => {
  console.error(error)
  process.exit(1)
})
