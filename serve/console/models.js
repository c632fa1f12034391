// Models: how fresh each snapshot is, its pulls, and a pull now.

import { h } from './dom.js';
import { follow, mayAct, post, segment, server } from './api.js';
import { duration, number, plural, time } from './format.js';
import { ask, facts, freshness, head, instead, renewed, table } from './parts.js';

/** Pulls that are shown. */
const SHOWN = 10;

const STATUS = { running: 'muted', succeeded: 'good', failed: 'bad', held: 'warn' };
const TRIGGERS = { start: 'start', schedule: 'schedule', request: 'request' };

export function page(_, draw) {
  const pulls = new Map();
  const said = new Map();
  let open = new Set();
  const models = follow('/v1/models', 2000, () => {
    for (const { id, freshness: has } of models.data?.models ?? []) {
      if (has && !pulls.has(id)) pulls.set(id, follow(`/v1/models/${segment(id)}/pulls`, 2000, draw));
    }
    draw();
  });

  async function pull(id, accept) {
    if (accept) {
      const text = `The pull of ${id} is taken whatever max_exits and min_rows say. Members that it takes out of audiences leave, and the syncs are sent that.`;
      if (!(await ask('Take the pull as it is?', text, 'Pull and take'))) return;
    }
    try {
      await post(`/v1/models/${segment(id)}/pulls`, accept ? { accept: true } : undefined);
      said.set(id, ['muted', 'The pull was accepted: it appears below.']);
    } catch (error) {
      const why = error.status === 403 ? 'This key lacks the scope `admin`. Forget it, and type one that has it.' : error.message;
      said.set(id, ['bad', why]);
    }
    models.again();
    pulls.get(id)?.again();
    draw();
  }

  function view() {
    if (!models.data) return [head('Models'), instead(models, 'Asking for the models')];
    const list = models.data.models;
    return [
      head('Models', 'What the warehouse says of people, and when it was asked last.'),
      renewed(models),
      list.length ? h('div', { class: 'stack' }, list.map(one)) : h('p', { class: 'empty' }, 'The job has no models.'),
    ];
  }

  function one(model) {
    const { id, rows, refresh, last_pull: last, next_pull: next, last_error: error, pulls: counts } = model;
    const history = pulls.get(id)?.data?.pulls ?? [];
    const running = model.freshness === 'Refreshing';
    const held = history[0]?.status === 'held';
    const shown = open.has(id) ? history : history.slice(0, SHOWN);
    const [kind, text] = said.get(id) ?? [];
    return h(
      'section',
      { class: 'block', key: id, 'aria-label': id },
      h('div', { class: 'title' }, h('h2', null, id), freshness(model.freshness), mayAct() && model.freshness && actions(id, running, held)),
      text && h('p', { class: kind, role: 'status' }, text),
      error && h('p', { class: 'bad' }, `${held ? 'The last pull was held' : 'The last pull failed'}: ${error}. The snapshot before stays in force.`),
      facts([
        ['Rows', number(rows)],
        ['Last pull', time(last)],
        ['Next pull', refresh === 'never' ? 'never: nothing needs its rows' : next ? `${time(next)} (every ${refresh})` : refresh === 'manual' ? 'on request only' : '–'],
        model.freshness && ['Pulls since the start', `${number(counts.succeeded)} good, ${number(counts.failed)} failed, ${number(counts.held)} held`],
      ]),
      shown.length > 0 &&
        table(
          `Pulls of ${id}, the newest first`,
          [['Began'], ['Result'], ['Trigger', 'wide'], ['Version', 'num wide'], ['Took', 'num wide'], ['Rows', 'num'], ['Changed keys', 'num']],
          shown.map((pull) => [
            pull.date,
            [
              h('span', { title: pull.date }, time(pull.date)),
              h('span', null, h('span', { class: `badge ${STATUS[pull.status]}` }, pull.status), pull.error && h('span', { class: 'muted' }, ` ${pull.error}`)),
              `${TRIGGERS[pull.trigger] ?? pull.trigger}, ${pull.extent}`,
              pull.version === null ? '' : number(pull.version),
              duration(pull.duration_ms),
              number(pull.rows),
              number(pull.changed_keys),
            ],
          ]),
        ),
      history.length > SHOWN &&
        h(
          'div',
          null,
          h('button', { class: 'act slim', onclick: () => ((open = new Set(open.has(id) ? [...open].filter((of) => of !== id) : [...open, id])), draw()) }, open.has(id) ? 'Show fewer' : `Show all ${plural(history.length, 'pull')}`),
        ),
    );
  }

  function actions(id, running, held) {
    const off = running || server.state !== 'live';
    return h(
      'div',
      { class: 'buttons end' },
      h('button', { class: 'act slim', disabled: off, onclick: () => pull(id, false) }, running ? 'Pulling …' : 'Pull now', h('span', { class: 'sr' }, ` ${id}`)),
      held && h('button', { class: 'act slim', disabled: off, onclick: () => pull(id, true) }, 'Pull and take', h('span', { class: 'sr' }, ` ${id}`)),
    );
  }

  return {
    view,
    stop: () => [models, ...pulls.values()].forEach((one) => one.stop()),
  };
}
