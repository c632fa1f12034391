// Syncs: what was committed to each and what of it was delivered, what waits and why; of webhooks also the attempts and dead letters.

import { h } from './dom.js';
import { follow, mayAct, post, segment, server } from './api.js';
import { duration, number, plural, time } from './format.js';
import { ask, changeKind, facts, figures, head, instead, renewed, table } from './parts.js';

/** Dead letters that are shown. */
const SHOWN = 20;
/** Attempts that are shown. */
const ATTEMPTS = 10;

const STATES = { ok: 'good', open: 'bad', paused: 'warn', rejecting: 'bad' };
const MEANING = {
  open: 'The destination fails: one change at a time is tried, nothing is dropped.',
  paused: 'Nothing is sent until it is resumed; changes wait.',
  rejecting: 'The destination refuses most of what is sent: look at the last answer. Nothing is dropped.',
};

export function page(_, draw) {
  const attempts = new Map();
  const dead = new Map();
  const said = new Map();
  const syncs = follow('/v1/syncs', 2000, () => {
    for (const sync of syncs.data?.syncs ?? []) {
      if (!isByRequests(sync) || attempts.has(sync.id)) continue;
      attempts.set(sync.id, follow(`/v1/syncs/${segment(sync.id)}/attempts`, 3000, draw));
      dead.set(sync.id, follow(`/v1/syncs/${segment(sync.id)}/dead_letters?limit=${SHOWN}`, 3000, draw));
    }
    draw();
  });

  /** Whether a sync has been delivered by requests, or stands still: others have no attempts to ask for. */
  function isByRequests({ state: word, attempts: { delivered, failed, throttled, refused } }) {
    return word !== 'ok' || delivered + failed + throttled + refused > 0;
  }

  async function act(id, what, body, done) {
    try {
      const { data } = await post(`/v1/syncs/${segment(id)}/${what}`, body);
      said.set(id, ['muted', done(data)]);
    } catch (error) {
      said.set(id, ['bad', error.status === 403 ? 'This key lacks the scope `admin`. Forget it, and type one that has it.' : error.message]);
    }
    [syncs, attempts.get(id), dead.get(id)].forEach((one) => one?.again());
    draw();
  }

  async function drop(id) {
    if (await ask('Drop the dead letters?', `All dead letters of ${id} are removed. Their changes are never sent.`, 'Drop them')) {
      act(id, 'dead_letters/drop', { all: true }, (data) => `${plural(data.dead_letters, 'dead letter')} dropped.`);
    }
  }

  function view() {
    if (!syncs.data) return [head('Syncs'), instead(syncs, 'Asking for the syncs')];
    const list = syncs.data.syncs;
    return [
      head('Syncs', 'Where changes are sent. Every change is delivered, waits, or is a dead letter.'),
      renewed(syncs),
      list.length
        ? h('div', { class: 'stack' }, list.map(one))
        : h('p', { class: 'empty' }, 'The job has no syncs: its changes are seen here and by the API only. Add one to the job file under "syncs", to a topic of Kafka or a file.'),
    ];
  }

  function one(sync) {
    const { id, committed, delivered, waiting, retries, dead_letters: given, last_error: error } = sync;
    const waits = sync.oldest_waiting_ms ?? 0;
    const [kind, text] = said.get(id) ?? [];
    const tried = attempts.get(id)?.data?.attempts;
    return h(
      'section',
      { class: 'block', key: id, 'aria-label': id },
      h('div', { class: 'title' }, h('h2', null, id), state(sync), mayAct() && tried && actions(sync)),
      text && h('p', { class: kind, role: 'status' }, text),
      MEANING[sync.state] && h('p', { class: sync.state === 'paused' ? 'warn' : 'bad' }, MEANING[sync.state]),
      figures([
        ['Committed', number(committed)],
        ['Delivered', number(delivered)],
        ['Waiting', number(waiting), waits > 0 ? `nothing delivered for ${duration(waits)}` : null],
        sync.superseded !== undefined && ['Superseded', number(sync.superseded)],
        ['Dead letters', number(given), null, given ? 'bad' : ''],
        ['Retries', number(retries)],
      ]),
      error && facts([['Last error', h('span', { class: waiting ? 'bad' : 'muted' }, error)]]),
      tried?.length > 0 &&
        table(
          `Attempts of ${id}, the newest first`,
          [['Attempt'], ['Changes', 'num'], ['Answer'], ['Took', 'num']],
          tried.slice(0, ATTEMPTS).map((attempt) => [
            `${attempt.time} ${attempt.id}`,
            [
              h('span', { title: attempt.time }, time(attempt.time)),
              number(attempt.changes),
              h('span', { class: attempt.status >= 200 && attempt.status < 300 ? '' : 'bad' }, attempt.status ?? 'none', attempt.answer && h('span', { class: 'muted' }, ` ${attempt.answer.slice(0, 200)}`)),
              duration(attempt.latency_ms),
            ],
          ]),
        ),
      deadLetters(sync),
    );
  }

  function deadLetters({ id }) {
    const list = dead.get(id)?.data?.dead_letters ?? [];
    if (!list.length) return null;
    return [
      table(
        `Dead letters of ${id}, the oldest first`,
        [['Given up'], ['Change'], ['Key'], ['Why'], ['Action', 'num']],
        list.map((letter) => [
          letter.id,
          [
            h('span', { title: letter.time }, time(letter.time)),
            h('span', null, changeKind(letter.type), ` ${letter.audience_id}`),
            h('span', { class: 'mono' }, letter.key),
            h('span', null, letter.reason, letter.status ? `, ${letter.status}` : '', h('span', { class: 'muted' }, ` ${letter.answer.slice(0, 120)}`)),
            letter.again
              ? h('span', { class: 'muted' }, 'being sent again')
              : mayAct() && h('button', { class: 'act slim', onclick: () => act(id, 'dead_letters/redeliver', { ids: [letter.id] }, () => 'It waits to be sent again.') }, 'Send again', h('span', { class: 'sr' }, ` ${letter.key}`)),
          ],
        ]),
      ),
      mayAct() &&
        h(
          'div',
          { class: 'buttons' },
          h('button', { class: 'act slim', onclick: () => act(id, 'dead_letters/redeliver', { all: true }, (data) => `${plural(data.dead_letters, 'dead letter')} wait to be sent again.`) }, 'Send all again'),
          h('button', { class: 'act slim', onclick: () => drop(id) }, 'Drop all …'),
        ),
    ];
  }

  function actions({ id, state: word }) {
    const off = server.state !== 'live';
    const button = (name, what, done) =>
      h('button', { key: what, class: 'act slim', disabled: off, onclick: () => act(id, what, undefined, done) }, name, h('span', { class: 'sr' }, ` ${id}`));
    return h(
      'div',
      { class: 'buttons end' },
      button('Send an example', 'test', (data) => `The example was answered ${data.status ?? 'by nothing'}${data.answer ? `: ${data.answer.slice(0, 200)}` : ''}.`),
      word !== 'paused' && button('Pause', 'pause', () => 'It is paused: changes wait, after restarts too.'),
      word !== 'ok' && button(word === 'paused' ? 'Resume' : 'Try at once', 'resume', () => 'It sends at once.'),
    );
  }

  /** How it stands, by its own word or by what waits. */
  function state({ state: word, waiting, oldest_waiting_ms: waits, last_error: error }) {
    if (word && word !== 'ok') return h('span', { class: `badge ${STATES[word] ?? 'muted'}` }, word);
    if (waiting > 0 && ((waits ?? 0) > 10_000 || error)) return h('span', { class: 'badge warn' }, `${plural(waiting, 'change')} wait`);
    return h('span', { class: 'badge good' }, 'ok');
  }

  return { view, stop: () => [syncs, ...attempts.values(), ...dead.values()].forEach((one) => one.stop()) };
}
