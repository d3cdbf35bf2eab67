// Drives HubSpot's own client against the address given on stdin; prints what its models made of every answer.
const { Client } = require('@hubspot/api-client')

const given = JSON.parse(require('fs').readFileSync(0, 'utf8'))
const client = new Client({ basePath: given.base, accessToken: given.token, developerApiKey: given.developerKey })
const seen = {}

const refused = async (promise) => {
  try {
    await promise
    return null
  } catch (error) {
    return { status: error.code, body: error.body }
  }
}

const oauth = async () => {
  const { tokensApi, accessTokensApi, refreshTokensApi } = client.oauth
  const app = [given.clientId, given.clientSecret]
  seen.authorizationUrl = client.oauth.getAuthorizationUrl(given.clientId, given.back, 'oauth', 'files', 'the state')
  seen.exchanged = await tokensApi.create('authorization_code', given.code, given.back, ...app)
  const refresh = seen.exchanged.refreshToken
  seen.refreshed = await tokensApi.create('refresh_token', undefined, undefined, ...app, refresh)
  seen.access = await accessTokensApi.get(seen.refreshed.accessToken)
  seen.refresh = await refreshTokensApi.get(refresh)
  await refreshTokensApi.archive(refresh)
  seen.revoked = await refused(tokensApi.create('refresh_token', undefined, undefined, ...app, refresh))
}

const webhooks = async () => {
  const { settingsApi, subscriptionsApi } = client.webhooks
  const settings = { targetUrl: 'https://bot.example.test/hook', throttling: { maxConcurrentRequests: 8 } }
  seen.settings = await settingsApi.configure(given.appId, settings)
  const [first] = (await subscriptionsApi.getAll(given.appId)).results
  await subscriptionsApi.archive(Number(first.id), given.appId)
  seen.subscription = await subscriptionsApi.create(given.appId, { eventType: first.eventType, active: true })
}

const contacts = async () => {
  const { basicApi, searchApi } = client.crm.contacts
  seen.made = await basicApi.create({ properties: { email: 'node@example.test' }, associations: [] })
  const filter = { propertyName: 'email', operator: 'EQ', value: 'node@example.test' }
  const query = { filterGroups: [{ filters: [filter] }], properties: ['email'], sorts: [], limit: 5, after: '0' }
  seen.found = await searchApi.doSearch(query)
  seen.twice = await refused(basicApi.create({ properties: { email: 'node@example.test' }, associations: [] }))
}

const main = async () => {
  await oauth()
  await webhooks()
  await contacts()
  process.stdout.write(JSON.stringify(seen))
}
main()
