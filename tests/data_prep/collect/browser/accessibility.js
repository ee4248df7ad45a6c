// What accessibility.py asks of a page: each function runs in the tab that it checks.
({
  settle: () => Promise.all(
    document.getAnimations().filter(a => a.effect.getComputedTiming().iterations !== Infinity).map(a => a.finished.catch(() => {})),
  ).then(() => true),

  styles: () => {
    const luminance = ([r, g, b]) => {
      const f = v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
      return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b);
    };
    const parse = text => {
      const n = text.match(/[\d.]+/g).map(Number);
      if (text.startsWith('color(')) return [n[0] * 255, n[1] * 255, n[2] * 255, n[3] ?? 1];
      return [n[0], n[1], n[2], n[3] ?? 1];
    };
    const over = (top, below) => [0, 1, 2].map(k => top[k] * top[3] + below[k] * (1 - top[3]));
    const ground = element => {
      const layers = [];
      for (let e = element; e; e = e.parentElement) {
        const c = parse(getComputedStyle(e).backgroundColor);
        if (c[3] > 0) layers.push(c);
        if (c[3] === 1) break;
      }
      let colour = parse(getComputedStyle(document.documentElement).backgroundColor);
      colour = colour[3] === 1 ? colour.slice(0, 3) : matchMedia('(prefers-color-scheme: dark)').matches ? [18, 18, 18] : [255, 255, 255];
      for (const layer of layers.reverse()) colour = over(layer, colour);
      return colour;
    };
    const visible = element => {
      const r = element.getBoundingClientRect(), s = getComputedStyle(element);
      return r.width > 1 && r.height > 1 && s.visibility !== 'hidden' && s.display !== 'none' && !element.closest('.visually-hidden, [hidden]');
    };
    const name = e => `${e.tagName.toLowerCase()}${e.id ? '#' + e.id : ''}${typeof e.className === 'string' && e.className ? '.' + e.className.trim().split(/\s+/).join('.') : ''}`;
    const findings = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const seen = new Set();
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const element = node.parentElement;
      if (!node.textContent.trim() || seen.has(element) || !visible(element) || element.closest('svg, noscript, script')) continue;
      seen.add(element);
      if (element.closest(':disabled')) continue;
      const style = getComputedStyle(element), back = ground(element);
      const front = over(parse(style.color), back);
      const [a, b] = [luminance(front), luminance(back)];
      const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      if (ratio < (large ? 3 : 4.5)) findings.push(['contrast', `${name(element)} "${node.textContent.trim().slice(0, 30)}": ${ratio.toFixed(2)}:1`]);
    }
    for (const element of document.querySelectorAll('button, a[href], input:not([type=hidden]), select, summary')) {
      if (!visible(element)) continue;
      const r = element.getBoundingClientRect();
      const inline = element.tagName === 'A' && getComputedStyle(element).display === 'inline';
      const labelled = element.type === 'checkbox' && element.closest('label');
      if ((r.width < 24 || r.height < 24) && !inline && !labelled) findings.push(['target size', `${name(element)}: ${r.width.toFixed(0)} x ${r.height.toFixed(0)} px`]);
    }
    const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
    for (const id of new Set(ids.filter((id, k) => ids.indexOf(id) !== k))) findings.push(['duplicate id', id]);
    for (const attribute of ['aria-labelledby', 'aria-describedby', 'aria-controls', 'for']) {
      for (const element of document.querySelectorAll(`[${attribute}]`)) {
        for (const id of element.getAttribute(attribute).split(/\s+/)) if (!document.getElementById(id)) findings.push(['reference', `${name(element)} ${attribute}=${id}`]);
      }
    }
    const levels = [...document.querySelectorAll('h1, h2, h3, h4')].filter(visible).map(e => Number(e.tagName[1]));
    if (levels.filter(level => level === 1).length !== 1) findings.push(['headings', `${levels.filter(level => level === 1).length} h1`]);
    levels.forEach((level, k) => { if (k && level > levels[k - 1] + 1) findings.push(['headings', `h${levels[k - 1]} is followed by h${level}`]); });
    for (const image of document.images) if (!image.hasAttribute('alt')) findings.push(['alternative text', name(image)]);
    for (const element of document.querySelectorAll('[tabindex]')) if (element.tabIndex > 0) findings.push(['tab order', `${name(element)} has tabindex ${element.tabIndex}`]);
    if (!document.documentElement.lang) findings.push(['language', 'html has no lang']);
    if (!document.title) findings.push(['title', 'no title']);
    if (!document.querySelector('main')) findings.push(['landmark', 'no main']);
    return findings;
  },

  focusable: () => {
    const root = document.querySelector('dialog[open]') ?? document;
    window.order_ = [...root.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]')].filter(e => {
      const r = e.getBoundingClientRect();
      return !e.disabled && e.tabIndex >= 0 && r.width > 0 && r.height > 0 && getComputedStyle(e).visibility !== 'hidden' && !e.closest('[hidden]') && e.checkVisibility();
    });
    return window.order_.length;
  },

  fromTheTop: () => {
    const root = document.querySelector('dialog[open]') ?? document.body;
    root.tabIndex = -1;
    root.focus();
    root.removeAttribute('tabindex');
  },

  focused: () => {
    const e = document.activeElement, s = getComputedStyle(e);
    const shown = s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2;
    return [window.order_.indexOf(e), shown, e.outerHTML.slice(0, 80)];
  },

  motion: () => [...document.querySelectorAll('*')].filter(e => {
    const s = getComputedStyle(e);
    return [s.transitionDuration, s.animationDuration].some(d => d.split(',').some(v => parseFloat(v) > 0.001));
  }).map(e => e.tagName + '.' + e.className).slice(0, 5),
})
