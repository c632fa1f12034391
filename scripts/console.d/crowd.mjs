// Asks usher what many consoles ask: each has the page of an audience open, with its polls and its stream. `crowd.mjs URL N`; prints
// a line once all streams are open, and goes on until it is ended.

const [url, number] = [process.argv[2], Number(process.argv[3])];
const AUDIENCE = 'soon';

/** What the page of an audience asks for, and how often, ms. */
const POLLS = [
  ['/readyz', 2000],
  [`/v1/audiences?ids=${AUDIENCE}`, 2000],
  [`/v1/definitions/${AUDIENCE}`, 2000],
  [`/v1/sizes/${AUDIENCE}`, 5000],
  ['/v1/models', 5000],
];

/** Opens one console; resolves once its stream is open. */
async function open() {
  for (const [path, ms] of POLLS) {
    const ask = async () => (await fetch(url + path)).arrayBuffer();
    // Not all at once: people do not open their pages together.
    setTimeout(() => setInterval(ask, ms), Math.random() * ms);
  }
  const stream = await fetch(`${url}/v1/changes?audience=${AUDIENCE}`);
  void (async () => {
    for await (const _bytes of stream.body);
  })();
}

await Promise.all(Array.from({ length: number }, open));
// Until the polls of all have begun.
await new Promise((resolve) => setTimeout(resolve, 5000));
console.log(`${number} consoles are open`);
