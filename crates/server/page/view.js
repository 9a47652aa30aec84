// What a conversation looks like.

import { render } from "./markdown.js";
import * as pictures from "./pictures.js";

export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  node.append(...children);
  return node;
}

// An error as a person would want it.
export function person(error) {
  if (error.name === "AbortError") return "Stopped.";
  if (error.status === 401) return "The server asks for a key, or does not know this one.";
  if (error.status === 429) return `The server is busy with other questions. Try again in ${error.retryAfter || 2} seconds.`;
  if (error.status === 503) return `The server cannot take this now: ${error.message}.`;
  if (error.status === 403) return `The server refuses this page: ${error.message}.`;
  if (error.code === "context_length_exceeded") return `That is too long for this model: ${error.message}`;
  if (error.status) return error.message;
  if (error instanceof TypeError) return "The server cannot be reached. Is `bluelm serve` still running?";
  return String(error.message ?? error);
}

const button = (label, title, onClick, kind = "quiet small") => {
  const node = element("button", { type: "button", class: kind, title }, label);
  node.onclick = onClick;
  return node;
};

export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
export const seconds = (ms) => (ms < 100 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`);

function figures(turn) {
  const { usage, timings } = turn;
  if (!usage || !timings) return "";
  const parts = [];
  const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
  parts.push(`${usage.prompt_tokens} tokens read${cached > 16 ? `, ${cached} of them remembered` : ""}, first word after ${seconds(timings.first_token_ms)}`);
  if (timings.image_ms > 0.5) parts.push(`picture ${seconds(timings.image_ms)}`);
  const rate = timings.predicted_per_second;
  parts.push(`${usage.completion_tokens} written${rate ? ` at ${rate.toFixed(rate < 100 ? 1 : 0)}/s` : ""}`);
  if (turn.memory) parts.push(`${megabytes(turn.memory)} of memory`);
  return parts.join(" · ");
}

const ENDED = { budget: ", budget used up", time: ", time used up", user: ", stopped by you", length: ", no room left" };

function label(turn) {
  const tokens = turn.usage?.completion_tokens_details?.reasoning_tokens ?? turn.pieces ?? 0;
  return turn.running && !turn.text ? `Thinking… ${tokens} tokens` : `Thought · ${tokens} tokens${ENDED[turn.thoughtEnd] ?? ""}`;
}

function thought(turn, actions) {
  const summary = element("summary", {}, element("span", { class: "label" }, label(turn)));
  if (turn.running && !turn.text) {
    const stop = button("Stop thinking", "Answer now", (event) => { event.preventDefault(); actions.stopThinking(); }, "small");
    stop.disabled = Boolean(turn.thoughtStopped);
    summary.append(stop);
  }
  const details = element("details", { class: "thought" }, summary, element("div", { class: "words" }, turn.thought));
  details.open = turn.open ?? false;
  // The button in it folds nothing.
  summary.onclick = (event) => { if (!event.defaultPrevented) turn.open = !details.open; };
  return details;
}

function status(turn) {
  const line = element("div", { class: "status", role: "status" }, element("span", { class: "pulse" }));
  const { progress, looking } = turn;
  if (looking) {
    line.append(`Looking at the picture: ${looking.tiles_done} of ${looking.tiles} tiles`, element("progress", { max: looking.tiles, value: looking.tiles_done }));
  } else if (progress && progress.processed < progress.total) {
    const bar = element("progress", { max: progress.total, value: progress.processed });
    line.append(`Reading ${progress.processed} of ${progress.total} tokens`, bar);
  } else {
    line.append(turn.wait ?? "Waiting for the model");
  }
  return line;
}

const copy = (text) => async (event) => {
  const label = event.target.textContent;
  try { await navigator.clipboard.writeText(text); event.target.textContent = "Copied"; } catch { event.target.textContent = "Not allowed"; }
  setTimeout(() => { event.target.textContent = label; }, 1200);
};

function words(text) {
  const body = element("div", { class: "markdown" });
  body.append(render(text));
  for (const block of body.querySelectorAll("pre")) block.append(button("Copy", "Copy this", copy(block.textContent), "small"));
  return body;
}

function assistant(turn, actions) {
  const article = element("article", { class: "turn assistant", "aria-label": "Answer" });
  if (turn.thought) article.append(thought(turn, actions));
  if (turn.text) article.append(words(turn.text));
  else if (turn.running && !turn.thought) article.append(status(turn));
  if (turn.error) article.append(element("div", { class: "wrong", role: "alert" }, element("p", {}, turn.error), button("Try again", "Ask the same again", actions.again, "small")));
  if (turn.running) return article;
  const line = element("div", { class: "actions" });
  if (turn.text) line.append(button("Copy", "Copy the answer", copy(turn.text)));
  if (!turn.error) line.append(button("Again", "Ask the same again", actions.again));
  if (turn.stopped) line.append(element("span", { class: "figures" }, "stopped"));
  if (turn.finish === "length") line.append(element("span", { class: "figures" }, "cut off: no more tokens"));
  line.append(element("span", { class: "figures" }, figures(turn)));
  article.append(line);
  return article;
}

function user(turn, actions) {
  const article = element("article", { class: "turn user", "aria-label": "Question" });
  if (turn.pictures.length) article.append(element("div", { class: "pictures" }, ...turn.pictures.map((picture) => pictures.show(picture))));
  if (turn.editing) {
    article.append(editor(turn, actions));
    return article;
  }
  if (turn.text) article.append(element("div", { class: "words" }, turn.text));
  article.append(element("div", { class: "actions" }, button("Edit", "Change the question and ask again", actions.edit)));
  return article;
}

function editor(turn, actions) {
  const area = element("textarea", { rows: "2", "aria-label": "Question" });
  area.value = turn.text;
  area.onkeydown = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); actions.resend(area.value); }
    if (event.key === "Escape") { event.stopPropagation(); actions.cancelEdit(); }
  };
  setTimeout(() => area.focus());
  const tools = element("div", {}, button("Cancel", "Leave it as it was", actions.cancelEdit, "small"), button("Send", "Ask again", () => actions.resend(area.value), "main small"));
  return element("div", { class: "edit" }, area, tools);
}

// Changes a running answer in place, so that what is under a finger stays there. False when it must be drawn anew.
export function update(article, turn) {
  const details = article.querySelector(".thought"), body = article.querySelector(".markdown");
  if (Boolean(turn.thought) !== Boolean(details) || Boolean(turn.text) !== Boolean(body) || !(details || body)) return false;
  if (body) body.replaceWith(words(turn.text));
  else {
    details.querySelector(".label").textContent = label(turn);
    details.querySelector(".words").textContent = turn.thought;
    details.querySelector("button").disabled = Boolean(turn.thoughtStopped);
  }
  return true;
}

export const turn = (one, actions) => (one.role === "user" ? user(one, actions) : assistant(one, actions));

export function welcome(model, onChoice) {
  const sees = model?.architecture?.input_modalities?.includes("image") ?? true;
  const text = sees ? "Drop a picture here, paste one, or pick one. It does not leave this server." : "This model reads text only.";
  const choices = element("div", { class: "choices" });
  for (const choice of sees ? ["What is the total?", "What does the sign say?", "Describe this picture."] : []) choices.append(button(choice, "Use this question", () => onChoice(choice), ""));
  return element("section", { class: "welcome" }, element("h2", {}, sees ? "Ask about a picture" : "Ask"), element("p", {}, text), choices);
}
