// The same from CommonJS: require() of an ES module, which Node can since 20.19.
const { engines } = require('fileaio');
const { open } = require('fileaio/promises');
const { readFile } = require('fileaio/fs');

open('data.txt').then(async (handle) => {
  const { bytesRead, buffer } = await handle.read(Buffer.alloc(100), 0, 100, 0);
  await handle.close();
  readFile('data.txt', 'utf8', (error, whole) => {
    if (error) throw error;
    const why = engines().find(({ available }) => !available)?.why ?? '';
    console.log(handle.engine, why, whole === buffer.toString('utf8', 0, bytesRead) ? whole : 'differs');
  });
});
