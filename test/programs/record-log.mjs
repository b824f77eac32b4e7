// A log of checksummed records, as a storage engine would append it: batches of records, several writes in flight, then a datasync,
// and only then word to whoever waits for it. And the check of what a crash left of it. What a record holds follows from its
// number alone, so that every byte can be checked.
import { crc32 } from 'node:zlib';

/** Of a record: magic, number, length of the whole, checksum of all that follows these 16 bytes. */
const HEADER = 16;
const MAGIC = 0x476f4c66;
const LARGEST = 12_288;

/** The most records of one batch, and batches under way at once: one being written while the one before it is flushed. */
const BATCH = 8;
export const MOST_UNACKNOWLEDGED = 2 * BATCH;

function mixed(number) {
  let value = Math.imul(number + 1, 0x9e3779b1);
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  return (value ^ (value >>> 13)) >>> 0;
}

const made = new Map();

/** `block`: what lengths are multiples of, for direct files; 1 for others. Not to be changed. */
export function recordOf(number, block) {
  const key = `${number} ${block}`;
  let record = made.get(key);
  if (record === undefined) {
    record = makeRecord(number, block);
    if (made.size > 2000) made.clear();
    made.set(key, record);
  }
  return record;
}

function makeRecord(number, block) {
  const length = Math.ceil((HEADER + 4 + (mixed(number) % (LARGEST - HEADER - 4))) / block) * block;
  const words = new Int32Array(Math.ceil(length / 4));
  let value = mixed(number) | 1;
  for (let at = HEADER / 4; at < words.length; at++) {
    value = (Math.imul(value, 1664525) + 1013904223) | 0;
    words[at] = value;
  }
  const record = Buffer.from(words.buffer, 0, length);
  record.writeUInt32LE(MAGIC, 0);
  record.writeUInt32LE(number, 4);
  record.writeUInt32LE(length, 8);
  record.writeUInt32LE(crc32(record.subarray(HEADER)), 12);
  return record;
}

/** What a log reads after a crash: the records that are whole, up to the first that is not. */
export function recover(bytes) {
  let count = 0;
  let end = 0;
  while (end + HEADER <= bytes.length) {
    const length = bytes.readUInt32LE(end + 8);
    if (bytes.readUInt32LE(end) !== MAGIC || bytes.readUInt32LE(end + 4) !== count) break;
    if (length <= HEADER || end + length > bytes.length) break;
    if (crc32(bytes.subarray(end + HEADER, end + length)) !== bytes.readUInt32LE(end + 12)) break;
    end += length;
    count++;
  }
  return { count, end };
}

/**
 * What is wrong with the log, or `undefined`. Every acknowledged record must be there and whole. Behind them may be what was under way:
 * its bytes where they belong, or zeros where a later write got there first; nothing else, and nowhere else.
 */
export function problemOf(bytes, acknowledged, block) {
  const { count, end } = recover(bytes);
  if (count < acknowledged)
    return `record ${count} of ${acknowledged} that were acknowledged is not there, or not whole`;
  let at = 0;
  for (let number = 0; at < bytes.length; number++) {
    if (number >= acknowledged + MOST_UNACKNOWLEDGED)
      return `${bytes.length - at} bytes are behind everything that was written`;
    const expected = recordOf(number, block);
    const there = bytes.subarray(at, at + expected.length);
    const right = there.equals(expected.subarray(0, there.length));
    if (!right && (at < end || there.some((byte, index) => byte !== expected[index] && byte !== 0))) {
      return `record ${number}, at ${at}, holds bytes that nobody wrote there`;
    }
    at += expected.length;
  }
  return undefined;
}

/** Writes through a FileHandle. */
export function throughHandle(handle) {
  return {
    write: async (record, position) => {
      for (let done = 0; done < record.length; ) {
        done += (await handle.write(record, done, record.length - done, position + done)).bytesWritten;
      }
    },
    writev: async (records, position) => (await handle.writev(records, position)).bytesWritten,
    datasync: () => handle.datasync(),
  };
}

/** The same with requests on a context. */
export function throughContext({ AioContext, AioRequest }, engine, fd) {
  const context = new AioContext({ maxRequests: 64, engine });
  let waiting = false;
  async function handOut() {
    waiting = true;
    while (context.pending > 0) {
      for (const request of (await context.wait()).completed) {
        const { resolve, reject } = request.userData;
        if (request.status === 'OK') resolve(request.bytesTransferred);
        else reject(request.error);
      }
    }
    waiting = false;
  }
  function run(prepare) {
    return new Promise((resolve, reject) => {
      context.submit([prepare(new AioRequest(), { resolve, reject })]);
      if (!waiting) void handOut();
    });
  }
  return {
    write: async (record, position) => {
      for (let done = 0; done < record.length; ) {
        done += await run((request, data) => request.prepareWrite(fd, position + done, record.subarray(done), data));
      }
    },
    writev: (records, position) => run((request, data) => request.prepareWritev(fd, position, records, data)),
    datasync: () => run((request, data) => request.prepareFlush(fd, { dataOnly: true }, data)),
  };
}

/**
 * Appends from record `number`, at `position`, on, for ever. `acknowledge` hears of each batch: that records below a number are safe.
 * `when` it does, other than `'durable'`, is a mistake that the check is to find: `'submitted'`, before they are written; `'written'`, before
 * they are flushed.
 */
export async function append(
  file,
  { number, position, block, acknowledge, copy = (record) => record, when = 'durable' },
) {
  let flushed = Promise.resolve();
  for (;;) {
    const first = number;
    const from = position;
    const records = Array.from({ length: 1 + (mixed(first) % BATCH) }, () => copy(recordOf(number++, block)));
    const after = number;
    const places = records.map(({ length }) => {
      position += length;
      return position - length;
    });
    if (when === 'submitted') acknowledge(after);
    let done = 0;
    if (first % 3 === 0) done = await file.writev(records, from);
    await Promise.all(
      records.map((record, index) => {
        // A vectored write may have been short.
        const there = Math.min(Math.max(from + done - places[index], 0), record.length);
        const whole = block * Math.floor(there / block);
        return whole === record.length ? undefined : file.write(record.subarray(whole), places[index] + whole);
      }),
    );
    if (when === 'written') acknowledge(after);
    await flushed;
    flushed = file.datasync().then(() => {
      if (when === 'durable') acknowledge(after);
    });
    // Who is told that a flush failed must stop: the next one would report success (fsync(2) on Linux reports an error once).
    flushed.catch(() => undefined);
  }
}
