// Places the frames that are open: rows and their order come from layers.py, and this file repeats
// the arithmetic of place.py, since a frame that opens or closes changes the size of all around it.
"use strict";

const graph = JSON.parse(document.getElementById("graph").textContent);
const { constants } = graph;
let sameValue = [];

// ---- the part of a level that is drawn -----------------------------------------------------------

const isThin = (slot) => slot.kind === "lane" || slot.kind === "in" || slot.kind === "out";
const isOpen = (slot) => slot.kind === "frame" && graph.frames[slot.ref].open;
const boxOf = (slot) => (slot.kind === "box" ? graph.boxes[slot.ref] : graph.frames[slot.ref].closed);

/** For each value the first one that leaves the same visible box: they are drawn as one. */
function standInValues() {
  const first = new Map();
  return graph.values.map(({ kind, box, frame }, number) => {
    let origin = `box ${box}`;
    for (let id = frame; id > 0; id = graph.frames[id].parent) {
      if (!graph.frames[id].open) origin = `frame ${id}`;
    }
    const key = `${kind} ${origin}`;
    if (!first.has(key)) first.set(key, number);
    return first.get(key);
  });
}

/** Slots and links of a level, without those for which another stands. */
function liveLevel(frame) {
  const slots = frame.slots.map((slot) => ({ ...slot, up: [], down: [] }));
  const chosen = new Map();
  const choose = (slot, key) => {
    if (!chosen.has(key)) chosen.set(key, slot);
    return chosen.get(key);
  };
  const standsFor = (slot) => {
    if (!isThin(slot)) return slot;
    slot.value = sameValue[slot.value];
    if (slot.kind !== "lane") return choose(slot, `${slot.kind}:${slot.value}`);
    return choose(slot, `${stands[slot.origin].id}:${slot.row}:${slot.value}`);
  };
  const stands = [];
  // A lane follows the slot that it begins at.
  for (const row of frame.rows) for (const k of row) stands[k] = standsFor(slots[k]);
  const rows = frame.rows.map((row) => row.map((k) => slots[k]).filter((s) => stands[s.id] === s));
  rows.forEach((row) => row.forEach((slot, index) => (slot.index = index)));
  const links = [];
  const seen = new Set();
  for (const [from, to, original] of frame.links) {
    const [upper, lower, value] = [stands[from], stands[to], sameValue[original]];
    const key = `${upper.id}:${lower.id}:${value}`;
    if (seen.has(key)) continue;
    seen.add(key);
    const link = { upper, lower, value };
    upper.down.push(link);
    lower.up.push(link);
    links.push(link);
  }
  const ports = (kind) =>
    new Map(rows.flat().filter((s) => s.kind === kind).map((slot) => [slot.value, slot]));
  const [portsIn, portsOut] = [ports("in"), ports("out")];
  return { frame, rows, links, portsIn, portsOut, spans: [], inner: new Map(), width: 0, height: 0 };
}

/** The level of a frame with all positions; frames inside come first. */
function placeLevel(frame) {
  const level = liveLevel(frame);
  for (const slot of level.rows.flat()) {
    if (isOpen(slot)) level.inner.set(slot, placeLevel(graph.frames[slot.ref]));
  }
  level.rows.flat().forEach((slot) => measure(slot, level));
  const aligned = alignedLinks(level);
  relax(level, aligned);
  moveBlocks(level, aligned);
  straightenLanes(level);
  const slots = level.rows.flat();
  let low = slots.reduce((least, slot) => Math.min(least, slot.x - slot.left), Infinity);
  if (!slots.length) low = 0;
  let titleWidth = 0;
  if (!frame.root) {
    titleWidth = frame.titleWidth;
    for (const port of level.rows[0]) low = Math.min(low, port.x - titleWidth - constants.besideLane);
  }
  slots.forEach((slot) => (slot.x += constants.padding - low));
  const right = slots.reduce((most, slot) => Math.max(most, slot.x + slot.right), 0);
  level.width = Math.max(right, constants.padding + titleWidth) + constants.padding;
  placeRows(level);
  return level;
}

const labelOf = (slot) => (isOpen(slot) ? graph.frames[slot.ref].label : boxOf(slot).label);
const labelled = (slot) => slot.down.length > 0 && !isThin(slot) && Boolean(labelOf(slot));

function measure(slot, level) {
  slot.left = slot.right = slot.height = 0;
  if (isOpen(slot)) {
    const inner = level.inner.get(slot);
    slot.left = slot.right = inner.width / 2;
    slot.height = inner.height;
  } else if (!isThin(slot)) {
    const box = boxOf(slot);
    slot.left = box.width / 2;
    slot.right = Math.max(box.width / 2, labelled(slot) ? box.labelWidth : 0);
    slot.height = box.height;
  }
}

