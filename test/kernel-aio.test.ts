import { conformance } from './conformance.ts';

conformance({ engine: 'kernel-aio', waitSync: true, cancelOfFileRead: ['in-progress'] });
