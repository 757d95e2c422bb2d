// The live view: what each camera shows now, why there are no people where there are none, events, health and thresholds.

import { call, el, form, say, sentence, show } from "/static/page.js";
import { Connection } from "/static/connection.js";
import { drawAreas, drawPeople, fit } from "/static/skeleton.js";

const WHY = {
  person: "",
  no_person: "Nobody is found.",
  no_video: "There is no video.",
  frozen: "The stream repeats one image.",
  too_dark: "The image is too dark to find people.",
  blurred: "The image is too blurred to find people.",
  paused: "Paused.",
  warming_up: "Starting.",
  not_processed: "Frames come, but cannot be processed; the log of the device has the reason.",
};
const DEGRADED = {
  cpu_fallback: "The accelerator does not work; networks run on the processor.",
  building_engine: "A faster engine is being built.",
  throttled: "The device is throttled: too hot, or too little power.",
  events_in_memory: "Events cannot be stored on disk; a power cut would lose them.",
  clock_unset: "The clock of the device is not set.",
  events_lost: "Events of an earlier run are lost.",
  webhook_failing: "The receiver of the webhook does not accept events.",
};
const HAPPENED = {
  entered: "came into sight", left: "went out of sight", fallen: "fell", still: "lies still after a fall", waving: "waves", arms_up: "raises both arms",
  zone_entered: "entered", zone_left: "left", loitering: "stays in", line_crossed: "crossed",
};
const EVENTS_SHOWN = 30;

let connection = null;
let view = null;

export async function showLive(me) {
  const told = el("p", { class: "soft" }, "Connecting…");
  const main = show("Live", told);
  const opened = (view = { me, main, cards: new Map(), events: [], configuration: null });
  try {
    view.about = await call("GET", "/live");
  } catch (error) {
    told.textContent = sentence(error);
    return;
  }
  if (view !== opened) return;
  build();
  connection = new Connection({ frames: takeFrames, state: takeState, events: takeEvents, lost: () => (view.notice.textContent = "The connection is lost; it is opened again.") });
}

export function leaveLive() {
  if (connection) connection.close();
  connection = view = null;
}

function build() {
  const { about, me } = view;
  view.figures = el("dl", { class: "figures" });
  view.notice = el("p", { class: "small notice quietly", role: "status" });
  view.degraded = el("ul", { class: "plain" });
  view.list = el("ol", { class: "events", tabIndex: 0, "aria-label": "Newest events first" }, el("li", { class: "soft" }, "Nothing has happened yet."));
  view.alarm = el("p", { class: "skip", role: "alert" });
  const cards = Object.keys(about.cameras).map(makeCard);
  view.main.replaceChildren(
    el("h1", { tabIndex: -1 }, about.device),
    view.notice,
    view.degraded,
    el("div", { class: cards.length > 1 ? "cameras" : "cameras one" }, cards.map((card) => card.root)),
    el("div", { class: "beside" },
      el("section", { class: "card" }, el("h2", {}, "Events"), view.alarm, view.list),
      el("div", {},
        el("section", { class: "card" }, el("h2", {}, "Device"), view.figures, view.more = el("p", { class: "soft small after" })),
        me.role === "viewer" ? null : controls())),
  );
}

function makeCard(name) {
  const { about, me } = view;
  const canvas = el("canvas", { width: 640, height: 360, role: "img", "aria-label": `${name}: no frame yet` });
  const card = {
    name, canvas, last: null, image: null, picture: false, arrivedMs: 0,
    tag: el("span", { class: "tag" }, "unknown"),
    why: el("p", { class: "why" }),
    line: el("p", { class: "soft small" }),
    tiles: el("p", { class: "soft small tiles" }),
    areas: about.cameras[name],
  };
  card.pictureButton = about.privacy.pixels === "never" ? null
    : el("button", { type: "button", class: "quiet", "aria-pressed": "false", onclick: () => togglePicture(card) }, "Picture");
  card.pause = me.role === "viewer" ? null : el("button", { type: "button", onclick: () => togglePause(card) }, "Pause");
  card.root = el("article", { class: "card camera", "aria-label": `Camera ${name}` },
    el("div", { class: "row head" }, el("h2", {}, name), card.tag),
    el("div", { class: "stage" }, canvas, card.why),
    card.line, card.tiles,
    el("div", { class: "row" }, card.pause, card.pictureButton,
      el("a", { class: "button quiet", href: `#areas/${encodeURIComponent(name)}`, "aria-label": `Areas of ${name}` }, "Areas")));
  view.cards.set(name, card);
  return card;
}

