import { conformance } from './conformance.ts';

conformance({
  engine: 'threads',
  waitSync: { why: 'completions come through the event loop' },
  cancelOfFileRead: ['canceled', 'in-progress'],
});
