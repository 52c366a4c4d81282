// node browser.mjs CHROMIUM PAGE scenario BASE      one scenario of `play` in a page of BASE
// node browser.mjs CHROMIUM PAGE demo SCREENSHOT    the demo page, as a person would use it;
//     once there is a screenshot the server is to be started anew
// node browser.mjs CHROMIUM PAGE inspector SCREENSHOT SOCKET    that of an inspector, while a
//     WebSocket to SOCKET, which sends back what it gets, is open in another page
//
// PAGE is loaded first: a browser uses HTTP/2 for a WebSocket only on a connection that it
// already has. Names other than localhost do not resolve, so nothing leaves the machine.

import { require } from './modules.mjs';
import { play } from './play.mjs';

const { chromium } = require('playwright-core');
const [executablePath, address, what, argument, socket] = process.argv.slice(2);

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
  const faults = [];
  page.on('pageerror', (error) => faults.push(error.message));
  page.on('console', (told) => {
    if (['error', 'warning'].includes(told.type())) faults.push(told.text());
  });
  await page.goto(address);
  const protocol = await page.evaluate(
    () => performance.getEntriesByType('navigation')[0].nextHopProtocol,
  );
  let outcome;
  if (what === 'demo') {
    const shows = (selector, text, times = 1) =>
      page.waitForFunction(
        ([where, wanted, often]) =>
          document.querySelector(where).textContent.split(wanted).length > often,
        [selector, text, times],
        { timeout: 20000 },
      );
    const facts = (id) => page.$$eval(`#${id} dd`, (all) => all.map((each) => each.textContent));
    const panels = [
      ['h1', 'HTTP/1.1'],
      ['h2', 'HTTP/2'],
    ];
    for (const [id, name] of panels) {
      await shows(`#${id} .state`, `rides on ${name}`);
      await page.fill(`#${id} .entry input`, `over ${name}`);
      await page.press(`#${id} .entry input`, 'Enter');
      await shows(`#${id} [role=log]`, `> over ${name}`);
      await shows(`#${id} .trip`, 'ms');
    }
    await page.focus('#sockets'); // the keyboard will do
    for (let more = 0; more < 4; more += 1) await page.press('#sockets', 'ArrowRight');
    for (const [id] of panels) await shows(`#${id} .sockets`, '12');
    const seen = { h1: await facts('h1'), h2: await facts('h2') };
    await page.setViewportSize({ width: 320, height: 640 });
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    await page.screenshot({ path: argument, fullPage: true });
    for (const [id, name] of panels) {
      await shows(`#${id} [role=log]`, 'closed: 1001');
      await shows(`#${id} [role=log]`, `connected over ${name}`, 2);
      await shows(`#${id} .state`, `rides on ${name}`);
    }
    outcome = { ...seen, width, faults };
  } else if (what === 'inspector') {
    const until = (shows, wanted) => page.waitForFunction(shows, wanted, { timeout: 60000 });
    const other = await context.newPage();
    await other.evaluate((url) => new Promise((opened, failed) => {
      globalThis.ws = new WebSocket(url);
      globalThis.ws.onopen = opened;
      globalThis.ws.onerror = failed;
    }), socket);
    await page.bringToFront(); // what is behind another page is not drawn
    const say = () => other.evaluate(() => globalThis.ws.send('over there'));
    const frames = () => page.textContent('.frames');
    await until(() => document.querySelector('.state').textContent === 'live');
    await until(() => document.querySelector('#tables tbody button'));
    await page.setViewportSize({ width: 320, height: 640 });
    await page.focus('#tables tbody button'); // the keyboard will do
    await page.keyboard.press('Enter');
    await until(() => document.querySelector('#follow dd'));
    await say();
    await until(() => document.querySelector('.frames').textContent.includes('text'));
    const hidden = await frames();
    await page.focus('#payload');
    await page.keyboard.press('Space');
    const answered = page.waitForFunction(
      () => document.querySelector('.frames').textContent.includes('over there'),
      undefined,
      { timeout: 60000 },
    );
    const again = setInterval(say, 500); // the server is told in its own time
    await answered;
    clearInterval(again);
    await page.fill('#find', 'nothing is like this');
    await until(() => !document.querySelector('#tables section:first-child tbody tr'));
    await page.fill('#find', '');
    await until(() => document.querySelector('#tables section:first-child tbody tr'));
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    await page.screenshot({ path: argument, fullPage: true });
    outcome = { hidden, frames: await frames(), width, faults };
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
