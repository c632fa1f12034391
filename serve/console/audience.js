// An audience: what it is, who meets which of its conditions, how it moves, who will leave by themselves, who is in.

import { h } from './dom.js';
import { follow, get, segment } from './api.js';
import { changes } from './stream.js';
import { number, plural, second, time } from './format.js';
import { changeKind, countedTree, figures, freshness, head, instead, personAddress, renewed, section, windows } from './parts.js';
import { histogram, leavingTable, sizeChart, sizeTable, within } from './charts.js';

/** Changes that are shown. */
const SHOWN = 20;
/** ms between two steps of the feed: what comes faster comes together. */
const STEP = 500;
/** More new changes than this in one step are not marked as new: a feed that moves all the time need not shine too. */
const MARKED = 3;
/** Steps of each span. */
const STEPS = { hour: 360, day: 1440 };
/** Members of a page. */
const PAGE = 60;

function most(condition) {
  return Math.max(condition.keys, ...condition.conditions.map(most));
}

function lastMinute(list) {
  const steps = list.slice(-6);
  return steps.length < 6 || steps.includes(null) ? null : steps.reduce((all, one) => all + one, 0);
}

export function page([id], draw) {
  let span = 'hour';
  let picked = null;
  let minute = null;
  let feed = [];
  let come = [];
  let marked = new Set();
  let step = null;
  const members = { keys: null, asOf: null, cursors: [''], next: null, error: null };
  let wanted = '';

  const audiences = follow(`/v1/audiences?ids=${segment(id)}`, 2000, draw);
  const definition = follow(`/v1/definitions/${segment(id)}`, 2000, draw);
  const sizes = follow(`/v1/sizes/${segment(id)}`, 5000, draw);
  const models = follow('/v1/models', 5000, draw);
  const stop = changes(
    { audience: id },
    {
      took: (change) => {
        come = [change, ...come].slice(0, SHOWN);
        step ??= setTimeout(() => {
          marked = new Set(come.length <= MARKED ? come.map((one) => one.id) : []);
          feed = [...come, ...feed].slice(0, SHOWN);
          [come, step] = [[], null];
          draw();
        }, STEP);
      },
      missed: () => {
        feed = [];
        draw();
      },
    },
  );

  async function list() {
    const cursor = members.cursors.at(-1);
    try {
      const { data, asOf } = await get(`/v1/members/${segment(id)}?limit=${PAGE}&cursor=${segment(cursor)}`);
      Object.assign(members, { keys: data.members, next: data.next_cursor, asOf, error: null });
    } catch (error) {
      members.error = error;
      // A cursor from before a restart.
      if (error.status === 400) members.cursors = [''];
    }
    draw();
  }
  list();

  function view() {
    const trail = ['#/audiences', 'Audiences'];
    const audience = audiences.data?.audiences[0];
    if (!audience) return [head(id, null, trail), instead(audiences, 'Asking for the audience')];
    const model = models.data?.models.find((one) => one.id === audience.model);
    const { data } = definition;
    const hour = sizes.data?.hour;
    const leaving = data ? data.leaving_by_minute.reduce((all, one) => all + one, 0) : null;
    return [
      head(audience.name, data?.description ?? null, trail),
      h(
        'section',
        { 'aria-label': 'Now' },
        renewed(audiences),
        figures([
          ['Members now', h('span', { id: 'size' }, number(audience.size)), `as of ${time(audiences.asOf)}`],
          ['Entries a minute', number(hour ? lastMinute(hour.entries) : null), `${number(audience.entries)} since the start`],
          ['Exits a minute', number(hour ? lastMinute(hour.exits) : null), `${number(audience.exits)} since the start`],
          ['Leave by themselves', number(leaving), 'in the next hour, if nothing happens'],
        ]),
      ),
      section(
        'over-time',
        'Size over time',
        h(
          'span',
          { class: 'choice', role: 'group', 'aria-label': 'Span' },
          [
            ['hour', 'Hour'],
            ['day', 'Day'],
          ].map(([name, title]) => h('button', { type: 'button', 'aria-pressed': String(span === name), onclick: () => ((span = name), (picked = null), draw()) }, title)),
        ),
        sizes.data
          ? [
              sizeChart({ ...sizes.data[span], sizes: within(sizes.data[span].sizes, STEPS[span]) }, `Size of ${audience.name}`, picked, (index) => ((picked = index), draw())),
              sizes.data[span].until && h('details', null, h('summary', null, 'As a table'), h('div', { class: 'tall', tabindex: '0' }, sizeTable(sizes.data[span], `Size in the last ${span}`))),
            ]
          : instead(sizes, 'Asking for the sizes'),
      ),
      section(
        'conditions',
        'Conditions',
        data && h('span', { class: 'muted' }, `${model?.id ?? audience.model} that meet each, as of ${time(data.as_of)}`),
        data ? countedTree(data.condition, most(data.condition)) : instead(definition, 'Counting who meets which condition'),
      ),
      section(
        'leaving',
        'Who leaves by themselves in the next hour',
        data && h('span', { class: 'muted' }, `counted at ${time(data.counted_at)}`),
        data
          ? leaving
            ? [
                histogram(data.leaving_by_minute, Date.parse(data.counted_at), minute, (index) => ((minute = index), draw())),
                h('details', null, h('summary', null, 'As a table'), h('div', { class: 'tall', tabindex: '0' }, leavingTable(data.leaving_by_minute, Date.parse(data.counted_at)))),
              ]
            : h('p', { class: 'empty' }, 'Nobody leaves without a new event or a pull: no window of a member ends, and no moment of now() comes.')
          : null,
      ),
      h(
        'div',
        { class: 'two' },
        section(
          'changes',
          'Changes',
          null,
          feed.length
            ? h(
                'ol',
                { class: 'feed', 'aria-label': 'Changes, the newest first' },
                feed.map((change) =>
                  h(
                    'li',
                    { key: change.id, class: marked.has(change.id) ? 'new' : null },
                    h('span', { class: 'muted', title: change.at }, second(Date.parse(change.at))),
                    changeKind(change.type),
                    h('a', { class: 'key mono', href: personAddress(audience.model, change.key) }, change.key),
                    h('span', { class: 'muted why' }, change.reason),
                  ),
                ),
              )
            : h('p', { class: 'empty', role: 'status' }, 'Nothing has changed since this page was opened. Entries and exits come here as they happen.'),
        ),
        h(
          'div',
          { class: 'stack' },
          membersPart(audience),
          section(
            'about',
            'About',
            null,
            h('dl', { class: 'facts' }, [
              h('dt', null, 'Id'),
              h('dd', null, h('code', null, id)),
              h('dt', null, 'Model'),
              h('dd', null, h('a', { href: '#/models' }, audience.model)),
              audience.owner && [h('dt', null, 'Owner'), h('dd', null, audience.owner)],
              audience.tags?.length > 0 && [h('dt', null, 'Tags'), h('dd', null, audience.tags.join(', '))],
              h('dt', null, 'Freshness'),
              h('dd', null, freshness(audience.freshness)),
              model?.last_pull && [h('dt', null, 'Last pull'), h('dd', null, `${time(model.last_pull)}, ${plural(model.rows, 'row')}${model.last_error ? `; the last try failed: ${model.last_error}` : ''}`)],
              model?.next_pull && [h('dt', null, 'Next pull'), h('dd', null, time(model.next_pull))],
              h('dt', null, 'Windows'),
              h('dd', null, windows(audience.windows)),
              audience.held > 0 && [h('dt', null, 'Held'), h('dd', null, `${plural(audience.held, 'key')} until the windows are complete`)],
              h('dt', null, 'Syncs'),
              h('dd', null, data?.syncs.length ? h('a', { href: '#/syncs' }, data.syncs.join(', ')) : data ? 'none: its changes are sent nowhere' : '–'),
            ]),
          ),
        ),
      ),
    ];
  }

  function membersPart(audience) {
    const turn = (change) => {
      change();
      list();
    };
    return section(
      'members',
      'Members',
      members.asOf && h('span', { class: 'muted' }, `as of ${time(members.asOf)}`),
      h(
        'form',
        {
          class: 'line',
          onsubmit: (event) => {
            event.preventDefault();
            if (wanted) location.hash = personAddress(audience.model, wanted);
          },
        },
        h('label', { class: 'grow' }, `A key of ${audience.model}`, h('input', { type: 'text', autocomplete: 'off', spellcheck: 'false', oninput: (event) => (wanted = event.target.value) })),
        h('button', { class: 'act', type: 'submit' }, 'Show'),
      ),
      members.keys === null
        ? instead(members, 'Asking for the members')
        : members.keys.length
          ? h('ul', { class: 'keys' }, members.keys.map((key) => h('li', { key }, h('a', { href: personAddress(audience.model, key), title: key }, key))))
          : h('p', { class: 'empty' }, 'Nobody is in it now.'),
      h(
        'div',
        { class: 'buttons' },
        h('button', { class: 'act slim', onclick: () => turn(() => (members.cursors = [''])) }, members.cursors.length > 1 ? 'First' : 'Again'),
        h('button', { class: 'act slim', disabled: members.cursors.length < 2, onclick: () => turn(() => members.cursors.pop()) }, 'Previous'),
        h('button', { class: 'act slim', disabled: !members.next, onclick: () => turn(() => members.cursors.push(members.next)) }, 'Next'),
      ),
    );
  }

  return {
    view,
    stop: () => {
      [audiences, definition, sizes, models].forEach((one) => one.stop());
      stop();
      clearTimeout(step);
    },
  };
}
