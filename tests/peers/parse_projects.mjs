// Reads a JSON array of project folders on stdin; prints what HubSpot's own reader makes of each, without validation.
import fs from 'node:fs'
import path from 'node:path'
import { translate } from '@hubspot/project-parsing-lib/translate'
import { parseProjectConfig } from '@hubspot/project-parsing-lib/projects'
import { validateUid } from '@hubspot/project-parsing-lib/uid'

const read = async ({ folder, profile }) => {
  try {
    const project = parseProjectConfig(folder)
    const context = {
      projectSourceDir: path.join(folder, project.srcDir),
      platformVersion: project.platformVersion,
      accountId: 1,
    }
    const answer = await translate(context, { skipValidation: true, profile: profile ?? undefined })
    const nodes = answer.intermediateRepresentation.intermediateNodesIndexedByUid
    const refused = Object.keys(nodes).filter((uid) => validateUid(uid))
    return { project, nodes, skipped: answer.skippedHsMetaFiles, refused }
  } catch (error) {
    return { error: error.message }
  }
}

const seen = []
for (const one of JSON.parse(fs.readFileSync(0, 'utf8'))) seen.push(await read(one))
process.stdout.write(JSON.stringify(seen))
