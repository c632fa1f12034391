// Overview: is it live, how much happens, and what needs a look.

import { h } from './dom.js';
import { follow, server } from './api.js';
import { duration, number, plural, rate, share, time } from './format.js';
import { audienceAddress, figures, head, instead, section, table } from './parts.js';
import { sparkline, within } from './charts.js';

/** ms between two looks. */
const EVERY = 2000;
/** Samples of rates that are kept: ten minutes. */
const KEPT = 300;
/** ms that a source may be behind its newest message. */
const LAG_MS = 60_000;
/** Messages that a source may be behind. */
const LAG_MESSAGES = 10_000;
/** The share of dead letters that needs a look. */
const DEAD = 0.05;
/** ms that a change may wait for its destination. */
const WAITS = 60_000;

// Rates are kept over pages: who comes back sees what happened meanwhile, from when the console was opened.
const rates = { read: [], entries: [], exits: [] };
const before = {};

function measure(name, total, at) {
  const last = before[name];
  if (last && at - last.at < EVERY / 2) return;
  before[name] = { total, at };
  // A count that is less than before is one of a new start.
  if (!last || total < last.total || at - last.at > 10 * EVERY) return;
  rates[name].push((1000 * (total - last.total)) / (at - last.at));
  if (rates[name].length > KEPT) rates[name].shift();
}

export function sum(numbers) {
  return numbers.reduce((all, one) => all + one, 0);
}

export function total(byReason) {
  return sum(Object.values(byReason));
}

/** What needs a look: [grave, text, address, link]. */
function issues({ audiences, models, syncs, sources, events }) {
  const list = [];
  if (server.state === 'live' && server.detail) list.push([true, server.detail, '#/syncs', 'Syncs']);
  for (const model of models ?? []) {
    const next = model.next_pull ? ` It is tried again at ${time(model.next_pull)}.` : '';
    if (model.freshness === 'Stale') {
      list.push([true, `The snapshot of ${model.id} is stale: ${model.last_error ?? 'its pull is overdue'}.${next}`, '#/models', 'Models']);
    }
    if (model.freshness === 'Pending') list.push([false, `${model.id} has never been pulled.${next}`, '#/models', 'Models']);
  }
  for (const sync of syncs ?? []) {
    const state = sync.state ?? 'ok';
    const waits = sync.oldest_waiting_ms ?? 0;
    if (state !== 'ok') list.push([state !== 'paused', `The sync ${sync.id} is ${state}; ${plural(sync.waiting, 'change')} wait. ${sync.last_error ?? ''}`, '#/syncs', 'Syncs']);
    else if (waits > WAITS) list.push([true, `The sync ${sync.id} has delivered nothing for ${duration(waits)}; ${plural(sync.waiting, 'change')} wait. ${sync.last_error ?? ''}`, '#/syncs', 'Syncs']);
    if (sync.dead_letters > 0) list.push([false, `${plural(sync.dead_letters, 'change')} of the sync ${sync.id} became dead letters.`, '#/syncs', 'Syncs']);
  }
  for (const source of sources ?? []) {
    const behind = sum(source.partitions.map((partition) => partition.lag_messages ?? 0));
    const lag = Math.max(0, ...source.partitions.filter((partition) => partition.lag_messages > 0).map((partition) => partition.lag_ms ?? 0));
    if (behind > LAG_MESSAGES || lag > LAG_MS) list.push([true, `The source ${source.id} is ${plural(behind, 'message')} and ${duration(lag)} behind.`, '#/sources', 'Sources']);
    const dead = total(source.dead_letters);
    if (source.read > 100 && dead / source.read > DEAD) list.push([true, `${share(dead, source.read)} of the messages of ${source.id} can't be used.`, '#/sources', 'Sources']);
    if (source.damaged_files.length) list.push([true, `${plural(source.damaged_files.length, 'file')} of ${source.id} are damaged.`, '#/sources', 'Sources']);
  }
  for (const event of events ?? []) {
    if (event.matched === 0 && event.near.length) list.push([false, `Nothing has matched the event ${event.id}; ${event.near.join(', ')} came near.`, '#/sources', 'Sources']);
  }
  const filling = (audiences ?? []).filter((audience) => !audience.windows.complete);
  if (filling.length) {
    const last = filling.map((audience) => audience.windows.complete_at).sort().at(-1);
    list.push([false, `The windows of ${plural(filling.length, 'audience')} are being filled${last ? `, the last until ${time(last)}` : ''}.`, '#/audiences', 'Audiences']);
  }
  return list.sort((a, b) => Number(b[0]) - Number(a[0]));
}

