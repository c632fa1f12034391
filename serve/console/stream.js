// The stream of changes, read by `fetch`, because `EventSource` sends no headers. It goes on where it was: with the id of the last
// event after a lost connection or a restart. Where changes were missed the server says so, and `missed` is called.

import { onServer, open, server } from './api.js';

/** ms before the next attempt, at first and at most. */
const FIRST = 250;
const MOST = 3000;

/**
 * Follows the changes of an audience (`{audience}`) or of a key (`{key}`). `took` gets each change, `missed` is called where some
 * were missed. `from` is the id of the event to begin after; without it the stream begins now. Returns a function that stops.
 */
export function changes(filter, { took, missed = () => {}, from = null }) {
  const path = `/v1/changes?${new URLSearchParams(filter)}`;
  let last = from;
  let stopped = false;
  let controller = null;
  async function run() {
    let pause = FIRST;
    while (!stopped) {
      if (server.state !== 'live' || server.paused) {
        await new Promise((resolve) => setTimeout(resolve, FIRST));
        continue;
      }
      controller = new AbortController();
      try {
        const response = await open(path, last ? { 'last-event-id': last } : {}, controller.signal);
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        let text = '';
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          pause = FIRST;
          text += value;
          const events = text.split('\n\n');
          text = events.pop();
          for (const event of events) take(event);
        }
      } catch {
        // The connection is lost or refused: the next attempt says why, if it stays so.
      }
      if (!stopped) await new Promise((resolve) => setTimeout(resolve, pause));
      pause = Math.min(2 * pause, MOST);
    }
  }
  function take(text) {
    let [kind, data] = ['', ''];
    for (const line of text.split('\n')) {
      if (line.startsWith('id: ')) last = line.slice(4);
      else if (line.startsWith('event: ')) kind = line.slice(7);
      else if (line.startsWith('data: ')) data += line.slice(6);
    }
    if (kind === 'reset') missed();
    else if (kind === 'entry' || kind === 'exit') took(JSON.parse(data));
  }
  onServer(() => server.paused && controller?.abort());
  run();
  return () => {
    stopped = true;
    controller?.abort();
  };
}