function distance(a, b) {
  const thin = isThin(a) + isThin(b);
  const gap = [constants.betweenBoxes, constants.besideLane, constants.betweenLanes][thin];
  return a.right + gap + b.left;
}

function portOffset(slot, level, value, side) {
  const inner = level.inner.get(slot);
  if (!inner) return 0;
  return inner[side].get(value).x - inner.width / 2;
}
const leavesAt = (link, level) => portOffset(link.upper, level, link.value, "portsOut");
const arrivesAt = (link, level) => portOffset(link.lower, level, link.value, "portsIn");

// ---- horizontal positions: see place.py ----------------------------------------------------------

function strength(link) {
  const lanes = (link.upper.kind === "lane") + (link.lower.kind === "lane");
  if (lanes === 2) return 8;
  if ([link.upper, link.lower].some((s) => s.kind === "in" || s.kind === "out")) return 3;
  if (link.upper.kind === "box" && graph.boxes[link.upper.ref].leaf) return 1;
  return lanes ? 2 : 2.5;
}

function offCentre(link) {
  const up = [...link.lower.up].sort((a, b) => a.upper.index - b.upper.index);
  const down = [...link.upper.down].sort((a, b) => a.lower.index - b.lower.index);
  const off = (list) => Math.abs(list.indexOf(link) - (list.length - 1) / 2);
  return off(up) + off(down);
}

