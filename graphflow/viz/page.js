// Draws a placed graph, and lets a reader move, search, open and close. It follows layout.js.

const canvas = document.getElementById("canvas");
const view = document.getElementById("view");
const hover = document.getElementById("hover");
const search = document.getElementById("search");
const found = document.getElementById("found");

// ---- drawing -------------------------------------------------------------------------------------

const escapeText = (text) =>
  text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

let page = null;
let wireCount = 0;

function draw() {
  sameValue = standInValues();
  page = placeLevel(graph.frames[0]);
  wireCount = 0;
  const parts = { frames: [], wires: [], boxes: [], labels: [] };
  drawLevel(page, 0, 0, 0, parts, null, null);
  view.innerHTML = Object.entries(parts)
    .map(([name, items]) => `<g class="${name}">${items.join("")}</g>`)
    .join("");
  markFound();
}

function drawLevel(level, left, top, depth, parts, outer, at) {
  const { frame } = level;
  Object.assign(level, { outer, at });
  if (!frame.root) {
    parts.frames.push(
      `<g class="frame ${frame.kind} d${depth % 2}" data-frame="${frame.id}">` +
        `<rect x="${left}" y="${top}" width="${level.width}" height="${level.height}" rx="10"/>` +
        `<text class="frametitle" x="${left + 12}" y="${top + constants.frameTitleHeight - 3}">` +
        `${escapeText(frame.title)}</text></g>`
    );
  }
  for (const link of level.links) {
    const { path, head } = wirePath(link, level, left, top);
    const kind = graph.values[link.value].kind;
    link.wire = wireCount++;
    parts.wires.push(`<path class="${kind}" data-wire="${link.wire}" d="${path}"/>`);
    if (head) parts.wires.push(`<path class="head ${kind}" data-wire="${link.wire}" d="${head}"/>`);
  }
  for (const slot of level.rows.flat()) {
    if (isOpen(slot)) {
      const inner = level.inner.get(slot);
      drawLevel(inner, left + slot.x - slot.left, top + slot.y, depth + 1, parts, level, slot);
    } else if (!isThin(slot)) {
      const box = boxOf(slot);
      slot.level = level;
      const name = slot.kind === "box" ? `data-box="${slot.ref}"` : `data-closed="${slot.ref}"`;
      box.slot = slot;
      box.at = [left + slot.x, top + slot.y + slot.height / 2];
      parts.boxes.push(
        `<g ${name} transform="translate(${left + slot.x - box.width / 2} ${top + slot.y})">${box.markup}</g>`
      );
    }
    if (labelled(slot)) {
      const below = slot.kind === "frame" && !isOpen(slot) ? 15 : 12;
      parts.labels.push(
        `<text class="label" x="${left + slot.x + 6}" y="${top + slot.y + slot.height + below}">` +
          `${escapeText(labelOf(slot))}</text>`
      );
    }
  }
}

// ---- pan and zoom --------------------------------------------------------------------------------

let [scale, shiftX, shiftY] = [1, 0, 0];

function applyView() {
  view.setAttribute("transform", `translate(${shiftX} ${shiftY}) scale(${scale})`);
}

function zoom(factor, x, y) {
  const next = Math.min(8, Math.max(0.01, scale * factor));
  shiftX = x - ((x - shiftX) * next) / scale;
  shiftY = y - ((y - shiftY) * next) / scale;
  scale = next;
  applyView();
}

function fit(most = 1.2) {
  const { width, height } = canvas.getBoundingClientRect();
  scale = Math.min(most, (width - 20) / page.width, (height - 20) / page.height);
  shiftX = (width - page.width * scale) / 2;
  shiftY = Math.max(10, (height - page.height * scale) / 2);
  applyView();
}

/** The first look: as large as is readable, from the top. */
function firstView() {
  fit();
  if (scale < 0.7) {
    const { width } = canvas.getBoundingClientRect();
    scale = Math.max(scale, Math.min(0.85, (width - 20) / page.width));
    shiftX = (width - page.width * scale) / 2;
    shiftY = 10;
    applyView();
  }
}

canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const { left, top } = canvas.getBoundingClientRect();
  zoom(Math.exp(-event.deltaY / 500), event.clientX - left, event.clientY - top);
}, { passive: false });

let drag = null;
canvas.addEventListener("pointerdown", (event) => {
  drag = { x: event.clientX, y: event.clientY, moved: false };
});
window.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
  if (!drag.moved && Math.hypot(dx, dy) < 4) return;
  Object.assign(drag, { x: event.clientX, y: event.clientY, moved: true });
  canvas.classList.add("moving");
  shiftX += dx;
  shiftY += dy;
  applyView();
});
window.addEventListener("pointerup", (event) => {
  const click = drag && !drag.moved;
  drag = null;
  canvas.classList.remove("moving");
  if (click && canvas.contains(event.target)) toggleAt(event);
});

// ---- opening and closing -------------------------------------------------------------------------

function toggleAt(event) {
  const closed = event.target.closest("[data-closed]");
  const title = event.target.classList.contains("frametitle") && event.target.closest("[data-frame]");
  if (closed) toggle(Number(closed.dataset.closed), true, event);
  else if (title) toggle(Number(title.dataset.frame), false, event);
}

