// Views as values: `h` describes an element, `render` makes the document equal to a description and leaves what is equal
// alone, so that focus, selection and scrolling stay. Text is always text: nothing here reads markup.

const SVG = 'http://www.w3.org/2000/svg';

/**
 * Describes an element. `props`: attributes by name; `on…` are listeners; `key` tells siblings apart; `style` has properties
 * by name; `value`, `checked` and `open` are given once, when the element is made. Children that are null or false are left out.
 */
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, key: props?.key, children };
}

/** Makes the children of `container` those described by `children`. */
export function render(container, children) {
  container.described = patch(container, container.described ?? [], flat([children]), false);
}

function flat(children, out = []) {
  for (const child of children) {
    if (child === null || child === undefined || child === false || child === true) continue;
    if (Array.isArray(child)) flat(child, out);
    else out.push(typeof child === 'object' ? child : { text: String(child) });
  }
  return out;
}

function same(a, b) {
  return a.tag === b.tag && a.key === b.key;
}

/** Makes the children of `parent`, which are those of `before`, those of `after`; returns `after` with its elements. */
function patch(parent, before, after, svg) {
  const keyed = new Map();
  const others = [];
  for (const old of before) {
    if (old.key !== undefined) keyed.set(old.key, old);
    else others.push(old);
  }
  const used = new Set();
  let other = 0;
  for (const child of after) {
    let old;
    if (child.key !== undefined) {
      old = keyed.get(child.key);
      if (old && (used.has(old) || !same(old, child))) old = undefined;
    } else {
      while (other < others.length && others[other].tag !== child.tag) other += 1;
      old = others[other];
      other += 1;
    }
    if (old) used.add(old);
    child.node = old ? update(old, child, svg) : create(child, svg);
  }
  for (const old of before) if (!used.has(old)) old.node.remove();
  let place = parent.firstChild;
  for (const child of after) {
    if (child.node === place) place = place.nextSibling;
    else parent.insertBefore(child.node, place);
  }
  return after;
}

function create(child, svg) {
  if (child.tag === undefined) return document.createTextNode(child.text);
  const inside = svg || child.tag === 'svg';
  const node = inside ? document.createElementNS(SVG, child.tag) : document.createElement(child.tag);
  for (const name of ['type', 'value', 'checked', 'open']) {
    if (name in child.props && name !== 'type') node[name] = child.props[name];
    else if (name in child.props) node.setAttribute(name, child.props[name]);
  }
  setProps(node, {}, child.props);
  child.children = patch(node, [], flat(child.children), inside);
  child.props.ref?.(node);
  return node;
}

function update(old, child, svg) {
  const { node } = old;
  if (child.tag === undefined) {
    if (old.text !== child.text) node.data = child.text;
    return node;
  }
  setProps(node, old.props, child.props);
  child.children = patch(node, old.children, flat(child.children), svg || child.tag === 'svg');
  return node;
}

const ONCE = new Set(['key', 'ref', 'type', 'value', 'checked', 'open']);

function setProps(node, before, after) {
  for (const name of Object.keys(before)) if (!(name in after)) setProp(node, name, undefined);
  for (const [name, value] of Object.entries(after)) if (before[name] !== value) setProp(node, name, value);
}

function setProp(node, name, value) {
  if (ONCE.has(name)) return;
  if (name.startsWith('on')) {
    node.listeners ??= new Map();
    const event = name.slice(2);
    if (!node.listeners.has(event)) node.addEventListener(event, (e) => node.listeners.get(event)?.(e));
    node.listeners.set(event, value);
  } else if (name === 'style') {
    for (const [property, text] of Object.entries(value ?? {})) node.style.setProperty(property, text);
  } else if (value === undefined || value === null || value === false) {
    node.removeAttribute(name);
  } else {
    node.setAttribute(name, value === true ? '' : value);
  }
}
