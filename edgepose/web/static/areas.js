// The editor of areas: zones, lines and masks are drawn over a still, with the people in it, by pointer or by keyboard.

import { call, el, say, sentence, show } from "/static/page.js";
import { Connection } from "/static/connection.js";
import { colorOf, drawAreas, drawPeople, fit, path } from "/static/skeleton.js";

const KINDS = { zones: "zone", lines: "line", masks: "mask" };
const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/;
const CORNERS_LIMIT = 64;
const NEAR_PX = 14;

let editor = null;

export async function showAreas(me, camera) {
  const told = el("p", { class: "soft" }, "Loading…");
  const main = show("Areas", told);
  const opened = (editor = { me, main, people: [], size: [16, 9], cursor: [0.5, 0.5], drawing: null, selected: null, held: null, dragged: -1, image: null });
  try {
    editor.about = await call("GET", "/live");
  } catch (error) {
    told.textContent = sentence(error);
    return;
  }
  if (editor !== opened) return;
  const cameras = Object.keys(editor.about.cameras);
  editor.camera = cameras.includes(camera) ? camera : cameras[0];
  editor.draws = me.role !== "viewer";
  editor.masks = me.role === "admin";
  adopt();
  build(cameras);
  editor.connection = new Connection({ frames: takeFrames });
  takeStill();
}

export function leaveAreas() {
  editor?.connection?.close();
  editor = null;
}

function adopt() {
  const { zones, lines, masks } = editor.about.cameras[editor.camera];
  editor.areas = structuredClone({ zones, lines, masks });
  editor.fixed = new Set(editor.about.cameras[editor.camera].configured_masks);
  editor.changed = false;
  editor.drawing = editor.selected = editor.held = null;
}

function build(cameras) {
  const { about, draws } = editor;
  const never = about.privacy.pixels === "never";
  const canvas = (editor.canvas = el("canvas", { tabIndex: 0, role: "application", "aria-label": `Picture of ${editor.camera} with its areas`, "aria-describedby": "drawing-help", width: 640, height: 360 }));
  editor.help = el("p", { class: "soft small", id: "drawing-help", role: "status" });
  editor.list = el("ul", { class: "areas", "aria-label": "Areas" });
  editor.yaml = el("pre", { class: "code small scroll", tabIndex: 0, "aria-label": "YAML" });
  const choice = el("select", { "aria-label": "Camera", onchange: () => { location.hash = `#areas/${encodeURIComponent(choice.value)}`; } }, cameras.map((name) => el("option", { value: name, selected: name === editor.camera }, name)));
  const begin = (kind) => el("button", { type: "button", disabled: kind === "masks" && !editor.masks, onclick: () => start(kind) }, `Draw a ${KINDS[kind]}`);
  editor.finish = el("button", { type: "button", class: "main", onclick: finish }, "Finish");
  editor.cancel = el("button", { type: "button", class: "quiet", onclick: cancel }, "Cancel");
  editor.apply = el("button", { type: "button", class: "main", onclick: apply }, "Apply");
  const parts = [
    el("h1", { tabIndex: -1 }, "Areas"),
    el("p", { class: "soft" }, "Events tell who enters a zone and who crosses a line. A mask hides a place from everything, the network included."),
    never ? el("p", { class: "notice small" }, "privacy.pixels is never: no picture leaves the device. People show where to draw.") : null,
    el("div", { class: "editing" },
      el("div", {},
        el("div", { class: "row tools" }, cameras.length > 1 ? choice : null, draws ? Object.keys(KINDS).map(begin) : null, editor.finish, editor.cancel, never ? null : el("button", { type: "button", class: "quiet", onclick: takeStill }, "New still")),
        el("div", { class: "stage drawing" }, canvas), editor.help),
      el("div", {},
        el("section", { class: "card" }, el("h2", {}, "Areas"), editor.list,
          draws ? el("div", { class: "row after" }, editor.apply, el("button", { type: "button", onclick: discard }, "Discard changes"),
            about.cameras[editor.camera].drawn ? el("button", { type: "button", onclick: forget }, "Use the configured areas") : null) : null,
          draws && !editor.masks ? el("p", { class: "soft small" }, "Administrators draw masks.") : null),
        el("details", { class: "card" }, el("summary", {}, el("span", { class: "name" }, "As configuration")), editor.yaml,
          el("div", { class: "row" }, el("button", { type: "button", onclick: copy }, "Copy"), el("button", { type: "button", onclick: download }, "Download YAML"))))),
  ];
  editor.main.replaceChildren(...parts.filter(Boolean));
  if (draws) {
    canvas.addEventListener("pointerdown", down);
    canvas.addEventListener("pointermove", move);
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { if (editor.dragged >= 0) refresh(); editor.dragged = -1; });
    canvas.addEventListener("dblclick", () => editor.drawing && finish());
    canvas.addEventListener("keydown", key);
  }
  for (const name of ["focus", "blur"]) canvas.addEventListener(name, redraw);
  refresh();
}

