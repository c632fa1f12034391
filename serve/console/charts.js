// Charts as SVG: a sparkline, sizes over time, a histogram. Each has a label in words, and the larger ones a table behind them.

import { h } from './dom.js';
import { duration, minute, number, plural, second } from './format.js';

/** The path of a line through values at equal distances; gaps where a value is null. */
function line(values, width, height, [least, most]) {
  const span = most - least || 1;
  const step = width / Math.max(values.length - 1, 1);
  let path = '';
  let pen = 'M';
  values.forEach((value, index) => {
    if (value === null || value === undefined) {
      pen = 'M';
      return;
    }
    path += `${pen}${(index * step).toFixed(2)} ${(height - ((value - least) / span) * height).toFixed(2)}`;
    pen = 'L';
  });
  return path;
}

function range(values) {
  const known = values.filter((value) => value !== null && value !== undefined);
  return known.length ? [Math.min(...known), Math.max(...known)] : null;
}

/** Values at the right end of as many steps as a span has: what is not known yet is a gap at the left. */
export function within(values, steps) {
  return [...Array(Math.max(0, steps - values.length)).fill(null), ...values];
}

/** A small line without axes. `what` begins its label. */
export function sparkline(values, what, { width = 112, height = 28, from = null } = {}) {
  const found = range(values);
  if (!found || values.length < 2) {
    return h('svg', { class: 'spark', width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `${what}: not known yet` });
  }
  const [least, most] = from === null ? found : [Math.min(from, found[0]), found[1]];
  const inset = 2;
  const path = line(values, width - 2 * inset, height - 2 * inset, least === most ? [least - 1, most + 1] : [least, most]);
  const label = `${what}: ${number(values.at(-1))} now, between ${number(found[0])} and ${number(found[1])}`;
  return h(
    'svg',
    { class: 'spark', width, height, viewBox: `${-inset} ${-inset} ${width} ${height}`, role: 'img', 'aria-label': label },
    h('path', { d: path, class: 'line' }),
  );
}

/** Round numbers around a range, for an axis: [least, most]. */
function axis([least, most]) {
  if (least === most) return least === 0 ? [0, 1] : [Math.max(0, Math.floor(least * 0.9)), Math.ceil(most * 1.1)];
  const pad = (most - least) * 0.1;
  return [Math.max(0, Math.floor(least - pad)), Math.ceil(most + pad)];
}

const WIDTH = 720;
const HEIGHT = 180;

/**
 * Sizes over time. `series`: as the API has it; `picked`: the index that the reader points at, `pick` takes it.
 */
export function sizeChart(series, what, picked, pick) {
  const { sizes, step_ms: step } = series;
  const until = Date.parse(series.until);
  const found = range(sizes);
  if (!found) return h('p', { class: 'empty' }, 'Sizes are kept since the start of the job: the first comes within ten seconds.');
  const [least, most] = axis(found);
  const at = (index) => until - (sizes.length - 1 - index) * step;
  const steps = Math.max(sizes.length - 1, 1);
  const path = line(sizes, WIDTH, HEIGHT, [least, most]);
  const shown = picked !== null && sizes[picked] !== undefined ? picked : sizes.length - 1;
  const size = sizes[shown];
  const x = (shown / steps) * WIDTH;
  const pointed = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    pick(Math.round(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * steps));
  };
  const label = `${what}: ${number(sizes.at(-1))} now, between ${number(found[0])} and ${number(found[1])} in the last ${duration(steps * step)}`;
  return h(
    'figure',
    { class: 'chart' },
    h(
      'div',
      { class: 'plot' },
      h(
        'svg',
        {
          viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
          preserveAspectRatio: 'none',
          role: 'img',
          'aria-label': label,
          onpointermove: pointed,
          onpointerleave: () => pick(null),
        },
        [0, 0.5, 1].map((part) => h('line', { class: 'grid', x1: 0, x2: WIDTH, y1: part * HEIGHT, y2: part * HEIGHT })),
        h('path', { class: 'line', d: path }),
        picked !== null && h('line', { class: 'cursor', x1: x, x2: x, y1: 0, y2: HEIGHT }),
      ),
      h('span', { class: 'y top', 'aria-hidden': 'true' }, number(most)),
      h('span', { class: 'y bottom', 'aria-hidden': 'true' }, number(least)),
    ),
    h(
      'div',
      { class: 'x', 'aria-hidden': 'true' },
      h('span', null, minute(at(0))),
      h('span', { class: 'reading' }, size === null ? `${second(at(shown))}: not known` : `${second(at(shown))}: ${number(size)}`),
      h('span', null, minute(until)),
    ),
  );
}

