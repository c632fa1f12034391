// Audiences: how large each is now, how it moves, and how fresh it is. A page of the list is drawn at a time, so that a thousand
// are as quick as ten.

import { h } from './dom.js';
import { follow } from './api.js';
import { number, plural, time } from './format.js';
import { audienceAddress, freshness, head, instead, renewed, windows } from './parts.js';
import { sparkline, within } from './charts.js';

/** Audiences of a page. */
const PAGE = 50;

const COLUMNS = [
  ['name', 'Audience', ''],
  ['size', 'Size', 'num'],
  [null, 'Last hour', 'wide'],
  ['entries', 'Entries a minute', 'num wide'],
  ['exits', 'Exits a minute', 'num wide'],
  ['freshness', 'Freshness', ''],
  ['windows', 'Windows', 'wide'],
];

// How the list was left, for who comes back.
const left = { words: '', by: 'name', up: true, place: 0 };

export function page(_, draw) {
  let sizes = null;
  let listed = '';
  const past = new Map();
  const audiences = follow('/v1/audiences', 2000, draw);

  /** Follows the last hour of the audiences that are shown. */
  function followSizes(ids) {
    const wanted = ids.join(',');
    if (wanted === listed) return;
    listed = wanted;
    sizes?.stop();
    sizes = follow(`/v1/sizes?ids=${wanted}`, 5000, (one) => {
      for (const audience of one.data?.audiences ?? []) past.set(audience.id, audience);
      draw();
    });
  }

  function value(audience, by) {
    switch (by) {
      case 'entries':
      case 'exits':
        return past.get(audience.id)?.[by] ?? -1;
      case 'windows':
        return audience.windows.complete ? '' : (audience.windows.complete_at ?? '~');
      case 'name':
        return audience.name.toLowerCase();
      default:
        return audience[by];
    }
  }

  function found() {
    const words = left.words.toLowerCase().split(/\s+/).filter(Boolean);
    const has = ({ id, name, model, owner, tags }) => {
      const text = [id, name, model, owner, ...(tags ?? [])].join(' ').toLowerCase();
      return words.every((word) => text.includes(word));
    };
    const compare = (a, b) => {
      const [x, y] = [value(a, left.by), value(b, left.by)];
      return (x < y ? -1 : x > y ? 1 : a.id < b.id ? -1 : 1) * (left.up ? 1 : -1);
    };
    return audiences.data.audiences.filter(has).sort(compare);
  }

  function sort(by) {
    Object.assign(left, { up: left.by === by ? !left.up : by === 'name' || by === 'freshness', by, place: 0 });
    draw();
  }

  function view() {
    if (!audiences.data) return [head('Audiences'), instead(audiences, 'Asking for the audiences')];
    const all = audiences.data.audiences;
    if (!all.length) return [head('Audiences'), h('p', { class: 'empty' }, 'The job has no audiences. Add one to the job file, and start it again.')];
    const list = found();
    left.place = Math.min(left.place, Math.max(0, Math.ceil(list.length / PAGE) - 1) * PAGE);
    const shown = list.slice(left.place, left.place + PAGE);
    followSizes(shown.map((audience) => audience.id));
    return [
      head('Audiences', `${plural(all.length, 'audience')}, exact as of ${time(audiences.asOf)}.`),
      h(
        'section',
        { 'aria-label': 'Audiences' },
        renewed(audiences),
        h(
          'form',
          { class: 'line', role: 'search', onsubmit: (event) => event.preventDefault() },
          h(
            'label',
            { class: 'grow' },
            'Find by name, id or model',
            h('input', {
              type: 'search',
              value: left.words,
              oninput: (event) => {
                Object.assign(left, { words: event.target.value, place: 0 });
                draw();
              },
            }),
          ),
        ),
        list.length
          ? h(
              'div',
              { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'List of audiences' },
              h(
                'table',
                null,
                h('caption', { class: 'sr' }, 'Audiences'),
                h(
                  'thead',
                  null,
                  h(
                    'tr',
                    null,
                    COLUMNS.map(([by, title, kind]) =>
                      h(
                        'th',
                        { scope: 'col', class: kind, 'aria-sort': by && by === left.by ? (left.up ? 'ascending' : 'descending') : null },
                        by ? h('button', { type: 'button', onclick: () => sort(by) }, title, by === left.by ? (left.up ? ' ↑' : ' ↓') : '') : title,
                      ),
                    ),
                  ),
                ),
                h('tbody', null, shown.map((audience) => row(audience, past.get(audience.id)))),
              ),
            )
          : h('p', { class: 'empty' }, 'No audience has all these words. Take one away.'),
        list.length > PAGE && pager(list.length),
      ),
    ];
  }

  function row(audience, hour) {
    return h(
      'tr',
      { key: audience.id },
      h(
        'th',
        { scope: 'row' },
        h('span', { class: 'name' }, h('a', { href: audienceAddress(audience.id) }, audience.name), audience.name !== audience.id && h('span', { class: 'id' }, audience.id)),
      ),
      h('td', { class: 'num' }, number(audience.size)),
      h('td', { class: 'wide' }, sparkline(within(hour?.sizes ?? [], 60), 'Size in the last hour')),
      h('td', { class: 'num wide' }, number(hour?.entries)),
      h('td', { class: 'num wide' }, number(hour?.exits)),
      h('td', null, freshness(audience.freshness)),
      h('td', { class: 'wide' }, windows(audience.windows)),
    );
  }

  function pager(count) {
    const to = (place) => {
      left.place = place;
      draw();
    };
    return h(
      'div',
      { class: 'buttons' },
      h('button', { class: 'act', disabled: left.place === 0, onclick: () => to(left.place - PAGE) }, 'Previous'),
      h('button', { class: 'act', disabled: left.place + PAGE >= count, onclick: () => to(left.place + PAGE) }, 'Next'),
      h('span', { class: 'muted', role: 'status' }, `${number(left.place + 1)} to ${number(Math.min(count, left.place + PAGE))} of ${number(count)}`),
    );
  }

  return {
    view,
    stop: () => {
      audiences.stop();
      sizes?.stop();
    },
  };
}
