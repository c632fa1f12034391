// Sources: how far each was read, what matched, what was skipped or could not be used, and what nothing matches.

import { h } from './dom.js';
import { follow } from './api.js';
import { duration, number, plural, share, time } from './format.js';
import { figures, head, instead, renewed, section, table } from './parts.js';

/** Partitions that are shown at first. */
const SHOWN = 20;

const REASONS = {
  blank: 'nothing in them',
  unmatched: 'no event matches',
  no_key: 'no key: anonymous',
  malformed: 'not of the format',
  bad_key: 'a key that is none',
  no_timestamp: 'no time',
  bad_timestamp: 'a time that is none',
  future_timestamp: 'a time in the future',
  too_large: 'too long',
  unknown_schema: 'an unknown schema',
};

export function page(_, draw) {
  const all = new Set();
  const sources = follow('/v1/sources', 2000, draw);
  const events = follow('/v1/events', 2000, draw);

  function view() {
    if (!sources.data) return [head('Sources'), instead(sources, 'Asking for the sources')];
    const list = sources.data.sources;
    return [
      head('Sources', 'What comes in, how much of it the job uses, and what it can’t. Counted since the start, by this process.'),
      renewed(sources),
      list.length ? list.map(one) : h('p', { class: 'empty' }, 'The sources are being opened, or the job has none.'),
    ];
  }

  function one(source) {
    const { id, read, matched, partitions, unmatched } = source;
    const [skipped, dead] = [sum(source.skipped), sum(source.dead_letters)];
    const behind = partitions.map((partition) => partition.lag_messages).filter((lag) => lag !== null);
    const of = (events.data?.events ?? []).filter((event) => event.source.split(', ').includes(id));
    return [
      section(
        `source-${id}`,
        id,
        null,
        figures([
          ['Read', number(read)],
          ['Matched', number(matched), share(matched, read)],
          ['Skipped', number(skipped), share(skipped, read)],
          ['Dead letters', number(dead), share(dead, read), dead / read > 0.05 ? 'bad' : ''],
          behind.length > 0 && ['Behind', number(behind.reduce((a, b) => a + b, 0)), 'messages'],
        ]),
        source.last_error && h('p', { class: 'bad' }, `It waits: ${source.last_error}`),
        source.damaged_files.map((damage) => h('p', { class: 'bad', key: damage }, damage)),
        reasons(source),
      ),
      section(
        `partitions-${id}`,
        plural(partitions.length, 'partition'),
        null,
        table(
          `Partitions of ${id}`,
          [['Name'], ['Position', 'num'], ['End', 'num wide'], ['Behind', 'num'], ['Newest message', 'num']],
          (all.has(id) ? partitions : partitions.slice(0, SHOWN)).map(({ name, position, end, lag_messages: lag, lag_ms: ms }) => [
            name,
            [h('span', { class: 'mono' }, name), number(position), number(end), number(lag), ms === null ? '–' : `${duration(ms)} ago`],
          ]),
        ),
        partitions.length > SHOWN && !all.has(id) && h('div', null, h('button', { class: 'act slim', onclick: () => (all.add(id), draw()) }, `Show all ${number(partitions.length)}`)),
      ),
      of.length > 0 &&
        section(
          `events-${id}`,
          'Events of the job',
          null,
          table(
            `Events of ${id}`,
            [['Event'], ['Matched', 'num'], ['Repeats', 'num wide'], ['Last seen', 'num'], ['Came near', 'wide']],
            of.map((event) => [
              event.id,
              [
                event.id,
                number(event.matched),
                number(event.repeats),
                event.last_seen ? time(event.last_seen) : h('span', { class: 'warn' }, 'never'),
                event.near.length ? h('span', { class: 'warn' }, event.near.join(', ')) : h('span', { class: 'muted' }, 'nothing'),
              ],
            ]),
          ),
        ),
      source.schemas.length > 0 &&
        section(
          `schemas-${id}`,
          'Schemas',
          null,
          table(
            `Schemas of the messages of ${id}`,
            [['Id'], ['Language'], ['Why its messages are not read', 'wide']],
            source.schemas.map(({ id: schema, type, error }) => [schema, [h('span', { class: 'mono' }, schema), type ?? h('span', { class: 'muted' }, 'none'), error && h('span', { class: 'bad' }, error)]]),
          ),
        ),
      section(
        `unmatched-${id}`,
        'What no event matches',
        null,
        unmatched.length
          ? table(
              `Types and names of ${id} that no event matches`,
              [['Type'], ['Name'], ['Messages', 'num']],
              unmatched.map(({ type, name, count }) => [`${type} ${name}`, [type ?? h('span', { class: 'muted' }, 'none'), name ?? h('span', { class: 'muted' }, 'none'), number(count)]]),
            )
          : h('p', { class: 'empty' }, 'Every message that could be read matches an event of the job.'),
      ),
    ];
  }

  function reasons(source) {
    const counted = [
      ...Object.entries(source.skipped).map(([reason, count]) => ['skipped', reason, count]),
      ...Object.entries(source.dead_letters).map(([reason, count]) => ['dead letter', reason, count]),
    ].filter(([, , count]) => count > 0);
    if (!counted.length) return null;
    return table(
      `Why messages of ${source.id} were not used`,
      [['Reason'], ['What became of them'], ['Messages', 'num']],
      counted.map(([kind, reason, count]) => [
        `${kind} ${reason}`,
        [h('span', null, h('code', null, reason), h('span', { class: 'muted wide' }, ` ${REASONS[reason] ?? ''}`)), kind, number(count)],
      ]),
    );
  }

  function sum(byReason) {
    return Object.values(byReason).reduce((a, b) => a + b, 0);
  }

  return {
    view,
    stop: () => [sources, events].forEach((one) => one.stop()),
  };
}