function takeFrames(parts) {
  for (const { camera, poses, jpeg } of parts) {
    const card = view.cards.get(camera);
    if (!card) continue;
    card.last = poses;
    card.arrivedMs = performance.now();
    if (jpeg && card.picture) decode(card, jpeg, poses);
    else if (!card.picture) redraw(card);
  }
}

async function decode(card, jpeg, poses) {
  try {
    card.image = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
    card.last = poses;
    redraw(card);
  } catch { /* the next one comes soon */ }
}

function redraw(card) {
  if (card.waits) return;
  card.waits = true;
  requestAnimationFrame(() => {
    card.waits = false;
    if (view?.about && card.last) paintCard(card); // a view that is opened again does not know its cameras yet
  });
}

function paintCard(card) {
  const { last, canvas } = card;
  const scale = fit(canvas, last.width, last.height);
  const paint = canvas.getContext("2d", { alpha: false });
  paint.fillStyle = "#000";
  paint.fillRect(0, 0, canvas.width, canvas.height);
  if (card.picture && card.image) paint.drawImage(card.image, 0, 0, canvas.width, canvas.height);
  drawAreas(paint, { zones: card.areas.zones, lines: card.areas.lines, masks: card.picture ? {} : card.areas.masks });
  if (card.state === "streaming" || card.state === undefined) drawPeople(paint, last.people, scale, view.about.skeleton, view.about.thresholds.keypoint_threshold);
}

function togglePicture(card) {
  card.picture = !card.picture;
  card.image = null;
  card.pictureButton.setAttribute("aria-pressed", String(card.picture));
  connection?.want([...view.cards.values()].filter((each) => each.picture).map((each) => each.name));
  redraw(card);
}

async function togglePause(card) {
  const paused = card.state === "paused";
  await order(paused ? "resume" : "pause", { camera: card.name }, paused ? `${card.name} starts.` : `${card.name} is paused.`);
}

async function order(name, payload, done) {
  try {
    await call("POST", `/live/commands/${name}`, payload);
    say(done);
  } catch (error) {
    say(sentence(error));
  }
}

