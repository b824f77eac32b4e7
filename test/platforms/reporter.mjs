/** One line of JSON for each test that is no suite. */
export default async function* reporter(source) {
  for await (const { type, data } of source) {
    if ((type !== 'test:pass' && type !== 'test:fail') || data.details.type === 'suite') continue;
    if (data.details.error?.failureType === 'subtestsFailed') continue;
    const error = type === 'test:fail' ? String(data.details.error?.cause?.message ?? data.details.error) : undefined;
    yield `${JSON.stringify({ name: data.name, skipped: data.skip !== undefined, error })}\n`;
  }
}
