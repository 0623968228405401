// A native gRPC client for Node under a test's command: one JSON object per line on stdin and
// stdout. The commands are those of tests/support/harness/load_process.py.
import * as readline from "node:readline";
import * as grpc from "@grpc/grpc-js";
import * as xds from "@grpc/grpc-js-xds";

const METHOD = "/trimtab.test.Echo/Who";
const REPORT_EVERY_MS = 100;
const CALL_WITHIN_S = 5;
// Open loop, but bounded: a road that hangs is an error, not a full memory.
const MOST_IN_FLIGHT = 500;

xds.register();

const channels = new Map();

function channelTo(target) {
  if (!channels.has(target)) {
    channels.set(target, new grpc.Client(target, grpc.credentials.createInsecure()));
  }
  return channels.get(target);
}

// Who answered; an Error that says why nobody did.
function who(road, workMs, within) {
  const metadata = new grpc.Metadata();
  for (const [key, value] of Object.entries(road.metadata)) metadata.set(key, value);
  const asIs = (bytes) => bytes;
  const deadline = Date.now() + within * 1000;
  return new Promise((resolve, reject) => {
    channelTo(road.target).makeUnaryRequest(
      METHOD, asIs, asIs, Buffer.from(String(workMs)), metadata, { deadline },
      (error, answer) => (error ? reject(error) : resolve(answer.toString())),
    );
  });
}

function textOf(error) {
  return `${grpc.status[error.code]}: ${error.details}`;
}

function tell(message) {
  process.stdout.write(JSON.stringify(message) + "\n");
}

async function call({ number, road, work_ms, within }) {
  const begin = process.hrtime.bigint();
  let server = null;
  let error = null;
  try {
    server = await who(road, work_ms, within);
  } catch (failure) {
    error = textOf(failure);
  }
  const seconds = Number(process.hrtime.bigint() - begin) / 1e9;
  tell({ called: number, server, error, seconds });
}

// One request after the other at a fixed rate, whatever the earlier ones do.
class Load {
  constructor({ roads, rate, work_ms }) {
    this.roads = Object.entries(roads);
    this.workMs = work_ms;
    this.gapMs = 1000 / rate;
    this.begin = performance.now();
    this.sent = 0;
    this.underWay = new Set();
    this.counts = {};
    for (const name of Object.keys(roads)) this.counts[name] = { served: {}, errors: {} };
    this.sender = setInterval(() => this.send(), 5);
    this.reporter = setInterval(() => this.report(), REPORT_EVERY_MS);
  }

  async stop() {
    clearInterval(this.sender);
    clearInterval(this.reporter);
    await Promise.all(this.underWay);
    this.report();
  }

  send() {
    const due = (performance.now() - this.begin) / this.gapMs;
    for (; this.sent < due; this.sent += 1) {
      const [name, road] = this.roads[this.sent % this.roads.length];
      const { served, errors } = this.counts[name];
      const count = (table, key) => { table[key] = (table[key] ?? 0) + 1; };
      if (this.underWay.size >= MOST_IN_FLIGHT) {
        count(errors, `not sent: ${MOST_IN_FLIGHT} requests are under way`);
        continue;
      }
      const request = who(road, this.workMs, CALL_WITHIN_S)
        .then((server) => count(served, server), (error) => count(errors, textOf(error)))
        .finally(() => this.underWay.delete(request));
      this.underWay.add(request);
    }
  }

  report() {
    tell({ report: this.counts });
  }
}

let load = null;
const calls = new Set();
for await (const line of readline.createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  switch (command.do) {
    case "call": {
      const running = call(command).finally(() => calls.delete(running));
      calls.add(running);
      break;
    }
    case "start":
      load = new Load(command);
      break;
    case "stop":
      await load.stop();
      tell({ stopped: true });
      break;
    default:
      throw new Error(`unknown command ${command.do}`);
  }
}
await Promise.all(calls);
process.exit(0); // the xDS client's timers would keep the process