async function takeStill() {
  const opened = editor;
  if (editor.about.privacy.pixels === "never") return redraw();
  try {
    const answer = await fetch(`/api/v1/live/cameras/${encodeURIComponent(editor.camera)}/still`, { cache: "no-store" });
    if (!answer.ok) throw new Error((await answer.json()).error);
    const image = await createImageBitmap(await answer.blob());
    if (editor !== opened) return;
    editor.image = image;
    editor.size = [image.width, image.height];
  } catch (error) {
    say(sentence(error));
  }
  redraw();
}

function takeFrames(parts) {
  const part = parts.find((each) => each.camera === editor.camera);
  if (!part) return;
  if (!editor.image) editor.size = [part.poses.width, part.poses.height];
  editor.people = part.poses.people.map((person) => ({ ...person, of: [part.poses.width, part.poses.height] }));
  counts();
  redraw();
}

function redraw() {
  if (!editor || editor.waits) return;
  editor.waits = true;
  requestAnimationFrame(() => {
    if (!editor) return;
    editor.waits = false;
    paintAll();
  });
}

function paintAll() {
  const { canvas, size, people, about, drawing, selected, held, cursor } = editor;
  fit(canvas, ...size);
  const paint = canvas.getContext("2d", { alpha: false });
  const { width, height } = canvas;
  const unit = Math.max(1.5, width / 320);
  paint.fillStyle = "#000";
  paint.fillRect(0, 0, width, height);
  if (editor.image) paint.drawImage(editor.image, 0, 0, width, height);
  drawAreas(paint, editor.areas, { selected });
  if (people.length) drawPeople(paint, people, width / people[0].of[0], about.skeleton, about.thresholds.keypoint_threshold);
  const corners = drawing ? drawing.corners : selected ? editor.areas[selected.kind][selected.name] : [];
  const kind = drawing ? drawing.kind : selected?.kind;
  if (drawing && corners.length) {
    path(paint, [...corners, ...(drawing.aim ? [drawing.aim] : [])].map(([x, y]) => [x * width, y * height]), false);
    paint.strokeStyle = colorOf(kind);
    paint.lineWidth = unit * 1.2;
    paint.stroke();
  }
  corners.forEach(([x, y], index) => {
    paint.beginPath();
    paint.arc(x * width, y * height, unit * (held === index ? 3.4 : 2.4), 0, 7);
    paint.fillStyle = held === index ? "#fff" : colorOf(kind);
    paint.fill();
    paint.strokeStyle = "#0b1210";
    paint.lineWidth = unit * 0.5;
    paint.stroke();
  });
  if (document.activeElement === canvas && canvas.matches(":focus-visible") && editor.draws) {
    const [x, y] = [cursor[0] * width, cursor[1] * height];
    for (const [color, bold] of [["#000", unit * 1.6], ["#fff", unit * 0.7]]) {
      paint.strokeStyle = color;
      paint.lineWidth = bold;
      paint.beginPath();
      paint.moveTo(x - unit * 6, y);
      paint.lineTo(x + unit * 6, y);
      paint.moveTo(x, y - unit * 6);
      paint.lineTo(x, y + unit * 6);
      paint.stroke();
    }
  }
}

// ---- changes

function start(kind) {
  editor.drawing = { kind, corners: [], aim: null };
  editor.selected = editor.held = null;
  editor.canvas.focus();
  refresh();
}

