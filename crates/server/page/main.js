// The page: one conversation on show, the others in the drawer.

import * as api from "./api.js";
import * as history from "./history.js";
import * as pictures from "./pictures.js";
import * as view from "./view.js";

const at = (id) => document.getElementById(id);
const log = at("log"), question = at("question"), tray = at("tray");

let model = null;
let conversations = [];
let current = fresh();
let waiting = []; // pictures of the next question
let running = null; // { controller, turn }

function fresh() {
  return { id: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`, title: "", updated: Date.now(), turns: [] };
}

// ---- the conversation on show

function draw() {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  const empty = current.turns.length === 0;
  log.replaceChildren(...(empty ? [view.welcome(model, choose)] : current.turns.map((turn, index) => view.turn(turn, actions(index)))));
  log.setAttribute("aria-busy", String(Boolean(running)));
  if (atEnd) log.scrollTop = log.scrollHeight;
  at("send").hidden = Boolean(running);
  at("stop").hidden = !running;
}

// While an answer grows only its own turn is drawn, at most once a frame.
let frame = 0;
function drawLast() {
  if (frame) return;
  frame = requestAnimationFrame(() => {
    frame = 0;
    const index = current.turns.length - 1;
    if (!running || current.turns[index] !== running.turn || log.children.length !== current.turns.length) return draw();
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
    if (!view.update(log.lastElementChild, running.turn)) log.lastElementChild.replaceWith(view.turn(running.turn, actions(index)));
    if (atEnd) log.scrollTop = log.scrollHeight;
  });
}

function actions(index) {
  const turn = current.turns[index];
  return {
    again: () => !running && answerFrom(index),
    edit: () => { if (!running) { turn.editing = true; draw(); } },
    cancelEdit: () => { turn.editing = false; draw(); },
    resend: (text) => {
      if (!text.trim() && !turn.pictures.length) return;
      turn.editing = false;
      turn.text = text.trim();
      answerFrom(index + 1);
    },
    stopThinking: async () => {
      turn.thoughtStopped = true;
      drawLast();
      try { await api.stopThinking(turn.id); } catch { /* it has ended by itself */ }
    },
  };
}

function choose(text) {
  question.value = text;
  question.focus();
  cost();
}

// ---- asking

const part = (picture) => ({ type: "image_url", image_url: { url: picture.info.id } });

function message(turn) {
  if (turn.role === "assistant") return { role: "assistant", content: turn.text };
  if (!turn.pictures.length) return { role: "user", content: turn.text };
  return { role: "user", content: [...turn.pictures.map(part), { type: "text", text: turn.text }] };
}

function settings() {
  const body = {};
  if (model?.thinking) body.reasoning_effort = at("mode").value === "think" ? "high" : "none";
  if (at("mode").value === "think" && at("budget").value) body.thinking_budget = Number(at("budget").value);
  return body;
}

async function send() {
  const text = question.value.trim();
  if (running || (!text && !waiting.length)) return;
  current.turns.push({ role: "user", text, pictures: waiting });
  current.title ||= text.slice(0, 60) || "Picture";
  waiting = [];
  question.value = "";
  drawTray();
  await answerFrom(current.turns.length);
}

// Answers anew from the turn `index` on; what stood there is dropped.
async function answerFrom(index) {
  const conversation = current;
  conversation.turns.length = index;
  const turn = { role: "assistant", text: "", thought: "", running: true, pieces: 0 };
  conversation.turns.push(turn);
  running = { controller: new AbortController(), turn };
  draw();
  log.scrollTop = log.scrollHeight;
  history.keep(conversation);
  try {
    await ask(conversation, turn, running.controller.signal);
  } catch (error) {
    if (error.name === "AbortError") turn.stopped = true;
    else turn.error = view.person(error);
    if (error.status === 401) askForKey();
  }
  turn.running = false;
  delete turn.progress;
  delete turn.looking;
  if (turn.usage) turn.memory = turn.usage.total_tokens * model.cache_bytes_per_token;
  running = null;
  conversation.updated = Date.now();
  await history.keep(conversation);
  if (!conversations.includes(conversation)) conversations.unshift(conversation);
  drawDrawer();
  draw();
  cost();
}

async function ask(conversation, turn, signal) {
  const asked = conversation.turns.slice(0, -1).filter((one) => one.role === "user" || one.text);
  const shown = asked.flatMap((one) => one.pictures ?? []);
  running.shown = shown;
  turn.looking = shown.find((picture) => picture.progress)?.progress;
  turn.wait = "Handing over the picture";
  for (const picture of shown.filter((picture) => !picture.info)) await pictures.handOver(picture);
  turn.wait = "Waiting for the model";
  const body = () => ({ messages: asked.map(message), ...settings() });
  const take = (chunk) => { chunkInto(turn, chunk); drawLast(); };
  try {
    await api.ask(body(), signal, take);
  } catch (error) {
    // The server keeps pictures for a while only, and forgets them when it is started anew; we have them.
    if (error.code !== "image_not_found") throw error;
    for (const picture of shown) await pictures.handOver(picture);
    await api.ask(body(), signal, take);
  }
}

function chunkInto(turn, chunk) {
  turn.id = chunk.id;
  if (chunk.prompt_progress) turn.progress = chunk.prompt_progress;
  if (chunk.usage) turn.usage = chunk.usage;
  if (chunk.timings) turn.timings = chunk.timings;
  if (chunk.bluelm?.thinking) turn.thoughtEnd = chunk.bluelm.thinking.ended;
  const choice = chunk.choices?.[0];
  if (!choice) return;
  if (choice.delta.reasoning_content) {
    turn.thought += choice.delta.reasoning_content;
    turn.pieces += 1;
  }
  if (choice.delta.content) turn.text += choice.delta.content;
  if (choice.finish_reason) turn.finish = choice.finish_reason;
}

const stop = () => running?.controller.abort();

// ---- pictures of the next question

async function addFiles(files) {
  for (const file of files) {
    if (!file.type.startsWith("image/")) continue;
    const picture = pictures.fromFile(file);
    waiting.push(picture);
    drawTray();
    pictures.handOver(picture)
      .catch((error) => error.status === 401 && askForKey())
      .finally(() => { drawTray(); cost(); })
      .then(() => pictures.watch(picture, () => looked(picture)));
  }
  question.focus();
}

// The server has looked at more of a picture: said where the picture waits for its question, or the question for its answer.
function looked(picture) {
  const figure = tray.children[waiting.indexOf(picture)];
  if (figure) pictures.update(figure, picture);
  if (running?.shown?.includes(picture)) {
    running.turn.looking = picture.progress;
    drawLast();
  }
}

function drawTray() {
  tray.hidden = waiting.length === 0;
  tray.replaceChildren(...waiting.map((picture) => pictures.show(picture, () => {
    waiting = waiting.filter((other) => other !== picture);
    if (picture.info) api.removePicture(picture.info.id).catch(() => {});
    drawTray();
    cost();
  })));
  at("send").disabled = waiting.some((picture) => picture.error);
}

// What the question would cost, while it is typed.
let costTimer = 0;
function cost() {
  clearTimeout(costTimer);
  costTimer = setTimeout(async () => {
    const text = question.value.trim();
    const ready = waiting.every((picture) => picture.info);
    if ((!text && !waiting.length) || !ready) { at("cost").textContent = ""; return; }
    try {
      const turns = [...current.turns.filter((turn) => (turn.role === "user" || turn.text) && (turn.pictures ?? []).every((picture) => picture.info)), { role: "user", text, pictures: waiting }];
      const found = await api.explain(turns.map(message));
      const parts = [`${found.prompt_tokens} of ${found.context_tokens} tokens`, view.megabytes(found.cache_bytes)];
      if (found.predicted) parts.push(`first word in ${view.seconds(found.predicted.first_token_ms)}`);
      at("cost").textContent = parts.join(" · ");
    } catch (error) {
      at("cost").textContent = error.code === "context_length_exceeded" ? "too long for this model" : "";
    }
  }, 350);
}

// ---- the drawer

function drawDrawer() {
  at("conversations").replaceChildren(...conversations.map((conversation) => {
    const open = view.element("button", { type: "button", class: "open" }, view.element("span", {}, conversation.title || "Picture"));
    open.onclick = () => show(conversation);
    const remove = view.element("button", { type: "button", class: "remove", title: "Forget", "aria-label": `Forget ${conversation.title}` }, "×");
    remove.onclick = () => forget(conversation);
    const row = view.element("div", { class: "conversation" }, open, remove);
    if (conversation === current) row.setAttribute("aria-current", "true");
    return row;
  }));
  at("forget").hidden = conversations.length === 0;
}

function show(conversation) {
  stop();
  current = conversation;
  drawer(false);
  drawDrawer();
  draw();
  log.scrollTop = log.scrollHeight;
  cost();
}

async function forget(conversation) {
  conversations = conversations.filter((other) => other !== conversation);
  await history.remove(conversation.id);
  if (conversation === current) show(fresh());
  drawDrawer();
}

function drawer(open) {
  at("drawer").classList.toggle("open", open);
  at("scrim").hidden = !open;
  at("menu").setAttribute("aria-expanded", String(open));
}

function askForKey() {
  if (at("key").open) return;
  at("key").returnValue = "";
  at("key").showModal();
}

// ---- events

at("composer").onsubmit = (event) => { event.preventDefault(); send(); };
question.onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
};
question.oninput = () => {
  // Browsers without field-sizing need to be told how high.
  if (!CSS.supports("field-sizing", "content")) {
    question.style.height = "auto";
    question.style.height = `${question.scrollHeight}px`;
  }
  cost();
};
document.onkeydown = (event) => {
  if (event.key !== "Escape") return;
  if (at("drawer").classList.contains("open")) drawer(false);
  else stop();
};
at("stop").onclick = stop;
at("attach").onclick = () => at("files").click();
at("files").onchange = () => { addFiles(at("files").files); at("files").value = ""; };
at("mode").onchange = () => {
  at("budget-label").hidden = at("mode").value !== "think";
  localStorage.setItem("bluelm-mode", at("mode").value);
};
at("budget").onchange = () => localStorage.setItem("bluelm-budget", at("budget").value);
at("new").onclick = () => { show(fresh()); question.focus(); };
at("forget").onclick = async () => {
  if (!confirm("Forget all conversations that this browser keeps?")) return;
  conversations = [];
  await history.clear();
  show(fresh());
};
at("menu").onclick = () => drawer(!at("drawer").classList.contains("open"));
at("scrim").onclick = () => drawer(false);
at("key").onclose = () => { api.setKey(at("key-text").value.trim()); begin(); };

const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
document.ondragover = (event) => { if (hasFiles(event)) { event.preventDefault(); at("drop").hidden = false; } };
document.ondragleave = (event) => { if (!event.relatedTarget) at("drop").hidden = true; };
document.ondrop = (event) => {
  at("drop").hidden = true;
  if (hasFiles(event)) { event.preventDefault(); addFiles(event.dataTransfer.files); }
};
document.onpaste = (event) => {
  const files = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
  if (files.length) { event.preventDefault(); addFiles(files); }
};

// ---- the beginning

async function begin() {
  try {
    model = await api.model();
    at("model").textContent = model.id;
    document.title = model.id;
    at("place").textContent = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname) ? "on this machine" : `at ${location.host}`;
    at("mode-label").hidden = !model.thinking;
    at("attach").hidden = !model.architecture.input_modalities.includes("image");
  } catch (error) {
    if (error.status === 401) return askForKey();
    log.replaceChildren(view.element("div", { class: "wrong", role: "alert" }, view.person(error)));
    return;
  }
  at("mode").value = (model.thinking && localStorage.getItem("bluelm-mode")) || "answer";
  at("budget").value = localStorage.getItem("bluelm-budget") ?? "";
  at("budget-label").hidden = at("mode").value !== "think";
  conversations = await history.all();
  // Answers that the last visit did not see the end of.
  for (const turn of conversations.flatMap((conversation) => conversation.turns)) {
    if (turn.running) Object.assign(turn, { running: false, stopped: true });
  }
  // A reload goes on where one was.
  if (conversations.length && !current.turns.length) current = conversations[0];
  drawDrawer();
  draw();
  log.scrollTop = log.scrollHeight;
  question.focus();
}

begin();
