// A site with the HubSpot login of Auth.js (@auth/core). Serves on localhost until it is ended.
import { Auth } from '@auth/core'
import HubSpot from '@auth/core/providers/hubspot'
import { createServer } from 'node:http'
import { createInterface } from 'node:readline/promises'

const given = JSON.parse(await createInterface({ input: process.stdin }).question(''))
const config = {
  basePath: '/auth',
  secret: 'a site of the tests',
  trustHost: true,
  providers: [HubSpot({ clientId: given.app.client_id, clientSecret: given.app.client_secret })],
  callbacks: {
    jwt: ({ token, account }) =>
      account
        ? { ...token, id: account.providerAccountId, access: account.access_token, refresh: account.refresh_token }
        : token,
    session: ({ session, token }) => ({
      email: session.user.email,
      id: token.id,
      access: token.access,
      refresh: token.refresh,
    }),
  },
}

const server = createServer(async (asked, answer) => {
  const chunks = []
  for await (const chunk of asked) chunks.push(chunk)
  const body = chunks.length ? Buffer.concat(chunks) : undefined
  const url = `http://${asked.headers.host}${asked.url}`
  const response = await Auth(new Request(url, { method: asked.method, headers: asked.headers, body }), config)
  answer.writeHead(response.status, {
    ...Object.fromEntries(response.headers),
    'set-cookie': response.headers.getSetCookie(),
  })
  answer.end(Buffer.from(await response.arrayBuffer()))
})
server.listen(0, 'localhost', () => {
  const paths = { login: '/auth/signin/hubspot', me: '/auth/session', csrf: '/auth/csrf', field: 'csrfToken' }
  console.log(JSON.stringify({ url: `http://localhost:${server.address().port}`, ...paths }))
})
