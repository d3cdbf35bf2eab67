// The library behind HubSpot's command line, @hubspot/local-dev-lib: uploads a file twice, as `hs filemanager upload` does.
import { readFileSync, writeFileSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const given = JSON.parse(readFileSync(0, 'utf8'))
Object.assign(process.env, {
  USE_ENVIRONMENT_HUBSPOT_CONFIG: 'true',
  HUBSPOT_ACCOUNT_ID: String(given.portal),
  HUBSPOT_CLIENT_ID: given.app.client_id,
  HUBSPOT_CLIENT_SECRET: given.app.client_secret,
  HUBSPOT_REFRESH_TOKEN: given.app.refresh_token,
  ALLOW_USAGE_TRACKING: 'false',
})
const { uploadFile } = await import('@hubspot/local-dev-lib/api/fileManager')
const { http } = await import('@hubspot/local-dev-lib/http')

const path = join(mkdtempSync(join(tmpdir(), 'client-')), 'a.txt')
const files = []
for (const words of ['first', 'second']) {
  writeFileSync(path, words)
  const { data } = await uploadFile(given.portal, path, 'clients/deep/a.txt')
  files.push(data.objects[0])
}
const account = (await http.get(given.portal, { url: 'account-info/v3/details' })).data
console.log(JSON.stringify({ files, account: account.portalId }))
