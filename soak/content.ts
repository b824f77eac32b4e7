/** What stands in the files: every byte follows from its file, its position and how often the block was written. */
export const BLOCK = 4096;
const SECTOR = 512;
const WORDS = SECTOR / 4;
const SECTORS = BLOCK / SECTOR;
/** The words of a sector that say what it is: of which file, which block, written how often. */
const FILE = 0;
const PLACE = 1;
const GENERATION = 2;

const expected = new Int32Array(BLOCK / 4);
const expectedBytes = Buffer.from(expected.buffer);

function compose(file: number, block: number, generation: number): void {
  let value =
    Math.imul(file + 1, 0x9e3779b1) ^ Math.imul(block + 1, 0x85ebca6b) ^ Math.imul(generation + 1, 0xc2b2ae35);
  for (let word = 0; word < expected.length; word++) {
    value = (Math.imul(value, 1664525) + 1013904223) | 0;
    expected[word] = value;
  }
  for (let sector = 0; sector < SECTORS; sector++) {
    expected[sector * WORDS + FILE] = file;
    expected[sector * WORDS + PLACE] = block * SECTORS + sector;
    expected[sector * WORDS + GENERATION] = generation;
  }
}

/** Writes a block's content to `at` in `bytes`. */
export function fillBlock(bytes: Uint8Array, at: number, file: number, block: number, generation: number): void {
  compose(file, block, generation);
  bytes.set(expectedBytes, at);
}

/** Whether `length` bytes at `at` in `bytes` are those of the block from its byte `from` on. */
export function isBlock(
  bytes: Buffer,
  at: number,
  file: number,
  block: number,
  generation: number,
  from = 0,
  length = BLOCK - from,
): boolean {
  compose(file, block, generation);
  return bytes.compare(expectedBytes, from, from + length, at, at + length) === 0;
}

/** Whether each sector of the block is whole, in its place, and of a generation that was written: after a writer was ended in the middle. */
export function isTornBlock(bytes: Buffer, at: number, file: number, block: number, latest: number): boolean {
  for (let sector = 0; sector < SECTORS; sector++) {
    const start = at + sector * SECTOR;
    const generation = bytes.readInt32LE(start + GENERATION * 4);
    if (generation < 0 || generation > latest) return false;
    compose(file, block, generation);
    const from = sector * SECTOR;
    if (bytes.compare(expectedBytes, from, from + SECTOR, start, start + SECTOR) !== 0) return false;
  }
  return true;
}
