// node eventsource.mjs CHROMIUM BASE PATH COUNT
// Reads COUNT events of BASE + PATH with the browser's EventSource, closes it, and prints
// them with the protocol they came over. The page itself is made here, on BASE's origin.

import { require } from './modules.mjs';

const { chromium } = require('playwright-core');
const [executablePath, base, path, count] = process.argv.slice(2);

const browser = await chromium.launch({
  executablePath,
  args: [
    '--no-sandbox',
    '--disable-background-networking',
    '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1',
  ],
});
try {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const page = await context.newPage();
  await page.route('**/page-of-the-test', (route) =>
    route.fulfill({ contentType: 'text/html', body: '<!DOCTYPE html><title>t</title>' }),
  );
  await page.goto(`${base}/page-of-the-test`);
  const outcome = await page.evaluate(
    ([url, wanted]) =>
      new Promise((resolve, reject) => {
        const events = [];
        const source = new EventSource(url);
        const take = ({ type, data, lastEventId }) => {
          events.push({ type, data, lastEventId });
          if (events.length < wanted) return;
          source.close();
          const [entry] = performance.getEntriesByName(source.url);
          resolve({ events, protocol: entry?.nextHopProtocol ?? null });
        };
        source.addEventListener('message', take);
        source.addEventListener('named', take);
        source.onerror = () => reject(new Error(`readyState ${source.readyState}`));
      }),
    [path, Number(count)],
  );
  console.log(JSON.stringify(outcome));
} finally {
  await browser.close();
}