/** Open or close a frame, which stays under the pointer. */
function toggle(id, open, event) {
  const { left, top } = canvas.getBoundingClientRect();
  const [x, y] = [event.clientX - left, event.clientY - top];
  graph.frames[id].open = open;
  draw();
  const mark = view.querySelector(`[data-closed="${id}"], [data-frame="${id}"]`);
  const box = mark.getBoundingClientRect();
  shiftX += x - (box.left - left + Math.min(box.width / 2, 60));
  shiftY += y - (box.top - top + 14);
  applyView();
  hover.style.display = "none";
}

function setAll(open) {
  graph.frames.forEach((frame) => (frame.open = frame.root || open));
  draw();
  firstView();
}

// ---- search --------------------------------------------------------------------------------------

let matches = [];
let current = -1;

search.addEventListener("input", () => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  matches = words.length
    ? graph.boxes.filter((box) => words.every((word) => box.text.includes(word)))
    : [];
  current = -1;
  found.textContent = words.length ? `${matches.length} found` : "";
  markFound();
});

search.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !matches.length) return;
  const step = event.shiftKey ? -1 : 1;
  current = (current + step + matches.length) % matches.length;
  const box = matches[current];
  let closed = false;
  for (let id = box.frame; id > 0; id = graph.frames[id].parent) {
    closed ||= !graph.frames[id].open;
    graph.frames[id].open = true;
  }
  if (closed) draw();
  found.textContent = `${current + 1} of ${matches.length}`;
  const { width, height } = canvas.getBoundingClientRect();
  scale = Math.max(scale, 0.8);
  shiftX = width / 2 - box.at[0] * scale;
  shiftY = height / 2 - box.at[1] * scale;
  applyView();
  markFound();
});

function markFound() {
  view.querySelectorAll(".found").forEach((element) => element.classList.remove("found"));
  const shown = current >= 0 ? [matches[current]] : matches;
  for (const box of shown) {
    const element = view.querySelector(`[data-box="${box.id}"] > .box`);
    if (element) element.classList.add("found");
  }
}

// ---- hover ---------------------------------------------------------------------------------------

/** The links on the way from where a value is made to `link`. */
function traceUp(link, level, lit) {
  lit.add(link.wire);
  const { upper } = link;
  if (upper.kind === "lane") upper.up.forEach((up) => traceUp(up, level, lit));
  else if (upper.kind === "in" && level.outer) {
    const into = level.at.up.filter((up) => up.value === upper.value);
    into.forEach((up) => traceUp(up, level.outer, lit));
  } else if (level.inner.has(upper)) {
    const inner = level.inner.get(upper);
    inner.portsOut.get(link.value).up.forEach((up) => traceUp(up, inner, lit));
  }
}

/** The links on the way from `link` to all readers. */
function traceDown(link, level, lit) {
  lit.add(link.wire);
  const { lower } = link;
  if (lower.kind === "lane") lower.down.forEach((down) => traceDown(down, level, lit));
  else if (lower.kind === "out" && level.outer) {
    const onwards = level.at.down.filter((down) => down.value === lower.value);
    onwards.forEach((down) => traceDown(down, level.outer, lit));
  } else if (level.inner.has(lower)) {
    const inner = level.inner.get(lower);
    inner.portsIn.get(link.value).down.forEach((down) => traceDown(down, inner, lit));
  }
}

canvas.addEventListener("pointerover", (event) => {
  const target = event.target.closest("[data-box], [data-closed], [data-frame]");
  if (!target || drag) return;
  const { box, closed, frame } = target.dataset;
  const thing = box ? graph.boxes[box] : closed ? graph.frames[closed].closed : graph.frames[frame];
  hover.textContent = thing.hover;
  hover.style.display = thing.hover ? "block" : "none";
  if (frame) return;
  const lit = new Set();
  thing.slot.up.forEach((link) => traceUp(link, thing.slot.level, lit));
  thing.slot.down.forEach((link) => traceDown(link, thing.slot.level, lit));
  canvas.classList.add("tracing");
  view.querySelectorAll("[data-wire]").forEach((path) => {
    path.classList.toggle("lit", lit.has(Number(path.dataset.wire)));
  });
});
canvas.addEventListener("pointerout", () => {
  hover.style.display = "none";
  canvas.classList.remove("tracing");
});
canvas.addEventListener("pointermove", (event) => {
  const { offsetWidth, offsetHeight } = hover;
  hover.style.left = `${Math.min(event.clientX + 14, innerWidth - offsetWidth - 8)}px`;
  hover.style.top = `${Math.min(event.clientY + 14, innerHeight - offsetHeight - 8)}px`;
});

// ---- start ---------------------------------------------------------------------------------------

document.getElementById("fit").addEventListener("click", () => fit());
document.getElementById("open").addEventListener("click", () => setAll(true));
document.getElementById("close").addEventListener("click", () => setAll(false));
document.addEventListener("keydown", (event) => {
  if (event.target === search) return;
  const { width, height } = canvas.getBoundingClientRect();
  if (event.key === "/") { search.focus(); event.preventDefault(); }
  else if (event.key === "0") fit();
  else if (event.key === "+" || event.key === "=") zoom(1.25, width / 2, height / 2);
  else if (event.key === "-") zoom(0.8, width / 2, height / 2);
});
draw();
firstView();