function firstNotBelow(sorted, value) {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

function alignedLinks(level) {
  const aligned = new Set();
  for (const row of level.rows) {
    const links = row
      .flatMap((slot) => slot.down)
      .map((link) => ({ link, strong: strength(link), off: offCentre(link) }))
      .sort((a, b) => b.strong - a.strong || a.off - b.off || a.link.upper.index - b.link.upper.index);
    const [uppers, lowers] = [[], []];
    for (const { link } of links) {
      const at = firstNotBelow(uppers, link.upper.index);
      if (uppers[at] === link.upper.index || lowers[at] === link.lower.index) continue;
      if (at !== firstNotBelow(lowers, link.lower.index)) continue;
      uppers.splice(at, 0, link.upper.index);
      lowers.splice(at, 0, link.lower.index);
      aligned.add(link);
    }
  }
  return aligned;
}

function relax(level, aligned) {
  for (const row of level.rows) {
    let x = 0;
    row.forEach((slot, index) => {
      if (index) x += distance(row[index - 1], slot);
      slot.x = x;
    });
    row.forEach((slot) => (slot.x -= x / 2));
  }
  const pull = (link, up) => {
    const weight = strength(link) * (aligned.has(link) ? 4 : 1);
    const offset = leavesAt(link, level) - arrivesAt(link, level);
    return up ? [link.upper, offset, weight] : [link.lower, -offset, weight];
  };
  for (const slot of level.rows.flat()) {
    slot.pulls = [slot.up.map((link) => pull(link, true)), slot.down.map((link) => pull(link, false))];
  }
  for (let round = 0; round < constants.rounds; round++) {
    const both = round >= constants.rounds / 2;
    level.rows.forEach((row) => settle(row, true, both));
    [...level.rows].reverse().forEach((row) => settle(row, both, true));
  }
}

function settle(row, useUp, useDown) {
  const pools = [];
  const starts = [];
  let before = 0;
  row.forEach((slot, index) => {
    if (index) before += distance(row[index - 1], slot);
    starts.push(before);
    let [weight, total] = [0.05, 0.05 * slot.x];
    const used = [...(useUp ? slot.pulls[0] : []), ...(useDown ? slot.pulls[1] : [])];
    for (const [other, offset, strong] of used) {
      weight += strong;
      total += strong * (other.x + offset);
    }
    pools.push([total - weight * before, weight, 1]);
    while (pools.length > 1) {
      const [a, b] = pools.slice(-2);
      if (a[0] * b[1] < b[0] * a[1]) break;
      pools.splice(-2, 2, [a[0] + b[0], a[1] + b[1], a[2] + b[2]]);
    }
  });
  let index = 0;
  for (const [total, weight, count] of pools) {
    for (let k = 0; k < count; k++, index++) row[index].x = total / weight + starts[index];
  }
}

/** Blocks of slots joined by the kept links, the distances between them, and their order. */
function makeBlocks(level, kept) {
  const members = [];
  for (const slot of level.rows.flat()) {
    const link = slot.up.find((up) => kept.has(up));
    if (link) {
      slot.block = link.upper.block;
      slot.shift = link.upper.shift + leavesAt(link, level) - arrivesAt(link, level);
    } else {
      slot.block = members.length;
      slot.shift = 0;
      members.push([]);
    }
    members[slot.block].push(slot);
  }
  const rightOf = members.map(() => new Map());
  const leftOf = members.map(() => new Map());
  for (const row of level.rows) {
    for (let k = 1; k < row.length; k++) {
      const [a, b] = [row[k - 1], row[k]];
      const apart = a.shift + distance(a, b) - b.shift;
      const known = rightOf[a.block].get(b.block);
      if (known === undefined || known < apart) {
        rightOf[a.block].set(b.block, apart);
        leftOf[b.block].set(a.block, apart);
      }
    }
  }
  const waiting = leftOf.map((left) => left.size);
  const order = [...members.keys()].filter((block) => !waiting[block]);
  for (let k = 0; k < order.length; k++) {
    for (const other of rightOf[order[k]].keys()) if (!--waiting[other]) order.push(other);
  }
  return { members, rightOf, leftOf, order };
}

function separate({ rightOf, order }, wanted) {
  const [right, left] = [[...wanted], [...wanted]];
  for (const block of order) {
    for (const [other, apart] of rightOf[block]) right[other] = Math.max(right[other], right[block] + apart);
  }
  for (let k = order.length - 1; k >= 0; k--) {
    const block = order[k];
    for (const [other, apart] of rightOf[block]) left[block] = Math.min(left[block], left[other] - apart);
  }
  return right.map((x, block) => (x + left[block]) / 2);
}

function extent(positions) {
  let [low, high] = [Infinity, -Infinity];
  for (const x of positions) [low, high] = [Math.min(low, x), Math.max(high, x)];
  return positions.length ? high - low : 0;
}

function moveBlocks(level, aligned) {
  const bend = (link) =>
    Math.abs(link.upper.x + leavesAt(link, level) - link.lower.x - arrivesAt(link, level));
  const most = constants.mostWidened * extent(level.rows.flat().map((s) => s.x)) + constants.mostBend;
  let kept = aligned;
  let loose = [...aligned];
  let blocks, x;
  for (;;) {
    blocks = makeBlocks(level, kept);
    const wanted = blocks.members.map(
      (group) => group.reduce((sum, slot) => sum + slot.x - slot.shift, 0) / group.length
    );
    x = separate(blocks, wanted);
    if (!loose.length || extent(x) <= most) break;
    if (kept === aligned) {
      kept = new Set([...aligned].filter((link) => bend(link) <= constants.mostBend));
      continue;
    }
    const pushed = (block) => Math.abs(x[block] - wanted[block]) > constants.mostPush;
    loose = [...kept].filter((link) => pushed(link.upper.block));
    const bends = loose.map(bend).sort((a, b) => a - b);
    const limit = bends[bends.length >> 1];
    loose.filter((link) => bend(link) >= limit).forEach((link) => kept.delete(link));
  }
  improve(level, blocks, x);
  level.rows.flat().forEach((slot) => (slot.x = x[slot.block] + slot.shift));
}

function improve(level, { members, rightOf, leftOf, order }, x) {
  const pulls = members.map(() => []);
  for (const link of level.links) {
    const { upper, lower } = link;
    if (upper.block === lower.block) continue;
    const way = upper.shift + leavesAt(link, level) - lower.shift - arrivesAt(link, level);
    pulls[lower.block].push([upper.block, way, strength(link)]);
    pulls[upper.block].push([lower.block, -way, strength(link)]);
  }
  for (let round = 0; round < constants.rounds; round++) {
    for (const block of round % 2 ? order : [...order].reverse()) {
      if (!pulls[block].length) continue;
      let [goal, total] = [0, 0];
      for (const [other, way, weight] of pulls[block]) {
        goal += (x[other] + way) * weight;
        total += weight;
      }
      goal /= total;
      let [low, high] = [-Infinity, Infinity];
      for (const [other, apart] of leftOf[block]) low = Math.max(low, x[other] + apart);
      for (const [other, apart] of rightOf[block]) high = Math.min(high, x[other] - apart);
      x[block] = Math.min(Math.max(goal, low), Math.max(low, high));
    }
  }
}

/** Let each edge that passes several rows bend as rarely as its neighbours allow. */
function straightenLanes(level) {
  for (const slot of level.rows.flat()) {
    if (slot.kind !== "lane" || slot.up[0].upper.kind === "lane") continue;
    let [lanes, low, high] = [[], -Infinity, Infinity];
    for (let lane = slot; lane; lane = lane.down.map((x) => x.lower).find((x) => x.kind === "lane")) {
      const [least, most] = room(lane, level.rows[lane.row]);
      if (lanes.length && Math.max(low, least) > Math.min(high, most)) {
        standInLine(lanes, low, high);
        [lanes, low, high] = [[], -Infinity, Infinity];
      }
      lanes.push(lane);
      [low, high] = [Math.max(low, least), Math.min(high, most)];
    }
    standInLine(lanes, low, high);
  }
}

function room(slot, row) {
  const [left, right] = [row[slot.index - 1], row[slot.index + 1]];
  return [
    left ? left.x + distance(left, slot) : -Infinity,
    right ? right.x - distance(slot, right) : Infinity,
  ];
}

function standInLine(lanes, low, high) {
  const counts = new Map();
  for (const lane of lanes) counts.set(lane.x, (counts.get(lane.x) ?? 0) + 1);
  let usual = lanes[0].x;
  for (const [x, count] of counts) if (count > counts.get(usual)) usual = x;
  for (const lane of lanes) lane.x = Math.max(low, Math.min(high, usual));
}

// ---- rows and wires ------------------------------------------------------------------------------

function placeRows(level) {
  let top = level.frame.root ? constants.padding : 4;
  level.rows.forEach((row, number) => {
    let height = row.reduce((most, slot) => Math.max(most, slot.height), 0);
    if (number === 0 && !level.frame.root) height = constants.frameTitleHeight;
    for (const slot of row) {
      slot.y = top + (height - slot.height) / 2;
      if (labelled(slot)) {
        height = Math.max(height, slot.y + slot.height + constants.labelHeight - top);
      }
    }
    level.spans.push([top, top + height]);
    if (number + 1 < level.rows.length) top += height + gapBelow(level, row);
    else {
      const last = row.some((slot) => slot.kind === "out") ? 4 : constants.padding;
      level.height = top + height + last;
    }
  });
}

function gapBelow(level, row) {
  let way = 0;
  for (const link of row.flatMap((slot) => slot.down)) {
    const begin = link.upper.x + leavesAt(link, level);
    way = Math.max(way, Math.abs(begin - link.lower.x - arrivesAt(link, level)));
  }
  const toBorder = (link) => link.lower.kind === "out" || link.lower.kind === "lane";
  const atBorder = row.every((slot) => slot.kind === "in" || slot.down.every(toBorder));
  const base = atBorder ? constants.borderGap : constants.rowGap;
  return base + Math.min(constants.mostGap, constants.gapPerWay * way);
}

function spread(link, level) {
  const { lower } = link;
  if (isThin(lower) || isOpen(lower) || lower.up.length === 1) return 0;
  const begin = (up) => up.upper.x + leavesAt(up, level);
  const ordered = [...lower.up].sort((a, b) => begin(a) - begin(b));
  const straight = ordered.findIndex((up) => Math.abs(begin(up) - lower.x) < 1);
  const middle = straight >= 0 ? straight : (ordered.length - 1) / 2;
  const sides = Math.max(1, middle, ordered.length - 1 - middle);
  const step = Math.min(constants.arrival, (lower.left - 9) / sides);
  return (ordered.indexOf(link) - middle) * step;
}

function wirePath(link, level, left, top) {
  const { upper, lower } = link;
  const [above, below] = [level.spans[upper.row], level.spans[lower.row]];
  const x0 = left + upper.x + leavesAt(link, level);
  const x1 = left + lower.x + arrivesAt(link, level) + spread(link, level);
  let y0 = top + (upper.kind === "in" ? 0 : upper.y + upper.height);
  // Edges that leave at one place share their first part.
  const first = upper.down.find((other) => leavesAt(other, level) === leavesAt(link, level));
  if (link !== first) y0 = top + above[1];
  else if (upper.kind === "lane") y0 = top + above[0];
  const y1 = top + above[1];
  let y2 = top + below[0];
  let y3 = lower.kind === "lane" ? y2 : top + lower.y;
  if (lower.kind === "out") y3 = top + level.height;
  const inner = level.inner.get(lower);
  const endsAtBorder = inner && !inner.portsIn.get(link.value).down.length;
  const arrives = endsAtBorder || (!isThin(lower) && !inner);
  if (arrives) y3 -= constants.arrow;
  y2 = Math.min(y2, y3);
  const bend = Math.max((y2 - y1) * 0.6, 4);
  const path =
    Math.abs(x1 - x0) < 0.5
      ? `M${x0} ${y0}V${y3}`
      : `M${x0} ${y0}V${y1}C${x0} ${y1 + bend} ${x1} ${y2 - bend} ${x1} ${y2}V${y3}`;
  const head = arrives ? `M${x1 - 3.5} ${y3 - 1}H${x1 + 3.5}L${x1} ${y3 + constants.arrow}Z` : "";
  return { path, head };
}
