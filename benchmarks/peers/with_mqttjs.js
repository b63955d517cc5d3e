// MQTT.js under Node. Its publish does not wait, so the loop has a turn after every so many messages (`window`).
//
// It follows the orders of control.py: lines of JSON over a unix socket, each answered when all of it is done.
"use strict";

const net = require("node:net");
const readline = require("node:readline");
const { Worker, isMainThread, parentPort, workerData } = require("node:worker_threads");

const now = () => process.hrtime.bigint(); // CLOCK_MONOTONIC, which all processes share

function text(number, last, length, due) {
  const mark = String(number).padStart(20, "0") + (last ? "!" : ".");
  const at = due === undefined ? "" : String(due).padStart(20, "0");
  return Buffer.from((mark + at).padEnd(length, "-"));
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

// Sleeps in a thread, since Node's own timers are of whole milliseconds: what would be measured is that.
class Alarm {
  constructor() {
    this.shared = new BigInt64Array(new SharedArrayBuffer(8));
    this.state = new Int32Array(new SharedArrayBuffer(4));
    this.worker = new Worker(__filename, { workerData: { shared: this.shared, state: this.state } });
    this.worker.on("message", () => this.resolve());
    this.worker.unref();
  }

  wait(due) {
    return new Promise((resolve) => {
      this.resolve = resolve;
      this.shared[0] = due;
      Atomics.store(this.state, 0, 1);
      Atomics.notify(this.state, 0);
    });
  }
}

function sleeper({ shared, state }) {
  const nothing = new Int32Array(new SharedArrayBuffer(4));
  for (;;) {
    Atomics.wait(state, 0, 0);
    Atomics.store(state, 0, 0);
    const left = Number(shared[0] - now());
    if (left > 0) Atomics.wait(nothing, 0, 0, left / 1e6);
    parentPort.postMessage(0);
  }
}

function main() {
  const mqtt = require("mqtt");
  const told = JSON.parse(process.env.TAKTORA_BENCHMARK);
  const pong = `benchmark/pong/${told.name}`;
  const ping = `benchmark/ping/${told.name}`;
  const client = mqtt.connect(`mqtt://127.0.0.1:${told.port}`, { clientId: told.name });
  const alarm = new Alarm();
  let answered = () => {};
  client.on("error", () => {}); // it connects again by itself, and without a listener an error would end the process
  let received = 0;
  let awaited = { count: 0, came: () => {} };
  client.on("message", (topic, payload) => {
    if (topic === pong) answered(payload);
    else if (++received === awaited.count) awaited.came(now());
  });

  async function flood({ qos, first, count, length }) {
    const topic = `benchmark/flood/${told.name}/${qos}/0`;
    const end = first + count - 1;
    let open = 0;
    let changed = () => {};
    const done = (error) => {
      if (error) throw error;
      open--;
      changed();
    };
    const change = () => new Promise((resolve) => (changed = resolve));
    for (let number = first; number <= end; number++) {
      while (open >= told.at_once) await change();
      open++;
      client.publish(topic, text(number, number === end, length), { qos }, done);
      if (number % told.window === 0) await turn();
    }
    while (open) await change();
    return { type: "Done" };
  }

  async function paced({ qos, first, count, length, start, interval, until }) {
    const topic = `benchmark/paced/${told.name}/${qos}`;
    const step = BigInt(interval);
    let due = BigInt(start);
    for (let sent = 0, late = 0; ; ) {
      const at = now();
      if (due > at) {
        await alarm.wait(due);
        late = 0;
        continue;
      }
      const last = sent === count - 1 || at >= BigInt(until);
      client.publish(topic, text(first + sent, last, length, due), { qos });
      due += step;
      sent++;
      if (last) return { type: "Sent", count: sent };
      if (++late % 64 === 0) await turn();
    }
  }

  async function trips({ count, length }) {
    const ns = [];
    for (let number = 0; number < count; number++) {
      const payload = text(number, false, length);
      const start = now();
      const answer = await new Promise((resolve) => {
        answered = resolve;
        client.publish(ping, payload, { qos: 1 });
      });
      ns.push(Number(now() - start));
      if (!payload.equals(answer)) throw new Error("the answer is not what was sent last");
    }
    return { type: "Times", ns };
  }

  async function inflow({ count }) {
    const at = await new Promise((came) => (awaited = { count, came }));
    return { type: "Came", at: Number(at) };
  }

  const filters = [pong];
  for (let number = 0; number < told.filters; number++) filters.push(`benchmark/inflow/${told.name}/${number}/+/value`);
  const kinds = { Flood: flood, Paced: paced, Trips: trips, Inflow: inflow };
  client.once("connect", () => {
    client.stream.setNoDelay(true); // MQTT.js does not set it
    client.subscribe(filters, { qos: 1 }, async (error) => {
      if (error) throw error;
      const control = net.connect(told.socket);
      const say = (answer) => control.write(JSON.stringify(answer) + "\n");
      say({ type: "Hello", pids: [process.pid] });
      // 64-bit times are beyond what JSON.parse keeps exact.
      const exact = (line) => line.replace(/"(start|until)":(\d+)/g, '"$1":"$2"');
      for await (const line of readline.createInterface({ input: control })) {
        const order = JSON.parse(exact(line));
        say(await kinds[order.type](order));
      }
      process.exit();
    });
  });
}

if (isMainThread) main();
else sleeper(workerData);
