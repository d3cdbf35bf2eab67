#!/usr/bin/env bash
# HubSpot's MCP server starts only where its packages happen to lie flat: it imports one that it does not declare.
set -euo pipefail

version=0.4.0
sdk=1.32.2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat <<TEXT
Version:  @hubspot/mcp-server $version, with @modelcontextprotocol/sdk $sdk.
Expected: a package starts in each layout that npm can install; linked is how pnpm and others lay packages by default.
Seen:     its tools import zod-to-json-schema, which its package.json does not name. Laid flat, the copy that MCP's SDK
          brings along lies where it is found by chance; linked, the server ends before it says a word of MCP, and an
          assistant only says that the server did not connect.
Hint:     install it flat (npm's default), or zod-to-json-schema beside it and hoisted.

TEXT

for layout in hoisted linked; do
  mkdir "$work/$layout"
  npm install --prefix "$work/$layout" --install-strategy "$layout" --ignore-scripts --no-audit --no-fund \
    --loglevel error "@hubspot/mcp-server@$version" "@modelcontextprotocol/sdk@$sdk" > "$work/npm.log" || { cat "$work/npm.log"; exit 1; }
done

cd "$work"
node -p 'const { dependencies } = require("./hoisted/node_modules/@hubspot/mcp-server/package.json")
  ; `it declares: ${Object.keys(dependencies).join(", ")}`' > seen
for layout in hoisted linked; do
  server="$layout/node_modules/@hubspot/mcp-server/dist/index.js"
  { PRIVATE_APP_ACCESS_TOKEN=made-up timeout 30 node "$server" < /dev/null 2>&1 || true; } > said
  echo "$layout: $(grep -oE "Server connected|Cannot find package '[a-z-]+'" said)" >> seen
done

cat seen
diff -u - seen <<'TEXT' || { echo "This has changed."; exit 1; }
it declares: @modelcontextprotocol/sdk, dotenv, zod
hoisted: Server connected
linked: Cannot find package 'zod-to-json-schema'
TEXT