function finish() {
  const { drawing } = editor;
  if (!drawing) return;
  const least = drawing.kind === "lines" ? 2 : 3;
  const corners = drawing.corners.filter((corner, index) => !index || corner[0] !== drawing.corners[index - 1][0] || corner[1] !== drawing.corners[index - 1][1]);
  if (corners.length < least) return say(`A ${KINDS[drawing.kind]} needs ${least} ${least === 2 ? "ends" : "corners or more"}.`);
  if (drawing.kind !== "lines" && crosses(corners)) return say("Its edges cross: draw the corners in order around it.");
  let number = 1;
  while (editor.areas[drawing.kind][`${KINDS[drawing.kind]}${number}`]) number++;
  const name = `${KINDS[drawing.kind]}${number}`;
  editor.areas[drawing.kind][name] = corners;
  editor.drawing = null;
  editor.selected = { kind: drawing.kind, name };
  changed();
  editor.list.querySelector(`[data-key="${drawing.kind}-${name}"]`)?.focus();
}

function cancel() {
  editor.drawing = editor.held = editor.selected = null;
  refresh();
}

function changed() {
  editor.changed = true;
  refresh();
}

const mayChange = ({ kind, name }) => editor.draws && (kind !== "masks" || (editor.masks && !editor.fixed.has(name)));

function at(event) {
  const frame = editor.canvas.getBoundingClientRect();
  return [clip((event.clientX - frame.left) / frame.width), clip((event.clientY - frame.top) / frame.height)];
}

const clip = (share) => Math.min(1, Math.max(0, Math.round(share * 1e4) / 1e4));

function nearest(corners, [x, y], withinPx) {
  const { clientWidth, clientHeight } = editor.canvas;
  let [found, best] = [-1, withinPx];
  corners.forEach((corner, index) => {
    const far = Math.hypot((corner[0] - x) * clientWidth, (corner[1] - y) * clientHeight);
    if (far <= best) [found, best] = [index, far];
  });
  return found;
}

function down(event) {
  const point = at(event);
  if (editor.drawing) return add(point);
  if (editor.selected && mayChange(editor.selected)) {
    const corners = editor.areas[editor.selected.kind][editor.selected.name];
    const index = nearest(corners, point, NEAR_PX);
    if (index >= 0) {
      editor.dragged = index;
      editor.canvas.setPointerCapture(event.pointerId);
      return;
    }
  }
  editor.selected = areaAt(point);
  refresh();
}

function move(event) {
  const point = at(event);
  if (editor.drawing) editor.drawing.aim = point;
  else if (editor.dragged >= 0 && editor.selected) {
    editor.areas[editor.selected.kind][editor.selected.name][editor.dragged] = point;
    editor.changed = true;
    counts();
  } else return;
  redraw();
}

function add(point) {
  const { drawing } = editor;
  if (drawing.kind !== "lines" && drawing.corners.length > 2 && nearest(drawing.corners.slice(0, 1), point, NEAR_PX) === 0) return finish();
  if (drawing.corners.length >= CORNERS_LIMIT) return say(`A ${KINDS[drawing.kind]} has at most ${CORNERS_LIMIT} corners.`);
  drawing.corners.push(point);
  if (drawing.kind === "lines" && drawing.corners.length === 2) return finish();
  refresh();
}

function areaAt(point) {
  for (const kind of ["lines", "zones", "masks"]) {
    for (const [name, corners] of Object.entries(editor.areas[kind])) {
      if (kind === "lines" ? nearest(corners, point, NEAR_PX * 1.5) >= 0 || besideLine(corners, point) : inside(point, corners)) return { kind, name };
    }
  }
  return null;
}

function besideLine([[x1, y1], [x2, y2]], [x, y]) {
  const { clientWidth: w, clientHeight: h } = editor.canvas;
  const [dx, dy] = [(x2 - x1) * w, (y2 - y1) * h];
  const along = Math.min(1, Math.max(0, ((x - x1) * w * dx + (y - y1) * h * dy) / (dx * dx + dy * dy || 1)));
  return Math.hypot((x1 - x) * w + along * dx, (y1 - y) * h + along * dy) <= NEAR_PX;
}

