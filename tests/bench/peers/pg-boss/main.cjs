// pg-boss: batches of jobs for several workers of one process, woken by notifications.

const { createInterface } = require('node:readline')
const { PgBoss } = require('pg-boss')

const QUEUE = 'bench'
const WORKERS = 4

let handled = 0
const latencies = []

const now = () => (performance.timeOrigin + performance.now()) * 1000
const say = (...words) => process.stdout.write(words.join(' ') + '\n')
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

async function connect (url, max) {
  // Under overload a job waits for a connection longer than the 10 s after which it would fail.
  const boss = new PgBoss({ connectionString: url, max, useListenNotify: true, connectionTimeoutMillis: 120_000 })
  boss.on('error', (error) => console.error(error))
  await boss.start()
  return boss
}

async function handle (job) {
  if (job.data.offeredAt > 0) {
    latencies.push((now() - job.data.offeredAt) / 1000)
    await sleep(1)
  }
  handled += 1
}

async function prepare (url) {
  const boss = await connect(url, 2)
  await boss.createQueue(QUEUE, { notify: true })
}

async function fill (url, runs) {
  const boss = await connect(url, 4)
  for (let first = 0; first < runs; first += 1000) {
    const count = Math.min(1000, runs - first)
    await boss.insert(QUEUE, Array.from({ length: count }, () => ({ data: { offeredAt: 0 } })))
  }
}

async function offer (url, rate, seconds) {
  const boss = await connect(url, 16)
  const total = Math.floor(rate * seconds)
  const underWay = []
  const began = performance.now()
  while (underWay.length < total) {
    await sleep(1)
    const due = Math.min(Math.floor(((performance.now() - began) / 1000) * rate), total)
    while (underWay.length < due) underWay.push(boss.send(QUEUE, { offeredAt: now() }))
  }
  await Promise.all(underWay)
  say('offered', total, (performance.now() - began) / 1000)
}

async function work (url, concurrency) {
  const boss = await connect(url, 16)
  const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
  say('ready')
  if ((await input.next()).value !== 'go') throw new Error('expected go')
  const options = { batchSize: concurrency / WORKERS, localConcurrency: WORKERS, burstWhenBatchFull: true }
  await boss.work(QUEUE, options, (jobs) => Promise.all(jobs.map(handle)))
  let told = 0
  setInterval(() => {
    if (handled !== told) say('handled', (told = handled))
  }, 20)
  await input.next()
  latencies.sort((a, b) => a - b)
  const share = (share) => (latencies.length ? latencies[Math.floor((latencies.length - 1) * share)] : NaN)
  say('latency', share(0.5), share(0.95), share(0.99))
}

async function main ([verb, url, ...rest]) {
  if (verb === 'prepare') await prepare(url)
  else if (verb === 'fill') await fill(url, Number(rest[1]))
  else if (verb === 'offer') await offer(url, Number(rest[0]), Number(rest[1]))
  else if (verb === 'work') await work(url, Number(rest[1]))
  else throw new Error(`not understood: ${verb}`)
}

main(process.argv.slice(2)).then(
  () => process.exit(0),
  (error) => {
    console.error(error.stack)
    console.error(error.message)
    process.exit(1)
  }
)
