/** From CommonJS, where Node can require() an ES module. */
import fileaio = require('fileaio');
import promises = require('fileaio/promises');

export const context = new fileaio.AioContext({ maxRequests: 1 });
export const reading: Promise<string> = promises.readFile('data.txt', 'utf8');
