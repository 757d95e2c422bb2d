// The view of uploads: choose or drop files, watch their progress, cancel, and open results.

import { call, el, refusedBy, say, sentence, show, size } from "/static/page.js";

const AT_ONCE = 2;
const sending = []; // uploads of this browser: {file, share, fault, request, waiting}
let list = null;
let jobs = [];
let socket = null;
let again = 0;
let mayUpload = false;
let limits = null;

export async function showUploads(me) {
  mayUpload = me.role !== "viewer";
  const items = el("ul", { class: "jobs", "aria-label": "Uploads and results" });
  show(
    "Uploads",
    el("p", { class: "soft" }, mayUpload ? "Pictures and videos go in, people with their keypoints come out." : "You may look at results; operators upload."),
    mayUpload ? dropZone() : null,
    items,
  );
  list = items;
  draw();
  try {
    limits = limits || (await call("GET", "/limits"));
    const note = document.getElementById("limits");
    if (note) note.textContent = `${limits.accepted}; up to ${limits.upload_limit_mb} MB. Results are deleted after ${limits.keep_minutes} minutes.`;
    jobs = await call("GET", "/jobs");
    draw();
    follow();
  } catch (error) {
    say(sentence(error));
  }
}

export function leaveUploads() {
  list = null;
  clearTimeout(again);
  if (socket) {
    socket.onclose = null;
    socket.close();
    socket = null;
  }
}

