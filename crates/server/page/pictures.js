// Pictures: handed over to the server as soon as they are chosen, shown with the grid of tiles that the model sees.

import * as api from "./api.js";
import { element, person } from "./view.js";

const SVG = "http://www.w3.org/2000/svg";
const urls = new WeakMap();

const urlOf = (blob) => {
  if (!urls.has(blob)) urls.set(blob, URL.createObjectURL(blob));
  return urls.get(blob);
};

// A picture is { blob, name, info }, info being the server's description with the id under which it keeps the picture. While the
// server encodes it, `progress` says how far that is.
export const fromFile = (file) => ({ blob: file, name: file.name || "picture", info: null, error: null });

export async function handOver(picture) {
  picture.error = null;
  try {
    picture.info = await api.addPicture(picture.blob);
  } catch (error) {
    picture.error = person(error);
    throw error;
  }
}

// Follows the encoding until it is over; `onChange` is called when something is to be seen. Nothing depends on it.
export async function watch(picture, onChange) {
  if (picture.info?.encoding !== "running") return;
  try {
    await api.watchPicture(picture.info.id, ({ encoding, tiles_done, tiles }) => {
      picture.info.encoding = encoding;
      picture.progress = encoding === "running" ? { tiles_done, tiles } : null;
      onChange();
    });
  } catch {
    picture.progress = null;
    onChange();
  }
}

// The lines between tiles, in parts of the picture's own width and height.
function lines(info) {
  const [columns, rows] = info.grid, side = info.tile_side;
  const inside = (place) => place > 0.002 && place < 0.998;
  const places = (count, offset, length) =>
    Array.from({ length: Math.max(0, count - 1) }, (_, index) => ((index + 1) * side - offset) / length).filter(inside);
  return [places(columns, info.offset[0], info.resized[0]), places(rows, info.offset[1], info.resized[1])];
}

function grid(info) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "grid");
  svg.setAttribute("aria-hidden", "true");
  const [down, across] = lines(info);
  for (const kind of ["under", "over"]) {
    const line = (x1, y1, x2, y2) => {
      const node = document.createElementNS(SVG, "line");
      const ends = { x1, y1, x2, y2 };
      for (const name in ends) node.setAttribute(name, `${ends[name] * 100}%`);
      node.setAttribute("class", kind);
      svg.append(node);
    };
    down.forEach((x) => line(x, 0, x, 1));
    across.forEach((y) => line(0, y, 1, y));
  }
  return svg;
}

function caption(picture) {
  if (picture.error) return element("figcaption", { class: "bad" }, picture.error);
  if (!picture.info) return element("figcaption", {}, "Being handed over…");
  const { width, height, grid: [columns, rows], tokens, thumbnail } = picture.info;
  const tiles = `${columns} × ${rows} ${columns * rows > 1 ? "tiles" : "tile"}${thumbnail ? " + whole" : ""}`;
  // A line may end with a dot and not begin with one.
  return element("figcaption", {}, [`${width} × ${height}`, tiles, `${tokens} tokens`].join("\u00a0· "));
}

// A bar over the whole width, and words for those who do not see it; it keeps its place when it is over.
function bar(picture) {
  const box = element("div", { class: "encoding" });
  const { tiles_done = 0, tiles = 1 } = picture.progress ?? {};
  if (!picture.progress) return box;
  const words = `Looking at it: ${tiles_done} of ${tiles} ${tiles > 1 ? "tiles" : "tile"}`;
  box.append(element("progress", { max: tiles, value: tiles_done, "aria-label": words, title: words }), element("span", {}, words));
  return box;
}

// Draws the progress of a picture that is on show, and nothing else of it.
export function update(figure, picture) {
  figure.querySelector(".encoding")?.replaceWith(bar(picture));
}

export function show(picture, onRemove) {
  const image = element("img", { src: urlOf(picture.blob), alt: picture.name });
  // A format that browsers do not know is the server's to judge.
  image.onerror = () => image.replaceWith(element("span", { class: "small" }, picture.name));
  const frame = element("button", { type: "button", class: "frame", title: "Larger" }, image);
  if (picture.info) frame.append(grid(picture.info));
  frame.onclick = () => enlarge(picture);
  const figure = element("figure", { class: "picture" }, frame, caption(picture));
  if (onRemove) {
    figure.append(bar(picture));
    const remove = element("button", { type: "button", class: "drop", title: "Remove", "aria-label": `Remove ${picture.name}` }, "×");
    remove.onclick = onRemove;
    figure.append(remove);
  }
  return figure;
}

function enlarge(picture) {
  const image = element("img", { src: urlOf(picture.blob), alt: picture.name });
  const frame = element("span", { class: "frame" }, image);
  if (picture.info) frame.append(grid(picture.info));
  const figure = element("figure", { class: "picture" }, frame, caption(picture));
  const toggle = element("button", { type: "button", class: "small" }, "Grid on or off");
  toggle.onclick = () => figure.classList.toggle("plain");
  const close = element("button", { class: "small" }, "Close");
  const dialog = element("dialog", { class: "large" }, figure, element("form", { method: "dialog" }, toggle, " ", close));
  dialog.onclose = () => dialog.remove();
  dialog.onclick = (event) => event.target === dialog && dialog.close();
  document.body.append(dialog);
  dialog.showModal();
}
