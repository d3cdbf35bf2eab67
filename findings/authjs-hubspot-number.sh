#!/usr/bin/env bash
# Auth.js gives the id of a HubSpot account to its adapters as a number, where its own types say text.
set -euo pipefail

version=0.41.3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat <<TEXT
Version:  @auth/core $version, providers HubSpot and GitHub; both services answer with a number as the user's id.
Expected: Account.providerAccountId is a string, as types.d.ts says; GitHub's provider makes it one.
Seen:     HubSpot's provider hands on the number. Adapters get it as their key; those whose column is text, as Auth.js's
          own schemas have it, and whose driver does not convert (Prisma) refuse every log-in with HubSpot.
Hint:     give the provider a profile of your own: HubSpot({ ..., profile: (p) => ({ id: String(p.user_id), ... }) }).

TEXT

npm install --prefix "$work" --ignore-scripts --no-audit --no-fund --loglevel error \
  "@auth/core@$version" > "$work/npm.log" || { cat "$work/npm.log"; exit 1; }

cat > "$work/check.mjs" <<'JAVASCRIPT'
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { Auth } from '@auth/core';
import GitHub from '@auth/core/providers/github';
import HubSpot from '@auth/core/providers/hubspot';

// Both services on this machine, as their documentation says; GitHub's at /user, HubSpot's at /info/{access token}.
const service = createServer((asked, answer) => {
  const token = { access_token: 'made-up', token_type: 'bearer', refresh_token: 'made-up', expires_in: 1800 };
  const user = { id: 987, login: 'rosa', email: 'rosa@example.test' };
  const info = { token: 'made-up', user: 'rosa@example.test', hub_id: 424242, user_id: 987, token_type: 'access' };
  const body = { '/token': token, '/user': user, '/info/made-up': info }[asked.url];
  answer.setHeader('Content-Type', 'application/json').end(JSON.stringify(body));
});
await new Promise((resolve) => service.listen(0, '127.0.0.1', resolve));
const base = `http://127.0.0.1:${service.address().port}`;

const app = { clientId: 'made-up', clientSecret: 'made-up', token: `${base}/token` };
const providers = [
  GitHub({ ...app, userinfo: { url: `${base}/user` } }),
  HubSpot({ ...app, userinfo: { url: `${base}/info` } }),
];
const seen = new Set();
const adapter = {
  getUserByAccount: ({ provider, providerAccountId }) => {
    seen.add(`${provider}: an adapter is asked for the account of a ${typeof providerAccountId}`);
    return { id: '1', email: 'rosa@example.test' };
  },
};
const config = {
  basePath: '/auth', secret: 'made-up', trustHost: true, session: { strategy: 'jwt' }, adapter, providers,
};

const site = 'http://localhost:3000/auth';
for (const name of ['github', 'hubspot']) {
  const jar = new Map();
  const visit = async (path, options = {}) => {
    const cookie = [...jar].map((pair) => pair.join('=')).join('; ');
    const response = await Auth(new Request(site + path, { ...options, headers: { cookie } }), config);
    for (const line of response.headers.getSetCookie()) {
      const [pair] = line.split(';');
      jar.set(pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1));
    }
    return response;
  };
  const { csrfToken } = await (await visit('/csrf')).json();
  const sent = await visit(`/signin/${name}`, { method: 'POST', body: new URLSearchParams({ csrfToken }) });
  const state = new URL(sent.headers.get('location')).searchParams.get('state');
  await visit(`/callback/${name}?code=made-up${state ? `&state=${state}` : ''}`);
}
console.log([...seen].join('\n'));
const types = readFileSync(new URL('node_modules/@auth/core/types.d.ts', import.meta.url), 'utf8');
console.log('types.d.ts:', types.match(/providerAccountId: \w+/)[0]);
service.close();
JAVASCRIPT
(cd "$work" && node check.mjs) > "$work/seen"

cat "$work/seen"
diff -u - "$work/seen" <<'TEXT' || { echo "This has changed."; exit 1; }
github: an adapter is asked for the account of a string
hubspot: an adapter is asked for the account of a number
types.d.ts: providerAccountId: string
TEXT