function inside([x, y], corners) {
  let within = false;
  for (let i = 0, j = corners.length - 1; i < corners.length; j = i++) {
    const [[xi, yi], [xj, yj]] = [corners[i], corners[j]];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) within = !within;
  }
  return within;
}

function crosses(corners) {
  const side = (a, b, c) => (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);
  const edges = corners.map((corner, index) => [corner, corners[(index + 1) % corners.length]]);
  return edges.some(([a, b], i) => edges.slice(i + 1).some(([c, d]) => side(a, b, c) * side(a, b, d) < 0 && side(c, d, a) * side(c, d, b) < 0));
}

// Arrow keys move a cross; Enter sets a corner, or takes the nearest one up and puts it down.
function key(event) {
  const step = event.shiftKey ? 0.05 : 0.01;
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  const corners = editor.selected && editor.areas[editor.selected.kind][editor.selected.name];
  if (moves[event.key]) {
    editor.cursor = [clip(editor.cursor[0] + moves[event.key][0]), clip(editor.cursor[1] + moves[event.key][1])];
    if (editor.held !== null && corners) {
      corners[editor.held] = [...editor.cursor];
      editor.changed = true;
    }
    if (editor.drawing) editor.drawing.aim = [...editor.cursor];
    counts();
    redraw();
  } else if (event.key === "Enter" || event.key === " ") {
    if (editor.drawing) add([...editor.cursor]);
    else if (editor.held !== null) editor.held = null;
    else if (corners && mayChange(editor.selected)) {
      editor.held = nearest(corners, editor.cursor, Infinity);
      editor.cursor = [...corners[editor.held]];
    } else editor.selected = areaAt(editor.cursor);
    refresh();
  } else if (event.key === "Backspace" || event.key === "Delete") {
    if (editor.drawing) editor.drawing.corners.pop();
    else if (corners && mayChange(editor.selected) && editor.held !== null && corners.length > 3) {
      corners.splice(editor.held, 1);
      editor.held = null;
      editor.changed = true;
    }
    refresh();
  } else if (event.key === "Escape") cancel();
  else if (event.key === "f" && editor.drawing) finish();
  else return;
  event.preventDefault();
}

// ---- the list beside the picture

function refresh() {
  if (!editor) return;
  const { drawing } = editor;
  editor.finish.hidden = editor.cancel.hidden = !drawing;
  for (const button of editor.main.querySelectorAll(".tools button:not(.main):not(.quiet)")) button.hidden = Boolean(drawing);
  help();
  const focused = document.activeElement?.dataset?.key;
  const rows = Object.keys(KINDS).flatMap((kind) => Object.keys(editor.areas[kind]).map((name) => row(kind, name)));
  editor.list.replaceChildren(...(rows.length ? rows : [el("li", { class: "soft" }, "There are none yet.")]));
  if (focused) editor.list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  if (editor.apply) editor.apply.disabled = !editor.changed;
  editor.yaml.textContent = yaml();
  counts();
  redraw();
}

function help() {
  const { drawing, selected } = editor;
  const text = !editor.draws ? "Operators draw areas."
    : drawing ? (drawing.kind === "lines" ? "Set both ends: click, or arrow keys and Enter." : "Set the corners in order around it: click, or arrow keys and Enter. Finish closes it (or F, or a click on the first corner).")
      : selected ? (mayChange(selected) ? "Drag its corners, or take one up with Enter and move it with the arrow keys; Delete removes one that is taken up." : "This one cannot be changed here.")
        : "Choose an area to change it, or draw another one.";
  if (editor.help.textContent !== text) editor.help.textContent = text;
}