function dropZone() {
  const input = el("input", { type: "file", multiple: true, accept: "image/*,video/*,.mkv,.ts", onchange: () => { take(input.files); input.value = ""; } });
  const zone = el("label", { class: "drop" }, el("strong", {}, "Drop pictures or videos here"), el("span", { class: "soft" }, "or choose them from this device"),
    el("span", { class: "soft small", id: "limits" }), input);
  zone.querySelector("#limits").style.display = "block";
  for (const [event, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
    zone.addEventListener(event, (about) => {
      about.preventDefault();
      zone.classList.toggle("over", over);
      if (event === "drop") take(about.dataTransfer.files);
    });
  }
  return zone;
}

function take(files) {
  for (const file of files) {
    const upload = { file, share: 0, waiting: true };
    if (limits && file.size > limits.upload_limit_mb * 1e6) {
      upload.waiting = false;
      upload.fault = `It has ${size(file.size)}; at most ${limits.upload_limit_mb} MB are accepted.`;
    }
    sending.push(upload);
  }
  draw();
  next();
}

function next() {
  const active = sending.filter((upload) => upload.request).length;
  for (const upload of sending.filter((each) => each.waiting).slice(0, Math.max(0, AT_ONCE - active))) send(upload);
}

function send(upload) {
  upload.waiting = false;
  const request = (upload.request = new XMLHttpRequest());
  request.open("POST", `/api/v1/jobs?name=${encodeURIComponent(upload.file.name)}`);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.upload.onprogress = (event) => {
    upload.share = event.loaded / event.total;
    const bar = document.getElementById(`sending-${sending.indexOf(upload)}`);
    if (bar) bar.value = upload.share;
  };
  request.onloadend = async () => {
    upload.request = null;
    if (request.status === 201) {
      sending.splice(sending.indexOf(upload), 1);
      const job = JSON.parse(request.responseText);
      if (!jobs.some((each) => each.id === job.id)) jobs.unshift(job);
    } else if (request.status === 429 && !upload.gone) {
      upload.waiting = false;
      const seconds = Number(request.getResponseHeader("Retry-After")) || 5;
      setTimeout(() => { upload.waiting = !upload.gone; next(); }, seconds * 1000);
    } else if (!upload.gone) {
      const error = await refusedBy(request.status, async () => JSON.parse(request.responseText), 0, "/jobs");
      upload.fault = request.status ? sentence(error) : "The upload was cut off.";
    }
    draw();
    next();
  };
  request.send(upload.file);
  draw();
}

function drop(upload) {
  upload.gone = true;
  upload.waiting = false;
  if (upload.request) upload.request.abort();
  if (sending.includes(upload)) sending.splice(sending.indexOf(upload), 1);
  draw();
  next();
}

async function follow() {
  clearTimeout(again);
  if (!list || socket) return;
  try {
    const { ticket } = await call("POST", "/tickets");
    if (!list) return;
    const opened = (socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/v1/updates?ticket=${ticket}`));
    opened.onmessage = (event) => {
      if (JSON.stringify(jobs) === JSON.stringify(JSON.parse(event.data).jobs)) return;
      jobs = JSON.parse(event.data).jobs;
      draw();
    };
    opened.onclose = () => {
      socket = null;
      again = setTimeout(follow, 2000);
    };
  } catch (error) {
    if (error.status !== 401) again = setTimeout(follow, 5000);
  }
}

function draw() {
  if (!list) return;
  const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.key : undefined;
  const rows = [...sending.map(drawSending), ...jobs.map(drawJob)];
  list.replaceChildren(...(rows.length ? rows : [el("li", { class: "empty" }, mayUpload ? "Nothing is here yet." : "There are no results yet.")]));
  if (focused) list.querySelector(`[data-key="${focused}"]`)?.focus();
}

function button(text, key, act, kind = "quiet") {
  const made = el("button", { type: "button", class: kind, onclick: act }, text);
  made.dataset.key = key;
  return made;
}

function drawSending(upload, number) {
  return el("li", { class: upload.fault ? "job failed" : "job" },
    el("div", {}, el("div", { class: "name" }, upload.file.name), el("div", { class: "soft small" }, upload.fault ? "refused" : upload.request ? "uploading" : "waits for its turn", ` · ${size(upload.file.size)}`)),
    el("div", { class: "row" }, button(upload.fault ? "Dismiss" : "Cancel", `drop-${number}`, () => drop(upload))),
    upload.fault ? el("p", { class: "fault small" }, upload.fault) : el("progress", { id: `sending-${number}`, max: 1, value: upload.share, "aria-label": `Upload of ${upload.file.name}` }));
}

const words = { waiting: "waits for its turn", running: "finding people", done: "done", failed: "failed", canceled: "canceled" };

function drawJob(job) {
  const count = job.state === "running" && job.frames ? ` · frame ${job.frames}${job.expected_frames ? ` of ${job.expected_frames}` : ""}` : "";
  const found = job.summary ? ` · ${job.kind === "picture" ? people(job.summary.people) : `${job.summary.frames} frames`}` : "";
  const active = job.state === "waiting" || job.state === "running";
  const open = el("a", { class: "button", href: `#job/${job.id}` }, "Open");
  open.dataset.key = `open-${job.id}`;
  open.setAttribute("aria-label", `Open ${job.name}`);
  return el("li", { class: `job ${job.state}` },
    el("div", {}, el("div", { class: "name" }, job.name), el("div", { class: "soft small" }, `${words[job.state]}${count}${found} · ${size(job.bytes)} · ${job.account}`)),
    el("div", { class: "row" },
      job.state === "done" ? open : null,
      mayUpload && active ? button("Cancel", `cancel-${job.id}`, () => act(() => call("POST", `/jobs/${job.id}/cancel`))) : null,
      mayUpload && !active ? button("Delete", `delete-${job.id}`, () => act(() => call("DELETE", `/jobs/${job.id}`)), "quiet bad") : null),
    active ? bar(job) : null,
    job.error ? el("p", { class: "fault small" }, sentence(new Error(job.error))) : null);
}

function bar(job) {
  const share = job.expected_frames ? Math.min(1, job.frames / job.expected_frames) : undefined;
  const made = el("progress", { max: 1, "aria-label": `Progress of ${job.name}` });
  if (job.state === "waiting") made.value = 0;
  else if (share !== undefined) made.value = share;
  return made;
}

async function act(doing) {
  try {
    await doing();
    jobs = await call("GET", "/jobs");
    draw();
  } catch (error) {
    say(sentence(error));
  }
}

export const people = (count) => (count === 1 ? "1 person" : `${count} people`);