/** The values of a series as a table, the newest first, at most `rows`. */
export function sizeTable(series, caption, rows = 60) {
  const { sizes, step_ms: step } = series;
  const until = Date.parse(series.until);
  const every = Math.max(1, Math.ceil(sizes.length / rows));
  const shown = [];
  for (let index = sizes.length - 1; index >= 0; index -= every) shown.push(index);
  return h(
    'table',
    { class: 'small' },
    h('caption', null, caption),
    h('thead', null, h('tr', null, h('th', { scope: 'col' }, 'Time'), h('th', { scope: 'col', class: 'num' }, 'Size'))),
    h(
      'tbody',
      null,
      shown.map((index) =>
        h(
          'tr',
          { key: index },
          h('td', null, second(until - (sizes.length - 1 - index) * step)),
          h('td', { class: 'num' }, number(sizes[index])),
        ),
      ),
    ),
  );
}

/** Who leaves, minute by minute. `picked` is the minute that the reader points at, `pick` takes it. */
export function histogram(counts, start, picked, pick) {
  const most = Math.max(...counts, 1);
  const height = 96;
  const gap = 0.2;
  const shown = picked ?? null;
  const total = counts.reduce((sum, count) => sum + count, 0);
  const label = `Members that leave by themselves in each of the next ${counts.length} minutes: ${number(total)} in all, at most ${number(Math.max(...counts))} in one minute`;
  const reading =
    shown === null
      ? `${plural(counts[0], 'member')} in the first minute`
      : `${minute(start + shown * 60_000)} to ${minute(start + (shown + 1) * 60_000)}: ${number(counts[shown])}`;
  const pointed = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const part = (event.clientX - box.left) / box.width;
    pick(Math.min(counts.length - 1, Math.max(0, Math.floor(part * counts.length))));
  };
  return h(
    'figure',
    { class: 'chart' },
    h(
      'div',
      { class: 'plot low' },
      h(
        'svg',
        {
          viewBox: `0 0 ${counts.length} ${height}`,
          preserveAspectRatio: 'none',
          role: 'img',
          'aria-label': label,
          onpointermove: pointed,
          onpointerleave: () => pick(null),
        },
        h('line', { class: 'grid', x1: 0, x2: counts.length, y1: height, y2: height }),
        counts.map((count, index) => {
          const tall = (count / most) * height;
          const least = count > 0 ? Math.max(tall, 2) : 0;
          return h('rect', {
            key: index,
            class: index === shown ? 'bar picked' : 'bar',
            x: index + gap / 2,
            width: 1 - gap,
            y: height - least,
            height: least,
          });
        }),
      ),
      h('span', { class: 'y top', 'aria-hidden': 'true' }, number(most)),
    ),
    h(
      'div',
      { class: 'x', 'aria-hidden': 'true' },
      h('span', null, 'now'),
      h('span', { class: 'reading' }, reading),
      h('span', null, 'in an hour'),
    ),
  );
}

/** The same as a table. */
export function leavingTable(counts, start) {
  return h(
    'table',
    { class: 'small' },
    h('caption', null, 'Members that leave by themselves'),
    h('thead', null, h('tr', null, h('th', { scope: 'col' }, 'From'), h('th', { scope: 'col', class: 'num' }, 'Members'))),
    h(
      'tbody',
      null,
      counts.map((count, index) =>
        h('tr', { key: index }, h('td', null, minute(start + index * 60_000)), h('td', { class: 'num' }, number(count))),
      ),
    ),
  );
}
