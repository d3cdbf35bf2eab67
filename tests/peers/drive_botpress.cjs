// Drives Botpress's own clients, of the Chat API and of the Runtime API, against the addresses given on stdin; prints
// what they made of every answer.
const chat = require('@botpress/chat')
const runtime = require('@botpress/client')

const given = JSON.parse(require('fs').readFileSync(0, 'utf8'))
const seen = {}

const refused = async (promise) => {
  try {
    await promise
    return null
  } catch (error) {
    return { status: error.code ?? error.response?.status ?? null, type: error.type ?? error.name }
  }
}

const until = async (condition) => {
  for (let round = 0; round < 600; round += 1) {
    if (condition()) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error('it did not happen within 30 s')
}

const text = (said) => ({ type: 'text', text: said })

const asUsers = async () => {
  const options = { apiUrl: given.chat, encryptionKey: given.encryptionKey }
  const ana = await chat.Client.connect({ ...options, userId: 'ana' })
  const bob = await chat.Client.connect({ ...options, userId: 'bob' })
  seen.user = (await ana.getUser({})).user.id
  const { conversation } = await ana.getOrCreateConversation({ id: 'mine' })
  seen.again = (await ana.getOrCreateConversation({ id: 'mine' })).conversation.id === conversation.id
  const { id: conversationId } = conversation

  const heard = []
  const listener = await ana.listenConversation({ id: conversationId })
  for (const name of ['message_created', 'event_created', 'participant_added', 'participant_removed']) {
    listener.on(name, (data) => heard.push([name, data.isBot ?? null, data.payload?.text ?? data.payload?.kind ?? null]))
  }
  await ana.createMessage({ conversationId, payload: text('hello') })
  await until(() => heard.length === 2)
  await listener.disconnect()
  await listener.connect()
  await ana.createMessage({ conversationId, payload: text('again') })
  await until(() => heard.length === 4)
  await ana.createEvent({ conversationId, payload: { kind: 'ours' } })
  await until(() => heard.length === 5)

  await ana.addParticipant({ conversationId, userId: 'bob' })
  const bobs = []
  const bobListens = await bob.listenConversation({ id: conversationId })
  bobListens.on('message_created', (data) => bobs.push(data.payload.text))
  bobListens.on('error', () => bobs.push('closed'))
  await ana.createMessage({ conversationId, payload: text('to both') })
  await until(() => bobs.length === 2)
  seen.participants = (await ana.list.participants({ conversationId }).collect()).map((one) => one.id)
  await ana.removeParticipant({ conversationId, userId: 'bob' })
  await until(() => bobs.includes('closed'))
  await ana.createMessage({ conversationId, payload: text('to one') })
  seen.bob = bobs
  seen.outside = await refused(bob.getConversation({ id: conversationId }))
  seen.himself = await refused(ana.removeParticipant({ conversationId, userId: 'ana' }))
  await until(() => heard.length === 11)
  await listener.disconnect()
  seen.heard = heard

  for (let number = 0; number < 15; number += 1) {
    await ana.createMessage({ conversationId, payload: text(String(number)) })
  }
  const messages = await ana.list.messages({ conversationId }).collect()
  seen.count = messages.length
  const times = messages.map((one) => one.createdAt)
  seen.newestFirst = times.every((one, index) => index === 0 || one < times[index - 1])
  seen.wrong = []
  for (const payload of given.wrong) seen.wrong.push(await refused(ana.createMessage({ conversationId, payload })))
  return conversationId
}

const asBot = async (conversationId) => {
  const client = new runtime.Client({ apiUrl: given.runtime, token: given.token, botId: given.botId })
  const messages = await client.list.messages({ conversationId }).collect({ limit: 1000 })
  seen.runtime = {
    count: messages.length,
    directions: [...new Set(messages.map((one) => one.direction))].sort(),
    oldest: [messages.at(-1).type, messages.at(-1).payload],
  }
  const message = { conversationId, userId: given.botId, type: 'text', payload: { text: 'by the runtime' }, tags: {} }
  seen.made = (await client.createMessage(message)).message.direction
  seen.unknown = await refused(client.createMessage({ ...message, conversationId: 'conv_nowhere' }))
  seen.badPayload = await refused(client.createMessage({ ...message, payload: {} }))
  seen.conversations = (await client.list.conversations({}).collect()).length
}

const main = async () => {
  await asBot(await asUsers())
  process.stdout.write(JSON.stringify(seen))
  process.exit(0)
}
main().catch((error) => {
  console.error(error)
  process.exit(1)
})
