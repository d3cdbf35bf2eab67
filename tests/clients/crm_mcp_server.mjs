// HubSpot's MCP server, @hubspot/mcp-server: a process that tools of language models speak to, here by MCP's own client.
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const given = JSON.parse(readFileSync(0, 'utf8'))
const server = fileURLToPath(new URL('node_modules/@hubspot/mcp-server/dist/index.js', import.meta.url))
const env = { ...process.env, PRIVATE_APP_ACCESS_TOKEN: given.token }
const client = new Client({ name: 'tests', version: '1' })
await client.connect(new StdioClientTransport({ command: process.execPath, args: [server], env, stderr: 'ignore' }))

const call = async (name, args) => {
  const { content, isError } = await client.callTool({ name: `hubspot-${name}`, arguments: args })
  if (isError) throw new Error(content[0].text)
  return content.map((one) => one.text)
}
const tool = async (name, args) => JSON.parse((await call(name, { objectType: 'contacts', ...args }))[0])

const pages = async (name, args) => {
  const ids = []
  for (let after; ; ) {
    const page = await tool(name, after ? { ...args, after } : args)
    ids.push(...page.results.map((one) => one.id))
    after = page.paging?.next?.after
    if (!after) return ids
  }
}

const listed = await pages('list-objects', {})
const [made] = (await tool('batch-create-objects', { inputs: [{ properties: given.contact }] })).results
const [changed] = (await tool('batch-update-objects', { inputs: [{ id: made.id, properties: given.change }] })).results
const filters = [{ propertyName: 'email', operator: 'EQ', value: given.contact.email }]
const found = (await tool('search-objects', { filterGroups: [{ filters }], properties: ['phone'] })).results
// The words before each JSON: "- Token Info: ", "- OwnerInfo: ", "- AccountInfo: "
const details = (await call('get-user-details', {})).map((text) => JSON.parse(text.slice(text.indexOf(':') + 1)))
const seen = {
  listed,
  made: made.id,
  changed: changed.properties,
  searched: await pages('search-objects', { filterGroups: given.all, limit: 100 }),
  found: Object.fromEntries(found.map((one) => [one.id, one.properties])),
  properties: (await tool('list-properties', {})).results.map((one) => one.name),
  owners: [details[1]?.email],
  account: details[0].hubId,
}
await client.close()
console.log(JSON.stringify(seen))
