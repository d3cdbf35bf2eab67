// HubSpot's Node client, @hubspot/api-client; its access token comes from a refresh.
import { Client } from '@hubspot/api-client'
import { readFileSync } from 'node:fs'

const given = JSON.parse(readFileSync(0, 'utf8'))
const { client_id: id, client_secret: secret, refresh_token: refresh } = given.app
const tokens = await new Client().oauth.tokensApi.create('refresh_token', undefined, undefined, id, secret, refresh)
const client = new Client({ accessToken: tokens.accessToken })
const { basicApi, searchApi } = client.crm.contacts
const listed = (await client.crm.contacts.getAll()).map((one) => one.id)
const made = await basicApi.create({ properties: given.contact, associations: [] })
const changed = await basicApi.update(made.id, { properties: given.change })
const filters = [{ propertyName: 'email', operator: 'EQ', value: given.contact.email }]
const query = { filterGroups: [{ filters }], properties: ['phone'], sorts: [], limit: 10, after: '0' }
const found = (await searchApi.doSearch(query)).results
const searched = []
for (let after = '0'; after; ) {
  const every = { filterGroups: given.all, properties: ['email'], sorts: [], limit: 100, after }
  const page = await searchApi.doSearch(every)
  searched.push(...page.results.map((one) => one.id))
  after = page.paging?.next?.after
}
const { propertiesWithHistory: history } = await basicApi.getById(made.id, undefined, ['phone'])
const { ownersApi } = client.crm.owners
const owners = []
for (let page; page === undefined || page.paging; ) {
  page = await ownersApi.getPage(undefined, page?.paging.next.after, 100)
  owners.push(...page.results)
}
const file = { data: Buffer.from("of the client's"), name: 'a.txt' }
const options = JSON.stringify({ access: 'PRIVATE' })
const stored = await client.files.filesApi.upload(file, undefined, '/clients', 'a.txt', undefined, options)
const seen = {
  listed,
  made: made.id,
  changed: changed.properties,
  searched,
  history: history.phone.map((one) => one.value),
  found: Object.fromEntries(found.map((one) => [one.id, one.properties])),
  properties: (await client.crm.properties.coreApi.getAll('contacts')).results.map((one) => one.name),
  owners: owners.map((one) => one.email),
  owner: (await ownersApi.getById(Number(owners[0].id))).email,
  files: { id: stored.id, signed: (await client.files.filesApi.getSignedUrl(stored.id)).url },
  account: (await client.oauth.accessTokensApi.get(tokens.accessToken)).hubId,
}
console.log(JSON.stringify(seen))
