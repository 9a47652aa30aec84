// Markdown as DOM nodes. Text of a model becomes text nodes and a few known elements, never HTML; links lead to http and
// https only; pictures are not loaded.

const make = (name, ...children) => {
  const element = document.createElement(name);
  element.append(...children);
  return element;
};

const INLINE = [
  { pattern: /^(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)/, node: (m) => make("code", m[2].trim() || m[2]) },
  { pattern: /^\\([\\`*_{}\[\]()#+\-.!|~>])/, node: (m) => document.createTextNode(m[1]) },
  { pattern: /^(\*\*|__)(?=\S)([\s\S]*?\S)\1/, node: (m, depth) => make("strong", ...inline(m[2], depth)) },
  { pattern: /^~~(?=\S)([\s\S]*?\S)~~/, node: (m, depth) => make("del", ...inline(m[1], depth)) },
  { pattern: /^\*(?=[^\s*])([^*]*?[^\s*])\*(?!\*)/, node: (m, depth) => make("em", ...inline(m[1], depth)) },
  { pattern: /^_(?=[^\s_])([^_]*?[^\s_])_(?![\w_])/, node: (m, depth) => make("em", ...inline(m[1], depth)), wordStart: true },
  { pattern: /^!?\[([^\]]*)\]\(\s*<?([^\s)>]*)>?(?:\s+"[^"]*")?\s*\)/, node: (m, depth) => link(m[2], inline(m[1] || m[2], depth)) },
  { pattern: /^<(https?:\/\/[^\s<>]+)>/, node: (m) => link(m[1], [m[1]]) },
  { pattern: /^https?:\/\/[^\s<>()]+[^\s<>().,;:!?"']/, node: (m) => link(m[0], [m[0]]), wordStart: true },
];

// Where one of the patterns may begin.
const SPECIAL = /[`\\*_~!\[<h]/g;
const MOST_DEPTH = 12;

function link(address, children) {
  let url;
  try { url = new URL(address); } catch { /* a relative address leads nowhere here */ }
  if (!url || !["http:", "https:"].includes(url.protocol)) return make("span", ...children);
  const anchor = make("a", ...children);
  anchor.href = url.href;
  anchor.target = "_blank";
  anchor.rel = "noopener noreferrer nofollow";
  anchor.title = url.href;
  return anchor;
}

function inline(text, depth = 0) {
  if (depth >= MOST_DEPTH) return [text];
  const nodes = [];
  let from = 0, at = 0;
  const flush = (to) => { if (to > from) nodes.push(document.createTextNode(text.slice(from, to))); };
  while (at < text.length) {
    SPECIAL.lastIndex = at;
    const special = SPECIAL.exec(text);
    if (!special) break;
    at = special.index;
    // A pattern is not looked for further than this: an unclosed mark must not cost the length of the text each time.
    const rest = text.slice(at, at + 2000);
    const inWord = at > 0 && /\w/.test(text[at - 1]);
    let taken = 0;
    for (const { pattern, node, wordStart } of INLINE) {
      if (wordStart && inWord) continue;
      const match = pattern.exec(rest);
      if (match) {
        flush(at);
        nodes.push(node(match, depth + 1));
        taken = match[0].length;
        break;
      }
    }
    at += taken || 1;
    if (taken) from = at;
  }
  flush(text.length);
  return nodes;
}

const lines = (text) => {
  const nodes = [];
  text.split("\n").forEach((line, index) => {
    if (index) nodes.push(make("br"));
    nodes.push(...inline(line));
  });
  return nodes;
};

const FENCE = /^\s{0,3}(```+|~~~+)\s*([\w+#.-]*)/;
const HEADING = /^\s{0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const RULE = /^\s{0,3}([-*_])(\s*\1){2,}\s*$/;
const QUOTE = /^\s{0,3}>\s?/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

const begins = (line) => !line.trim() || [FENCE, HEADING, RULE, QUOTE, ITEM].some((pattern) => pattern.test(line));

function code(text, language) {
  const block = make("pre", make("code", text));
  if (language) block.dataset.language = language;
  return block;
}

const cells = (line) => line.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));

function table(rows) {
  const row = (kind, line, width) => {
    const all = cells(line).slice(0, width);
    while (all.length < width) all.push("");
    return make("tr", ...all.map((cell) => make(kind, ...inline(cell))));
  };
  const width = cells(rows[0]).length;
  const head = make("thead", row("th", rows[0], width));
  const body = make("tbody", ...rows.slice(2).map((line) => row("td", line, width)));
  const scroll = make("div", make("table", head, body));
  scroll.className = "table";
  return scroll;
}

// The items from `at` on that are indented like the first; deeper ones are lists inside.
function list(all, at, depth) {
  const first = ITEM.exec(all[at]);
  const indent = first[1].length;
  const ordered = /\d/.test(first[2]);
  const element = make(ordered ? "ol" : "ul");
  if (ordered) element.start = parseInt(first[2], 10);
  while (at < all.length) {
    const item = ITEM.exec(all[at]);
    if (!item || item[1].length < indent || /\d/.test(item[2]) !== ordered) break;
    const inside = [item[3]];
    const inner = indent + item[2].length + 1;
    at += 1;
    while (at < all.length) {
      const line = all[at];
      const next = ITEM.exec(line);
      const deep = line.length - line.trimStart().length;
      if (!line.trim()) {
        const after = all[at + 1] ?? "";
        if (!after.trim() || after.length - after.trimStart().length < inner) break;
      } else if (next ? next[1].length <= indent : deep < inner && begins(line)) break;
      inside.push(line.slice(Math.min(deep, inner)));
      at += 1;
    }
    const content = blocks(inside, depth + 1);
    // A single paragraph in an item needs no space around it.
    const only = content.childNodes.length && content.firstChild.nodeName === "P" ? content.firstChild : null;
    if (only) only.replaceWith(...only.childNodes);
    element.append(make("li", content));
    while (at < all.length && !all[at].trim() && ITEM.test(all[at + 1] ?? "")) at += 1;
  }
  return [element, at];
}

function blocks(all, depth = 0) {
  const out = document.createDocumentFragment();
  if (depth >= MOST_DEPTH) {
    out.append(make("p", ...lines(all.join("\n"))));
    return out;
  }
  let at = 0;
  while (at < all.length) {
    const line = all[at];
    const fence = FENCE.exec(line);
    const heading = HEADING.exec(line);
    if (!line.trim()) {
      at += 1;
    } else if (fence) {
      let to = at + 1;
      while (to < all.length && !(all[to].trim().startsWith(fence[1]) && !all[to].trim().replaceAll(fence[1][0], ""))) to += 1;
      out.append(code(all.slice(at + 1, to).join("\n"), fence[2]));
      at = to + 1;
    } else if (heading) {
      out.append(make("h" + Math.min(heading[1].length, 4), ...inline(heading[2])));
      at += 1;
    } else if (RULE.test(line)) {
      out.append(make("hr"));
      at += 1;
    } else if (QUOTE.test(line)) {
      let to = at;
      while (to < all.length && all[to].trim() && (QUOTE.test(all[to]) || !begins(all[to]))) to += 1;
      out.append(make("blockquote", blocks(all.slice(at, to).map((quoted) => quoted.replace(QUOTE, "")), depth + 1)));
      at = to;
    } else if (ITEM.test(line)) {
      const [element, to] = list(all, at, depth);
      out.append(element);
      at = to;
    } else if (line.includes("|") && TABLE_RULE.test(all[at + 1] ?? "") && all[at + 1].includes("-")) {
      let to = at + 2;
      while (to < all.length && all[to].includes("|")) to += 1;
      out.append(table(all.slice(at, to)));
      at = to;
    } else {
      let to = at + 1;
      while (to < all.length && !begins(all[to])) to += 1;
      out.append(make("p", ...lines(all.slice(at, to).join("\n").trim())));
      at = to;
    }
  }
  return out;
}

export function render(text) {
  return blocks(text.replaceAll("\r\n", "\n").split("\n"));
}
