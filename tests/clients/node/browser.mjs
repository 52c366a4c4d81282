// node browser.mjs CHROMIUM PAGE scenario BASE      one scenario of `play` in a page of BASE
// node browser.mjs CHROMIUM PAGE demo SCREENSHOT    the demo page, as a person would use it
//
// PAGE is loaded first: a browser uses HTTP/2 for a WebSocket only on a connection that it
// already has. Names other than localhost do not resolve, so nothing leaves the machine.

import { require } from './modules.mjs';
import { play } from './play.mjs';

const { chromium } = require('playwright-core');
const [executablePath, address, what, argument] = process.argv.slice(2);

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
  await page.goto(address);
  const protocol = await page.evaluate(
    () => performance.getEntriesByType('navigation')[0].nextHopProtocol,
  );
  let outcome;
  if (what === 'demo') {
    const shows = (selector, text) =>
      page.waitForFunction(
        ([where, wanted]) => document.querySelector(where).textContent.includes(wanted),
        [selector, text],
        { timeout: 20000 },
      );
    await shows('#echo output', 'Welcome to Tako WS!');
    await page.fill('#echo input', 'hello from the browser');
    await page.press('#echo input', 'Enter');
    await shows('#echo output', 'Echo: hello from the browser');
    await shows('#tick output', 'tick #1');
    await page.screenshot({ path: argument });
    outcome = {
      echo: await page.innerText('#echo .wire'),
      tick: await page.innerText('#tick .wire'),
    };
  } else {
    outcome = await page.evaluate(
      ([source, scenario, base]) =>
        // eslint-disable-next-line no-eval
        (0, eval)(`(${source})`)((url) => new WebSocket(url), scenario, base),
      [play.toString(), what, argument],
    );
  }
  console.log(JSON.stringify({ ...outcome, protocol }));
} finally {
  await browser.close();
}
