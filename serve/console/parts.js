// Parts that several pages use: links, badges, tables, the tree of conditions, what is shown instead of data, a question.

import { h } from './dom.js';
import { now, segment, server } from './api.js';
import { duration, number, time } from './format.js';

/** The address of an audience's page. */
export function audienceAddress(id) {
  return `#/audiences/${segment(id)}`;
}

/** The address of a person's page. */
export function personAddress(model, key) {
  return `#/people/${segment(model)}/${segment(key)}`;
}

/** The head of a page. */
export function head(title, lead, trail) {
  return h(
    'header',
    { class: 'head' },
    trail && h('p', { class: 'trail' }, h('a', { href: trail[0] }, trail[1])),
    h('h1', { tabindex: '-1' }, title),
    lead && h('p', { class: 'lead' }, lead),
  );
}

/** A section with a title; `end` stands at the right of the title. */
export function section(id, title, end, ...children) {
  return h(
    'section',
    { key: id, 'aria-labelledby': id },
    h('div', { class: 'title' }, h('h2', { id }, title), end && h('div', { class: 'end' }, end)),
    children,
  );
}

/** A list of figures: [label, number, what stands below or beside]. */
export function figures(list) {
  const known = list.filter(Boolean);
  return h(
    'dl',
    { class: known.length > 5 ? 'figures' : 'figures few' },
    known.map(([label, value, below, kind]) =>
      h('div', { key: label }, h('dt', null, label), h('dd', { class: kind ?? '' }, value), below && h('dd', { class: 'note' }, below)),
    ),
  );
}

/** Facts by name. */
export function facts(list) {
  return h('dl', { class: 'facts' }, list.filter(Boolean).map(([name, value]) => [h('dt', null, name), h('dd', null, value)]));
}

/** A table. `columns`: [title, class]; `rows`: [key, cells]; the first cell is the row's head. */
export function table(caption, columns, rows) {
  return h(
    'div',
    { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption },
    h(
      'table',
      null,
      h('caption', { class: 'sr' }, caption),
      h('thead', null, h('tr', null, columns.map(([title, kind]) => h('th', { scope: 'col', class: kind }, title)))),
      h(
        'tbody',
        null,
        rows.map(([key, cells]) =>
          h(
            'tr',
            { key },
            cells.map((cell, index) =>
              index === 0
                ? h('th', { scope: 'row', class: columns[0][1] }, cell)
                : h('td', { class: columns[index][1] }, cell),
            ),
          ),
        ),
      ),
    ),
  );
}

const FRESHNESS = { Current: 'good', Refreshing: 'muted', Stale: 'warn', Pending: 'muted' };

/** How new the snapshots are that something depends on. */
export function freshness(word) {
  return word ? h('span', { class: `badge ${FRESHNESS[word] ?? 'muted'}` }, word) : h('span', { class: 'muted' }, 'No snapshot');
}

/** Whether windows are filled. */
export function windows({ complete, complete_at: until }) {
  if (complete) return h('span', { class: 'badge good' }, 'Complete');
  return h('span', { class: 'badge warn' }, until ? `Filling until ${time(until)}` : 'Filling');
}

/** An entry or an exit, in words, colour and a sign. */
export function changeKind(type) {
  return type === 'entry' ? h('span', { class: 'enter' }, '+ entry') : h('span', { class: 'leave' }, '− exit');
}

/** What stands where data is not there yet, or could not be had. */
export function instead(resource, what) {
  if (!resource.error) return h('p', { class: 'empty', role: 'status' }, `${what} …`);
  const { status, title, detail } = resource.error;
  const advice = {
    0: 'It is asked for again by itself.',
    403: 'The key lacks the scope `read`: forget it, and type one that has it.',
    404: 'Look at the list: the job may have changed.',
    429: 'The key is over its rate: close other consoles, or raise `api.rate_limit`.',
    502: 'Another process of the job does not answer. It is asked for again by itself.',
    503: 'It is asked for again by itself.',
  }[status];
  return h('div', { class: 'banner bad', role: 'alert' }, h('strong', null, title), detail && detail !== title ? `: ${detail}. ` : '. ', advice);
}

/** A note that what is shown is no longer renewed. */
export function renewed(resource) {
  return resource.data && resource.error
    ? h('p', { class: 'warn', role: 'status' }, `These are the numbers of ${time(resource.asOf)}: ${resource.error.message}.`)
    : null;
}

