// A person: which audiences a key is in, why, and until when.

import { h } from './dom.js';
import { follow, now, segment, server } from './api.js';
import { changes } from './stream.js';
import { plural, second, time } from './format.js';
import { audienceAddress, changeKind, countdown, explainedTree, head, instead, personAddress, section, table } from './parts.js';

/** ms between two looks at a person. */
const EVERY = 2000;
/** ms between two steps of a countdown. */
const TICK = 200;
/** Changes that are shown. */
const SHOWN = 20;
/** Audiences of each kind that are shown at first. */
const FIRST = 20;
/** An id of no run: the stream begins with all changes that are kept. */
const ALL_KEPT = '0-0';
/** ms that a timer waits at most. */
const TIMER_MAX = 60_000;

/** The earliest later change among audiences and their conditions. */
function nextChange(audiences) {
  const times = audiences.map((audience) => audience.changes_at).filter(Boolean);
  return times.sort()[0] ?? null;
}

export function page([model, key], draw) {
  return key === undefined || key === '' ? search(model, draw) : person(model, key, draw);
}

/** The form to look somebody up. */
function form(models, chosen, given, draw) {
  const typed = { model: chosen ?? models[0] ?? '', key: given };
  return h(
    'form',
    {
      class: 'line',
      role: 'search',
      onsubmit: (event) => {
        event.preventDefault();
        const [of, text] = [event.target.querySelector('select').value, event.target.querySelector('input').value];
        if (text) location.hash = personAddress(of, text);
        else draw();
      },
    },
    h('label', null, 'Model', h('select', null, models.map((id) => h('option', { key: id, value: id, selected: id === typed.model }, id)))),
    h('label', { class: 'grow' }, 'Key', h('input', { type: 'text', autocomplete: 'off', spellcheck: 'false', value: typed.key })),
    h('button', { class: 'act main', type: 'submit' }, 'Look up'),
  );
}

function search(model, draw) {
  const models = follow('/v1/audiences', 5000, draw);
  return {
    view: () => [
      head('People', 'Look a key up: which audiences it is in, why, and until when.'),
      h(
        'section',
        { 'aria-label': 'Look a key up' },
        models.data ? form([...new Set(models.data.audiences.map((audience) => audience.model))], model, '', draw) : instead(models, 'Asking for the models'),
        h('p', { class: 'empty' }, 'The key is the one in the model’s key column and in the events: u-42, not a name or an address. Any model with audiences has people here, accounts too.'),
      ),
    ],
    stop: () => models.stop(),
  };
}

function person(model, key, draw) {
  let seen = [];
  const all = new Set();
  let timer = null;
  const path = `/v1/audiences/${segment(model)}/${segment(key)}/explain`;
  const explained = follow(path, EVERY, () => {
    plan();
    draw();
  });
  const stop = changes(
    { key },
    {
      from: ALL_KEPT,
      took: (change) => {
        if (change.model !== model) return;
        seen = [change, ...seen].slice(0, SHOWN);
        explained.again();
        draw();
      },
    },
  );
  // A countdown is drawn again in steps; when it ends, the answer is asked for at once.
  const ticks = setInterval(() => explained.data && server.state === 'live' && !server.paused && draw(), TICK);

  function plan() {
    clearTimeout(timer);
    const at = explained.data && nextChange(explained.data.audiences);
    if (at) timer = setTimeout(() => explained.again(), Math.min(TIMER_MAX, Math.max(50, Date.parse(at) - now() + 30)));
  }

  function view() {
    const trail = [`#/people/${segment(model)}`, 'People'];
    if (explained.error?.status === 404 || !explained.data) {
      const unknown = explained.error?.status === 404;
      return [
        head(key, null, trail),
        unknown
          ? h('p', { class: 'empty', role: 'status' }, `Nothing is known of this key in ${model}: it is in no snapshot and no event that counts. Compare it with the key column of the model; capitals and spaces count.`)
          : instead(explained, 'Asking why'),
        unknown && recent(),
      ];
    }
    const { audiences, in_snapshot: known, as_of: asOf } = explained.data;
    // First what changes next.
    const order = (a, b) => (a.changes_at ?? '~').localeCompare(b.changes_at ?? '~') || a.audience_id.localeCompare(b.audience_id);
    const of = (member) => audiences.filter((audience) => audience.member === member).sort(order);
    return [
      head(key, `In ${plural(of(true).length, 'audience')} of ${audiences.length} of ${model}, as of ${time(asOf)}.`, trail),
      !known && h('p', { class: 'warn' }, `The key is in no snapshot of ${model}: it is known from events only. Unless the model has "members: any", it enters no audience.`),
      part('in', 'In', of(true), 'It is in none.'),
      part('out', 'Not in', of(false), 'It is in all.'),
      values(explained.data),
      recent(),
    ];
  }

  function part(id, title, list, nothing) {
    return section(
      id,
      title,
      h('span', { class: 'muted' }, String(list.length)),
      list.length ? h('div', { class: 'stack' }, (all.has(id) ? list : list.slice(0, FIRST)).map(one)) : h('p', { class: 'empty' }, nothing),
      list.length > FIRST &&
        !all.has(id) &&
        h('div', null, h('button', { class: 'act slim', onclick: () => (all.add(id), draw()) }, `Show all ${list.length}`)),
    );
  }

  function one({ audience_id: id, audience_name: name, member, changes_at: at, condition }) {
    return h(
      'article',
      { class: 'block', key: id, 'data-audience': id },
      h(
        'div',
        { class: 'title' },
        h('h3', null, h('a', { href: audienceAddress(id) }, name)),
        h('span', { class: 'end muted' }, at ? [member ? 'leaves ' : 'enters ', countdown(at)] : member ? 'stays, if nothing happens' : null),
      ),
      explainedTree(condition),
    );
  }

  /** The values of live columns, and of columns of the rows that the key's row belongs to. */
  function values({ live, parents }) {
    if (live.length === 0 && parents.length === 0) return null;
    const text = (value) => (typeof value === 'string' ? value : JSON.stringify(value));
    const from = (origin) => (origin === 'event' ? 'an event' : 'the snapshot');
    const rows = [
      ...live.map(({ column, value, at, origin }) => [column, [column, text(value), `${from(origin)}, ${time(at)}`]]),
      ...parents.map(({ column, key, value }) => [column, [column, text(value), `its row belongs to ${key ?? 'none'}`]]),
    ];
    return section('values', 'Values', null, table('Values of live columns and of columns of parents', [['Column'], ['Value'], ['From']], rows));
  }

  function recent() {
    return section(
      'changes',
      'Recent changes',
      null,
      seen.length
        ? h(
            'ol',
            { class: 'feed', 'aria-label': 'Recent changes, the newest first' },
            seen.map((change) =>
              h(
                'li',
                { key: change.id },
                h('span', { class: 'muted', title: change.at }, second(Date.parse(change.at))),
                changeKind(change.type),
                h('a', { class: 'key', href: audienceAddress(change.audience_id) }, change.audience_name),
                h('span', { class: 'muted why' }, change.reason),
              ),
            ),
          )
        : h('p', { class: 'empty' }, 'None of the last 65,536 changes of the job is of this key.'),
    );
  }

  return {
    view,
    stop: () => {
      explained.stop();
      stop();
      clearInterval(ticks);
      clearTimeout(timer);
    },
  };
}
