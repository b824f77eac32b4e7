/** What must be undone whatever happens: the end of the program, an error, Ctrl-C, a signal. */
const undos = new Set<() => void>();

/** Registers something to undo. The function returned does it now, once. */
export function onExit(undo: () => void): () => void {
  undos.add(undo);
  return () => {
    if (undos.delete(undo)) undo();
  };
}

process.on('exit', () => {
  // The latest first: a file goes before the directory that it lies in.
  for (const undo of [...undos].reverse()) {
    try {
      undo();
    } catch (error) {
      console.error(`bench: cleaning up: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
});

for (const [signal, number] of [
  ['SIGHUP', 1],
  ['SIGINT', 2],
  ['SIGTERM', 15],
] as const) {
  process.on(signal, () => process.exit(128 + number));
}