export function page(_, draw) {
  let busiest = [];
  const audiences = follow('/v1/audiences', EVERY, (one) => {
    if (!one.data) return draw();
    const at = Date.now();
    measure('entries', sum(one.data.audiences.map((audience) => audience.entries)), at);
    measure('exits', sum(one.data.audiences.map((audience) => audience.exits)), at);
    draw();
  });
  const sources = follow('/v1/sources', EVERY, (one) => {
    if (one.data) measure('read', sum(one.data.sources.map((source) => source.read)), Date.now());
    draw();
  });
  const syncs = follow('/v1/syncs', EVERY, draw);
  const models = follow('/v1/models', 2 * EVERY, draw);
  const events = follow('/v1/events', 5 * EVERY, draw);
  const sizes = follow('/v1/sizes', 5 * EVERY, (one) => {
    const moving = (audience) => (audience.entries ?? 0) + (audience.exits ?? 0);
    busiest = (one.data?.audiences ?? []).toSorted((a, b) => moving(b) - moving(a)).slice(0, 6);
    draw();
  });
  const all = [audiences, sources, syncs, models, events, sizes];

  function verdict(list) {
    if (server.state !== 'live') return null;
    if (!audiences.data || !sources.data || !syncs.data || !models.data) return 'Live.';
    const grave = list.filter(([is]) => is).length;
    if (grave) return `Live, and ${grave === 1 ? 'one thing needs' : `${grave} things need`} a look.`;
    return list.length ? 'Live. Nothing is wrong; there is something to know.' : 'Live, and nothing needs a look.';
  }

  function view() {
    if (!audiences.data) return [head(server.job?.job ?? 'Overview'), instead(audiences, 'Asking for the audiences')];
    const known = { ...audiences.data, ...models.data, ...syncs.data, ...sources.data, ...events.data };
    const list = issues(known);
    const partitions = (sources.data?.sources ?? []).flatMap((source) => source.partitions);
    const behind = partitions.map((partition) => partition.lag_messages).filter((lag) => lag !== null);
    const lags = partitions.map((partition) => partition.lag_ms).filter((lag) => lag !== null);
    const dead = sum((sources.data?.sources ?? []).map((source) => total(source.dead_letters)));
    const read = sum((sources.data?.sources ?? []).map((source) => source.read));
    const waiting = sum((syncs.data?.syncs ?? []).map((sync) => sync.waiting));
    const line = (name, what) => sparkline(rates[name], what, { from: 0 });
    return [
      head(server.job?.job ?? 'Overview', verdict(list)),
      list.length > 0 &&
        section(
          'issues',
          'Needs a look',
          null,
          h(
            'ul',
            { class: 'issues' },
            list.map(([grave, text, address, link]) =>
              h('li', { class: grave ? 'grave' : '' }, h('p', null, `${text.trim()} `, h('a', { href: address }, link))),
            ),
          ),
        ),
      section(
        'now',
        'Now',
        h('span', { class: 'muted' }, `as of ${time(audiences.asOf)}`),
        figures([
          ['Messages a second', rate(rates.read.at(-1)), line('read', 'Messages a second')],
          ['Entries a second', rate(rates.entries.at(-1)), line('entries', 'Entries a second')],
          ['Exits a second', rate(rates.exits.at(-1)), line('exits', 'Exits a second')],
          ['Memberships', number(sum(audiences.data.audiences.map((audience) => audience.size))), `in ${plural(audiences.data.audiences.length, 'audience')}`],
          behind.length
            ? ['Behind the sources', number(sum(behind)), plural(partitions.length, 'partition')]
            : ['Newest message', lags.length ? duration(Math.min(...lags)) : '–', 'ago'],
          ['Dead letters', number(dead), `${share(dead, read)} of all`],
          ['Waiting for syncs', syncs.data?.syncs.length ? number(waiting) : '–', syncs.data?.syncs.length ? plural(syncs.data.syncs.length, 'sync') : 'the job has no syncs'],
        ]),
      ),
      section(
        'busiest',
        'Audiences that move most',
        h('a', { href: '#/audiences' }, 'All audiences'),
        busiest.length
          ? table(
              'Sizes and changes of the audiences that move most',
              [['Audience'], ['Size', 'num'], ['Last hour', 'wide'], ['Entries a minute', 'num'], ['Exits a minute', 'num']],
              busiest.map(({ id, sizes: past, entries, exits }) => {
                const audience = audiences.data.audiences.find((one) => one.id === id);
                return [
                  id,
                  [
                    h('span', { class: 'name' }, h('a', { href: audienceAddress(id) }, audience?.name ?? id)),
                    number(audience?.size),
                    sparkline(within(past, 60), 'Size in the last hour'),
                    number(entries),
                    number(exits),
                  ],
                ];
              }),
            )
          : h('p', { class: 'empty' }, audiences.data.audiences.length ? 'Counting …' : 'The job has no audiences. Add one to the job file, and start it again.'),
      ),
    ];
  }
  return { view, stop: () => all.forEach((one) => one.stop()) };
}
