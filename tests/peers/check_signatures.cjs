// Reads a JSON array of requests on stdin; prints what HubSpot's own library says of each signature.
const { Signature } = require('@hubspot/api-client')

const requests = JSON.parse(require('fs').readFileSync(0, 'utf8'))
const verdicts = requests.map((request) => {
  const { signatureVersion, clientSecret, method, url, requestBody, timestamp } = request
  const data = { signatureVersion, clientSecret, method, url, requestBody, timestamp }
  return {
    made: Signature.getSignature(method, signatureVersion, { ...data, signature: '' }),
    valid: Signature.isValid({ ...data, signature: request.signature }),
  }
})
process.stdout.write(JSON.stringify(verdicts))
