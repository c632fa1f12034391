// The job: the plan as text, and what runs it.

import { h } from './dom.js';
import { follow } from './api.js';
import { bytes, duration, number, plural, time } from './format.js';
import { facts, head, instead, renewed, section } from './parts.js';

export function page(_, draw) {
  const job = follow('/v1/job', 5000, draw);

  function shared(plan) {
    // A fact's lines are its fingerprint and text, then "in " and the audiences that have it.
    return [...plan.matchAll(/\n {2}fact (.*)\n {4}in (.*)\n/g)]
      .map(([, text, audiences]) => [text.replace(/^\S+ /, ''), audiences.split(', ')])
      .filter(([, audiences]) => audiences.length > 1)
      .sort((a, b) => b[1].length - a[1].length);
  }

  function view() {
    if (!job.data) return [head('Job'), instead(job, 'Asking for the plan')];
    const { data } = job;
    const common = shared(data.plan);
    const may = [data.access.read && 'read', data.access.admin && 'admin'].filter(Boolean).join(' and ');
    return [
      head(data.job, `usher ${data.version}, running since ${time(data.started_at)}.`),
      renewed(job),
      section(
        'runs',
        'What runs',
        null,
        facts([
          ['Processes', `${plural(data.processes, 'process', 'processes')} with ${plural(data.workers, 'worker thread')} each`],
          ['Keys', `${number(data.keys)} of which something is known in this process`],
          ['State', data.checkpoints ? `${bytes(data.state_bytes)}, ${plural(data.checkpoints, 'checkpoint')} since the start, the last took ${duration(data.checkpoint_ms)}` : 'no checkpoint since the start'],
          ['This console', `may ${may || 'do nothing'}${data.console_actions ? '' : '; it offers no actions (api.console.actions is false)'}`],
          ['API', h('a', { href: '/openapi.json' }, '/openapi.json')],
        ]),
      ),
      section(
        'shared',
        'What is shared',
        null,
        common.length
          ? h(
              'ul',
              { class: 'stack' },
              common.slice(0, 50).map(([text, audiences]) => h('li', { key: text }, h('code', null, text), h('br'), h('span', { class: 'muted' }, `in ${plural(audiences.length, 'audience')}: ${audiences.slice(0, 12).join(', ')}${audiences.length > 12 ? ' …' : ''}`))),
            )
          : h('p', { class: 'empty' }, 'No condition is shared by two audiences: each is kept for one.'),
      ),
      section('plan', 'The plan', h('span', { class: 'muted' }, 'as `usher explain` prints it'), h('pre', { class: 'plan', tabindex: '0', 'aria-label': 'The plan' }, data.plan)),
    ];
  }

  return { view, stop: () => job.stop() };
}