async function takeState(state) {
  const { health } = state;
  view.notice.textContent = "";
  view.degraded.replaceChildren(...health.degraded.map((name) => el("li", { class: "notice small" }, DEGRADED[name] || name.replaceAll("_", " "))));
  let [rate, people] = [0, 0];
  for (const card of view.cards.values()) {
    const camera = health.cameras[card.name];
    const status = state.cameras[card.name];
    card.root.hidden = !camera;
    if (!camera) continue;
    rate += camera.frames_per_second;
    const streams = status.state === "streaming";
    const count = streams && card.last ? card.last.people.length : 0;
    people += count;
    const before = card.state;
    card.state = status.state;
    card.tag.textContent = status.state;
    card.tag.className = `tag ${streams ? "good" : status.state === "failed" || status.state === "stalled" ? "bad" : ""}`;
    const why = !streams && status.detail && camera.diagnosis !== "paused" ? sentence(new Error(status.detail)) : WHY[camera.diagnosis] ?? camera.diagnosis;
    card.why.textContent = why;
    const age = state.age_ms[card.name];
    card.line.textContent = [`${camera.frames_per_second.toFixed(1)} frames a second`, count === 1 ? "1 person" : `${count} people`, age && streams ? `${Math.round(age.p95)} ms old (p95)` : null].filter(Boolean).join(" · ");
    card.tiles.textContent = camera.tiles_coverage === undefined ? "" : `Tiles: ${Math.round(camera.tiles_coverage * 100)} % seen lately${camera.tiles_oldest_s === undefined ? "" : `, the oldest ${camera.tiles_oldest_s.toFixed(1)} s ago`}`;
    card.canvas.setAttribute("aria-label", `${card.name}: ${count === 1 ? "1 person" : `${count} people`}${why ? `; ${why}` : ""}`);
    if (card.pause) card.pause.textContent = status.state === "paused" ? "Start" : "Pause";
    if (before !== card.state) redraw(card);
  }
  const broker = state.broker.enabled ? (state.broker.state === "connected" ? "connected" : "not connected") : "none";
  const pairs = [[rate.toFixed(1), "frames a second"], [people, "people now"], [`${Math.round(health.memory_mb)} MB`, "memory"], [broker, "broker"]];
  const hottest = Math.max(...Object.values(health.temperatures_c || {}));
  if (Number.isFinite(hottest)) pairs.push([`${Math.round(hottest)} °C`, "hottest sensor"]);
  view.figures.replaceChildren(...pairs.map(([value, name]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value)))));
  const hours = health.uptime_s / 3600;
  view.more.textContent = [health.model, health.refiner, health.backend, `up ${hours >= 1 ? `${hours.toFixed(1)} h` : `${Math.round(health.uptime_s / 60)} min`}`, `${state.viewers} looking on`].filter(Boolean).join(" · ");
  if (view.configuration !== null && view.configuration !== state.configuration) {
    const opened = view;
    const about = await call("GET", "/live").catch(() => null);
    if (view !== opened || !about) return;
    view.about = about;
    if (Object.keys(about.cameras).join() !== [...view.cards.keys()].join()) {
      view.cards.clear();
      build();
    }
    for (const card of view.cards.values()) card.areas = about.cameras[card.name];
  }
  if (view) view.configuration = state.configuration;
}

function takeEvents(events) {
  view.events = [...events.reverse(), ...view.events].slice(0, EVENTS_SHOWN);
  const several = view.cards.size > 1;
  view.list.replaceChildren(...view.events.map((event) =>
    el("li", { class: event.kind === "fallen" || event.kind === "still" ? "urgent" : null },
      el("time", { dateTime: event.at, class: "soft small" }, new Date(event.at).toLocaleTimeString()),
      el("span", {}, `Person ${event.track} ${HAPPENED[event.kind] || event.kind}${event.zone || event.line ? ` ${event.zone || event.line}` : ""}${event.direction ? (event.direction === "to_left" ? " to the left" : " to the right") : ""}`, several ? el("span", { class: "soft small" }, ` · ${event.camera}`) : null))));
  const fall = events.find((event) => event.kind === "fallen");
  if (fall && Date.now() - Date.parse(fall.at) < 10_000) view.alarm.textContent = `${fall.camera}: a person fell`;
}

function controls() {
  const { thresholds } = view.about;
  const fields = [["score_threshold", "Score of a person"], ["low_score_threshold", "Score of a person who is followed already"], ["keypoint_threshold", "Confidence of a keypoint"]].map(([name, text]) => {
    const out = el("output", { class: "score" }, thresholds[name].toFixed(2));
    const input = el("input", { type: "range", min: 0, max: 1, step: 0.01, value: thresholds[name], oninput: () => (out.textContent = Number(input.value).toFixed(2)) });
    return { name, input, label: el("label", { class: "slide" }, el("span", {}, text), out, input) };
  });
  return el("section", { class: "card" }, el("h2", {}, "Thresholds"),
    el("p", { class: "soft small" }, "They hold until the next reload or restart."),
    form("Apply", async () => {
      const payload = Object.fromEntries(fields.map(({ name, input }) => [name, Number(input.value)]));
      await call("POST", "/live/commands/set-threshold", payload);
      say("The thresholds are applied.");
    }, ...fields.map((each) => each.label)),
    el("div", { class: "row after" },
      el("button", { type: "button", onclick: () => order("reload", {}, "The configuration is read again.") }, "Reload the configuration"),
      view.about.can_record ? el("button", { type: "button", onclick: () => order("record", {}, "The last minutes are recorded.") }, "Keep a recording") : null));
}
