#!/usr/bin/env bash
# HubSpot's project reader, asked not to validate, leaves files out or unlinked and tells of almost none.
set -euo pipefail

version=0.23.0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat <<TEXT
Version:  @hubspot/project-parsing-lib $version, translate(..., { skipValidation: true }): it reads without an account.
Expected: without validation the contents are not judged, but a file that can't be read is an error or is named in the
          answer; a kind is written in one way only.
Seen:     one webhooks file, good and with one flaw each:
          * a folder too deep: left out, and named in skippedHsMetaFiles;
          * a byte order mark, or a comment: left out, and named nowhere (JSON.parse's error is kept to itself);
          * "Webhooks": read as WEBHOOKS all the same, but without the link to its app;
          * the app's "App": the app becomes the unknown kind APP, and the webhooks lose the link;
          * no uid: a component under the key "undefined".
Hint:     compare the components that come out with the files that went in, and see that each has componentDeps.app.

TEXT

npm install --prefix "$work" --ignore-scripts --no-audit --no-fund --loglevel error \
  "@hubspot/project-parsing-lib@$version" > "$work/npm.log" || { cat "$work/npm.log"; exit 1; }

cat > "$work/check.mjs" <<'JAVASCRIPT'
import fs from 'node:fs';
import path from 'node:path';
import { translate } from '@hubspot/project-parsing-lib/translate';

const app = {
  uid: 'bot_app',
  type: 'app',
  config: {
    name: 'Live agents',
    description: 'Hands a conversation of a bot to live agents.',
    distribution: 'private',
    auth: {
      type: 'oauth',
      redirectUrls: ['http://localhost:5000/callback'],
      requiredScopes: ['conversations.read'],
      optionalScopes: [],
      conditionallyRequiredScopes: [],
    },
    permittedUrls: { fetch: [], iframe: [], img: [] },
  },
};
const webhooks = {
  uid: 'bot_webhooks',
  type: 'webhooks',
  config: {
    settings: { targetUrl: 'https://bot.example.com/webhooks', maxConcurrentRequests: 10 },
    subscriptions: {
      crmObjects: [],
      legacyCrmObjects: [],
      hubEvents: [{ subscriptionType: 'conversation.newMessage', active: true }],
    },
  },
};
const { uid, ...nameless } = webhooks;
const place = 'app/webhooks/webhooks-hsmeta.json';
const cases = {
  'good': [app, webhooks],
  'a folder too deep': [app, webhooks, 'app/webhooks/bot/webhooks-hsmeta.json'],
  'a byte order mark': [app, '\uFEFF' + JSON.stringify(webhooks)],
  'a comment': [app, '// What the bot hears\n' + JSON.stringify(webhooks)],
  '"type": "Webhooks"': [app, { ...webhooks, type: 'Webhooks' }],
  '"type": "App"': [{ ...app, type: 'App' }, webhooks],
  'no uid': [app, nameless],
};

for (const [name, [appFile, webhooksFile, where = place]] of Object.entries(cases)) {
  const project = fs.mkdtempSync(path.join(import.meta.dirname, 'project-'));
  const source = path.join(project, 'src');
  const write = (file, content) => {
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
  };
  write(path.join(project, 'hsproject.json'), { name: 'bot', srcDir: 'src', platformVersion: '2026.09' });
  write(path.join(source, 'app/app-hsmeta.json'), appFile);
  write(path.join(source, where), webhooksFile);
  const context = { projectSourceDir: source, platformVersion: '2026.09', accountId: 1 };
  const answer = await translate(context, { skipValidation: true });
  console.log(name);
  for (const [id, node] of Object.entries(answer.intermediateRepresentation.intermediateNodesIndexedByUid)) {
    console.log(`  ${id}: ${node.componentType}, componentDeps.app: ${node.componentDeps.app ?? 'none'}`);
  }
  console.log(`  skipped: ${answer.skippedHsMetaFiles.join(', ') || 'none'}`);
}
JAVASCRIPT
node "$work/check.mjs" > "$work/seen"

cat "$work/seen"
diff -u - "$work/seen" <<'TEXT' || { echo "This has changed."; exit 1; }
good
  bot_app: APPLICATION, componentDeps.app: none
  bot_webhooks: WEBHOOKS, componentDeps.app: bot_app
  skipped: none
a folder too deep
  bot_app: APPLICATION, componentDeps.app: none
  skipped: app/webhooks/bot/webhooks-hsmeta.json
a byte order mark
  bot_app: APPLICATION, componentDeps.app: none
  skipped: none
a comment
  bot_app: APPLICATION, componentDeps.app: none
  skipped: none
"type": "Webhooks"
  bot_app: APPLICATION, componentDeps.app: none
  bot_webhooks: WEBHOOKS, componentDeps.app: none
  skipped: none
"type": "App"
  bot_app: APP, componentDeps.app: none
  bot_webhooks: WEBHOOKS, componentDeps.app: none
  skipped: none
no uid
  bot_app: APPLICATION, componentDeps.app: none
  undefined: WEBHOOKS, componentDeps.app: bot_app
  skipped: none
TEXT
