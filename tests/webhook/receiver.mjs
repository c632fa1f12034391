// A receiver that verifies each request with the packages `standardwebhooks` and `svix`; prints its port.
//
//     node receiver.mjs OLD_SECRET NEW_SECRET

import http from "node:http";
import { createRequire } from "node:module";

const require = createRequire(process.cwd() + "/");
const load = (name) => {
  try {
    return require(name);
  } catch {
    return createRequire(import.meta.url)(name);
  }
};
const standard = load("standardwebhooks");
const svix = load("svix");
const [old, recent] = process.argv.slice(2);

const server = http.createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const body = Buffer.concat(chunks).toString();
    const secret = request.url.endsWith("new") ? recent : old;
    try {
      new standard.Webhook(secret).verify(body, request.headers);
      new svix.Webhook(secret).verify(body, request.headers);
      response.writeHead(204).end();
    } catch (error) {
      response.writeHead(401).end(String(error));
    }
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
