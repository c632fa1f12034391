// Serializes events with `@kafkajs/confluent-schema-registry`, which registers the schemas.
//
// Reads JSON from stdin: the registry's `url`, and by encoding its `subject`, `schemas` and `messages`: lists of as many of each, one list of messages a schema.
// Writes JSON to stdout: by encoding the values in base64. The package is found in the folder of NPM_WRITER.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const require = createRequire(join(process.env.NPM_WRITER, "x.js"));
const { SchemaRegistry, SchemaType } = require("@kafkajs/confluent-schema-registry");
const { url, encodings } = JSON.parse(readFileSync(0, "utf8"));
const registry = new SchemaRegistry({ host: url });
const types = { avro: SchemaType.AVRO, json_schema: SchemaType.JSON, protobuf: SchemaType.PROTOBUF };
const written = {};
for (const [encoding, { subject, schemas, messages }] of Object.entries(encodings)) {
  written[encoding] = [];
  for (const [at, schema] of schemas.entries()) {
    const { id } = await registry.register({ type: types[encoding], schema }, { subject, compatibility: "NONE" });
    for (const message of messages[at]) {
      written[encoding].push((await registry.encode(id, message)).toString("base64"));
    }
  }
}
process.stdout.write(JSON.stringify(written));
