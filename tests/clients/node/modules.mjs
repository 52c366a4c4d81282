// Where the packages are: TAKO_NODE_MODULES, else node_modules beside this file.

import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const modules = process.env.TAKO_NODE_MODULES ?? join(here, 'node_modules');

export const require = createRequire(join(modules, '..', 'index.js'));
