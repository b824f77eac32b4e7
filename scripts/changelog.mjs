// CHANGELOG.md and the version, for what releases: what changes collects under "Unreleased", and a release gives it its number and date.
const UNRELEASED = '## Unreleased';

/** The text of "Unreleased"; empty where there is nothing. */
export function unreleased(text) {
  return (
    sections(text)
      .find(({ heading }) => heading === UNRELEASED)
      ?.body.trim() ?? ''
  );
}

/** The newest version that has a heading, such as `## 1.2.3 (2026-11-27)`. */
export function newest(text) {
  return sections(text)
    .map(({ heading }) => /^## (\d+\.\d+\.\d+\S*)/.exec(heading)?.[1])
    .find((version) => version !== undefined);
}

/** With `version` in the place of "Unreleased", and an empty one above it. */
export function released(text, version, date) {
  if (unreleased(text) === '')
    throw new Error(`CHANGELOG.md has nothing under "${UNRELEASED}": there is nothing to release`);
  if (sections(text).some(({ heading }) => heading.split(' ')[1] === version))
    throw new Error(`CHANGELOG.md has ${version} already`);
  return text.replace(UNRELEASED, `${UNRELEASED}\n\n## ${version} (${date})`);
}

/** Whether `next` comes after `version`, for numbers without a suffix. */
export function isLater(next, version) {
  const [a, b] = [next, version].map((each) => each.split('.').map(Number));
  const at = [0, 1, 2].find((index) => a[index] !== b[index]);
  return at !== undefined && a[at] > b[at];
}

function sections(text) {
  return text
    .split(/^(?=## )/m)
    .filter((part) => part.startsWith('## '))
    .map((part) => {
      const [heading = '', ...body] = part.split('\n');
      return { heading: heading.trim(), body: body.join('\n') };
    });
}
