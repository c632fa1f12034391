// The console's frame: which page is shown, whether the job is live, and the key.
//
// Pages are at `#/…`, so that keys of people stay in the browser. A page is a function of its parameters and `draw`, which asks
// for it to be drawn again; it returns `view`, which describes it, and `stop`, which ends what it follows.

import { h, render } from './dom.js';
import { hasKey, onServer, pause, server, setKey, start } from './api.js';
import { time } from './format.js';
import * as audience from './audience.js';
import * as audiences from './audiences.js';
import * as job from './job.js';
import * as models from './models.js';
import * as overview from './overview.js';
import * as person from './person.js';
import * as sources from './sources.js';
import * as syncs from './syncs.js';

/** By the first part of the address: the page, and its name in the navigation. */
const PAGES = [
  ['', 'Overview', overview],
  ['audiences', 'Audiences', audiences],
  ['people', 'People', person],
  ['models', 'Models', models],
  ['syncs', 'Syncs', syncs],
  ['sources', 'Sources', sources],
  ['job', 'Job', job],
];

const container = document.getElementById('console');
let shown = null;
let drawing = false;
let typed = '';

/** Draws soon, once for all that asks for it. */
function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    // The document has a frame of its own, which was painted first.
    if (!container.described) container.replaceChildren();
    render(container, server.state === 'locked' ? gate() : frame());
  });
}

/** The parts of the address: the page and its parameters. */
function address() {
  return location.hash
    .replace(/^#\/?/, '')
    .split('/')
    .map((part) => decodeURIComponent(part));
}

/** Shows the page of the address. */
function go(focus) {
  shown?.page.stop();
  const [name, ...params] = address();
  const found = PAGES.find(([of]) => of === name) ?? PAGES[0];
  const module = found[2] === audiences && params[0] ? audience : found[2];
  shown = { name: found[0], title: found[1], page: module.page(params, draw) };
  document.title = `${params.at(-1) || found[1]} · ${server.job?.job ?? 'usher'}`;
  scrollTo(0, 0);
  draw();
  // The reader's place is the new page's title, as after a link to another document.
  if (focus) requestAnimationFrame(() => requestAnimationFrame(() => document.querySelector('h1')?.focus({ preventScroll: true })));
}

const STATES = {
  connecting: ['Connecting', 'muted'],
  live: ['Live', 'good'],
  recovering: ['Recovering', 'warn'],
  disconnected: ['Disconnected', 'bad'],
};

function frame() {
  const [word, kind] = STATES[server.state];
  return h(
    'div',
    { class: 'frame' },
    h('a', { class: 'skip', href: '#main', onclick: skip }, 'Skip to the content'),
    h(
      'header',
      { class: 'side' },
      h(
        'a',
        { class: 'mark', href: '#/' },
        h(
          'svg',
          { width: 20, height: 20, viewBox: '0 0 32 32', 'aria-hidden': 'true' },
          h('path', { d: 'M8 5v13a8 8 0 0 0 16 0V5', fill: 'none', stroke: 'currentColor', 'stroke-width': 4, 'stroke-linecap': 'round' }),
        ),
        h('span', null, server.job?.job ?? 'usher'),
      ),
      h(
        'nav',
        { 'aria-label': 'Pages' },
        h(
          'ul',
          null,
          PAGES.map(([name, title]) =>
            h('li', { key: name }, h('a', { href: `#/${name}`, 'aria-current': shown.name === name ? 'page' : null }, title)),
          ),
        ),
      ),
      h(
        'div',
        { class: 'state' },
        h('span', { class: `lamp ${server.paused ? 'muted' : kind}`, role: 'status' }, server.paused ? 'Paused' : word),
        h('button', { class: 'act slim', onclick: () => pause(!server.paused) }, server.paused ? 'Go on' : 'Pause updates'),
        hasKey() && h('button', { class: 'act slim', onclick: () => setKey(null) }, 'Forget the key'),
      ),
    ),
    h('main', { id: 'main', tabindex: '-1' }, banner(), h('div', { class: 'page', key: location.hash }, shown.page.view())),
  );
}

function skip(event) {
  event.preventDefault();
  document.querySelector('h1')?.focus();
}

function banner() {
  const since = time(new Date(server.since).toISOString());
  switch (server.state) {
    case 'disconnected':
      return h(
        'div',
        { class: 'banner bad', role: 'alert' },
        h('strong', null, 'usher does not answer. '),
        `Since ${since}; it is tried again twice a second, and the page goes on by itself. If it stays so, look at the log of the process.`,
      );
    case 'recovering':
      return h(
        'div',
        { class: 'banner', role: 'alert' },
        h('strong', null, 'The job recovers. '),
        `${server.detail ? `${capital(server.detail)}. ` : ''}Until it is live, memberships are those in the ledgers, and nothing is sent. There is nothing to do: the page goes on by itself.`,
      );
    default:
      return server.paused
        ? h('div', { class: 'banner' }, h('strong', null, 'Updates are paused. '), 'What is shown is as of then; "Go on" renews it.')
        : null;
  }
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Where the key is typed. */
function gate() {
  return h(
    'main',
    { class: 'gate' },
    h('h1', { tabindex: '-1' }, 'usher'),
    h('p', { class: 'muted' }, 'This job asks for a key: one of `api.keys` in the job file that can `read`; one that can `admin` as well may also pull a model.'),
    (server.wrongKey || server.detail) && h('p', { class: 'bad', role: 'alert' }, server.detail ?? 'This is not a key of this job. Type another one.'),
    h(
      'form',
      {
        onsubmit: (event) => {
          event.preventDefault();
          if (typed) setKey(typed);
        },
      },
      h('label', null, 'Key', h('input', { type: 'password', autocomplete: 'off', required: true, oninput: (event) => (typed = event.target.value.trim()) })),
      h('button', { class: 'act main', type: 'submit' }, 'Continue'),
    ),
    h('p', { class: 'muted' }, 'The key stays in this tab until the tab is closed. It is sent as a header, never in an address.'),
  );
}

addEventListener('hashchange', () => go(true));
onServer(() => {
  if (server.job && !document.title.endsWith(server.job.job)) document.title = `${shown.title} · ${server.job.job}`;
  draw();
});
go(false);
start();