const KINDS = { all: 'all of', any: 'any of', not: 'not' };

/** A condition's text: its kind in quiet letters, the rest as in the job file. */
function text({ kind, text: written, conditions }) {
  if (KINDS[kind]) {
    const nothing = conditions.length ? '' : kind === 'any' ? ' (nothing: never true)' : ' (nothing: always true)';
    return h('span', { class: 'text' }, `${KINDS[kind]}${nothing}`);
  }
  const rest = written.startsWith(`${kind}: `) ? written.slice(kind.length + 2) : written;
  return [h('span', { class: 'kind' }, kind), ' ', h('span', { class: 'what' }, rest)];
}

/** The tree of an audience's conditions, each with the number of keys that meet it. */
export function countedTree(condition, most) {
  return h('ul', { class: 'tree' }, countedNode(condition, most, 'root'));
}

function countedNode(condition, most, key) {
  const part = most ? condition.keys / most : 0;
  return h(
    'li',
    { key },
    h(
      'div',
      { class: 'node' },
      h('span', { class: 'text' }, text(condition)),
      h(
        'span',
        { class: 'count' },
        h('span', { class: 'meter', 'aria-hidden': 'true' }, h('i', { style: { width: `${(100 * part).toFixed(1)}%` } })),
        h('span', { class: 'num' }, number(condition.keys)),
      ),
    ),
    condition.conditions.length > 0 &&
      h('ul', { class: 'tree' }, condition.conditions.map((inside, index) => countedNode(inside, most, index))),
  );
}

function sign(holds) {
  const path = holds ? 'M3.5 8.5l3 3 6-7' : 'M4.5 4.5l7 7m0-7l-7 7';
  return h(
    'span',
    { class: holds ? 'mark-holds' : 'mark-fails' },
    h(
      'svg',
      { width: 16, height: 16, viewBox: '0 0 16 16', role: 'img', 'aria-label': holds ? 'holds' : 'does not hold' },
      h('path', { d: path, fill: 'none', stroke: 'currentColor', 'stroke-width': 1.75, 'stroke-linecap': 'round', 'stroke-linejoin': 'round' }),
    ),
  );
}

/** The time until a moment, counted down; the moment itself where it is far. */
export function countdown(at) {
  const left = Date.parse(at) - now();
  if (left > 86_400_000) return time(at);
  return h('span', { class: 'countdown', role: 'timer', title: at }, left <= 0 ? 'now' : `in ${duration(left)}`);
}

/** The tree of conditions with their results for a key. */
export function explainedTree(condition, key = 'root') {
  const { kind, holds, value, threshold, events, changes_at: at, conditions } = condition;
  return h(
    'ul',
    { class: 'tree', key },
    h(
      'li',
      null,
      h(
        'div',
        { class: 'node' },
        h('span', { class: 'text' }, sign(holds), text(condition)),
        h(
          'span',
          { class: 'truth' },
          value !== null && h('span', null, `${value}${threshold ? `, needs ${threshold.replace('_', ' ')}` : ''}`),
          kind === 'sequence' && events.length > 0 && h('span', null, 'since ', time(events.at(-1))),
          at && h('span', null, holds ? 'ends ' : 'holds ', countdown(at)),
        ),
      ),
      conditions.map((inside, index) => explainedTree(inside, index)),
    ),
  );
}

/** Whether the numbers of a page can be shown now. */
export function isUnreachable() {
  return server.state === 'disconnected' || server.state === 'connecting';
}

/** Asks a question; resolves to whether it was answered with `yes`. */
export function ask(title, what, yes) {
  const dialog = document.createElement('dialog');
  const make = (tag, content, kind) => {
    const node = document.createElement(tag);
    node.textContent = content;
    if (kind) node.className = kind;
    return node;
  };
  const heading = make('h2', title);
  heading.id = 'question';
  dialog.setAttribute('aria-labelledby', 'question');
  const [no, go] = [make('button', 'Cancel', 'act'), make('button', yes, 'act main')];
  const buttons = make('div', '', 'buttons');
  buttons.append(no, go);
  dialog.append(heading, make('p', what), buttons);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    no.addEventListener('click', () => dialog.close(''));
    go.addEventListener('click', () => dialog.close('yes'));
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(dialog.returnValue === 'yes');
    });
  });
}