function row(kind, name) {
  const chosen = editor.selected?.kind === kind && editor.selected?.name === name;
  const may = mayChange({ kind, name });
  const input = el("input", { type: "text", value: name, disabled: !may, "aria-label": `Name of the ${KINDS[kind]} ${name}`, spellcheck: false, autocapitalize: "none", onchange: () => rename(kind, name, input) });
  input.dataset.key = `${kind}-${name}`;
  input.addEventListener("focus", () => {
    if (editor.selected?.kind === kind && editor.selected?.name === name) return;
    editor.selected = { kind, name };
    editor.held = null;
    for (const item of editor.list.children) item.classList.toggle("chosen", item.contains(input));
    help();
    redraw();
  });
  const count = el("span", { class: "soft small", "data-count": `${kind}/${name}` });
  return el("li", { class: `${kind}${chosen ? " chosen" : ""}` },
    el("span", { class: "kind" }, KINDS[kind]), input, count,
    may ? el("button", { type: "button", class: "quiet bad", "aria-label": `Delete the ${KINDS[kind]} ${name}`, onclick: () => { delete editor.areas[kind][name]; editor.selected = null; changed(); } }, "Delete")
      : kind === "masks" && editor.fixed.has(name) ? el("span", { class: "soft small" }, "configured") : null);
}

function rename(kind, name, input) {
  const wanted = input.value.trim();
  if (wanted === name) return;
  if (!NAME.test(wanted) || editor.areas[kind][wanted]) {
    say(NAME.test(wanted) ? `There is a ${KINDS[kind]} ${wanted} already.` : "A name has letters, digits, and . _ - inside.");
    input.value = name;
    return;
  }
  editor.areas[kind] = Object.fromEntries(Object.entries(editor.areas[kind]).map(([each, corners]) => [each === name ? wanted : each, corners]));
  editor.selected = { kind, name: wanted };
  changed();
}

function counts() {
  for (const place of editor.list.querySelectorAll("[data-count]")) {
    const [kind, name] = place.dataset.count.split("/");
    if (kind === "lines" || !editor.areas[kind][name]) continue;
    const count = editor.people.filter((person) => inside(feet(person), editor.areas[kind][name])).length;
    const text = count === 0 ? "" : count === 1 ? "1 person in it" : `${count} people in it`;
    if (place.textContent !== text) place.textContent = text;
  }
}

// The ankles as far as they are seen, else the lower edge of the box: what zones go by.
function feet({ keypoints, box, of }) {
  const seen = [15, 16].map((k) => keypoints[k]).filter(([, , confidence]) => confidence >= editor.about.thresholds.keypoint_threshold);
  const [x, y] = seen.length ? [0, 1].map((axis) => seen.reduce((sum, point) => sum + point[axis], 0) / seen.length) : [box[0] + box[2] / 2, box[1] + box[3]];
  return [x / of[0], y / of[1]];
}

// ---- saving

function yaml() {
  const lines = ["cameras:", `  ${JSON.stringify(editor.camera)}:`];
  for (const kind of Object.keys(KINDS)) {
    const areas = Object.entries(editor.areas[kind]);
    lines.push(areas.length ? `    ${kind}:` : `    ${kind}: {}`);
    for (const [name, corners] of areas) lines.push(`      ${JSON.stringify(name)}: [${corners.map(([x, y]) => `[${x}, ${y}]`).join(", ")}]`);
  }
  return lines.join("\n") + "\n";
}

async function copy() {
  await navigator.clipboard.writeText(yaml());
  say("Copied.");
}

function download() {
  const link = el("a", { href: URL.createObjectURL(new Blob([yaml()], { type: "application/yaml" })), download: `${editor.camera}.areas.yaml` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function apply() {
  const { zones, lines, masks } = editor.areas;
  const drawn = Object.fromEntries(Object.entries(masks).filter(([name]) => !editor.fixed.has(name)));
  await send("PUT", { zones, lines, masks: drawn }, "The areas hold from now on.");
}

async function forget() {
  await send("DELETE", undefined, "The areas of the configuration hold again.");
}

async function send(method, body, done) {
  const opened = editor;
  editor.apply.disabled = true;
  try {
    const about = await call(method, `/live/cameras/${encodeURIComponent(editor.camera)}/areas`, body);
    if (editor !== opened) return;
    editor.about = about;
    adopt();
    build(Object.keys(about.cameras));
    say(done);
    takeStill();
  } catch (error) {
    if (editor === opened) editor.apply.disabled = false;
    say(sentence(error));
  }
}

function discard() {
  adopt();
  refresh();
}
