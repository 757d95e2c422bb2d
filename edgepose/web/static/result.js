// The view of a result: the annotated picture or video beside the people in it, with scores and keypoints, and downloads.

import { call, el, say, sentence, show } from "/static/page.js";
import { people } from "/static/uploads.js";

const NAMES = { "poses.jsonl": "JSON lines", "poses.csv": "CSV", "poses.coco.json": "COCO", "annotated.mp4": "Video (MP4)", "annotated.jpg": "Picture (JPEG)" };

export async function showResult(id, me) {
  let result;
  try {
    result = await call("GET", `/jobs/${id}/result`);
  } catch (error) {
    show("No result", el("p", { class: "notice" }, sentence(error)), el("p", {}, el("a", { href: "#uploads" }, "Back to the uploads")));
    return;
  }
  const { job, frames } = result;
  const path = (name) => `/api/v1/jobs/${id}/files/${name}`;
  const panel = el("div", { class: "card" });
  const picture = job.kind === "picture";
  const media = picture
    ? el("img", { src: path("annotated.jpg"), alt: `${job.name} with the skeletons of ${people(job.summary.people)}` })
    : el("video", { src: path("annotated.mp4"), controls: true, preload: "auto", muted: true, playsInline: true, "aria-label": `${job.name} with skeletons` });
  const most = Math.max(0, ...frames.map((frame) => frame.people.length));
  show(
    job.name,
    el("p", { class: "soft" }, el("a", { href: "#uploads" }, "← Uploads"), ` · ${job.account}`),
    el("div", { class: "result" },
      el("div", {}, el("div", { class: "media" }, media), picture ? null : timeline(frames, media, most, (frame) => drawPeople(panel, frame, result)),
        el("section", { class: "card after" },
          el("dl", { class: "figures" }, figures(job, most)),
          job.summary.notes.map((note) => el("p", { class: "notice small" }, sentence(new Error(note))))),
        el("section", { class: "card" }, el("h2", {}, "Downloads"),
          el("div", { class: "row" },
            result.files.map((name) => el("a", { class: "button", href: path(name), download: "" }, NAMES[name])),
            me.role === "viewer" ? null : el("button", { type: "button", class: "bad", onclick: remove(id) }, "Delete everything")))),
      panel),
  );
  drawPeople(panel, frames[0], result);
}

const remove = (id) => async () => {
  try {
    await call("DELETE", `/jobs/${id}`);
    location.hash = "#uploads";
    say("Upload and results are deleted.");
  } catch (error) {
    say(sentence(error));
  }
};

function figures(job, most) {
  const pairs = job.kind === "picture"
    ? [["people", job.summary.people]]
    : [["frames", job.summary.frames], ["most people in a frame", most], ["frames a second", job.summary.frames_per_second]];
  if (job.summary.refined !== null) pairs.push(["poses refined", job.summary.refined]);
  return pairs.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value))));
}

// People over time above a slider that steps through the frames; both follow the video and move it.
function timeline(frames, video, most, chosen) {
  if (!frames.length) return null;
  const times = frames.map((frame) => (Date.parse(frame.captured_at) - Date.parse(frames[0].captured_at)) / 1000);
  const space = "http://www.w3.org/2000/svg";
  const chart = document.createElementNS(space, "svg");
  const line = document.createElementNS(space, "polyline");
  const cursor = document.createElementNS(space, "line");
  chart.setAttribute("viewBox", `0 -0.2 ${Math.max(1, frames.length - 1)} ${Math.max(1, most) + 0.4}`);
  chart.setAttribute("preserveAspectRatio", "none");
  chart.setAttribute("class", "chart");
  chart.setAttribute("aria-hidden", "true");
  line.setAttribute("points", frames.map((frame, index) => `${index},${Math.max(1, most) - frame.people.length}`).join(" "));
  cursor.setAttribute("y1", "-0.2");
  cursor.setAttribute("y2", String(Math.max(1, most) + 0.2));
  chart.append(line, cursor);
  const slider = el("input", { type: "range", min: 0, max: frames.length - 1, value: 0, "aria-label": "Frame" });
  const label = el("p", { class: "soft small" });
  let shown = -1;
  const move = (index) => {
    if (index === shown) return;
    shown = index;
    cursor.setAttribute("x1", String(index));
    cursor.setAttribute("x2", String(index));
    slider.value = index;
    label.textContent = `Frame ${index + 1} of ${frames.length}, ${times[index].toFixed(2)} s, ${people(frames[index].people.length)}`;
    slider.setAttribute("aria-valuetext", label.textContent);
    chosen(frames[index]);
  };
  slider.addEventListener("input", () => {
    video.pause();
    video.currentTime = times[slider.value] + 0.001;
    move(Number(slider.value));
  });
  const follow = () => {
    if (video.paused && !video.seeking && shown >= 0 && video.readyState < 2) return;
    let low = 0;
    let high = times.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (times[middle] <= video.currentTime + 0.002) low = middle;
      else high = middle - 1;
    }
    move(low);
  };
  video.addEventListener("timeupdate", follow);
  video.addEventListener("seeked", follow);
  setTimeout(() => move(0));
  return el("div", {}, chart, slider, label);
}

function drawPeople(panel, frame, result) {
  const found = frame ? frame.people : [];
  const open = new Set([...panel.querySelectorAll("details[open]")].map((each) => each.dataset.key));
  panel.replaceChildren(
    el("h2", {}, found.length ? people(found.length) : "Nobody is here"),
    ...found.map((person, index) => {
      const name = person.track === undefined ? `Person ${index + 1}` : `Track ${person.track}`;
      const details = el("details", { open: open.has(name) },
        el("summary", {}, el("span", { class: "name" }, name), el("meter", { min: 0, max: 1, value: person.score, "aria-label": "score" }), el("span", { class: "score" }, person.score.toFixed(3))),
        keypoints(person, result.keypoint_names));
      details.dataset.key = name;
      return details;
    }),
  );
}

function keypoints(person, names) {
  const head = el("tr", {}, el("th", { scope: "col" }, "keypoint"), ...["x", "y", "confidence"].map((name) => el("th", { scope: "col", class: "number" }, name)));
  const rows = person.keypoints.map(([x, y, confidence], index) =>
    el("tr", {}, el("td", {}, names[index].replace("_", " ")), el("td", { class: "number" }, x.toFixed(0)), el("td", { class: "number" }, y.toFixed(0)), el("td", { class: "number" }, confidence.toFixed(2))));
  return el("div", { class: "scroll" }, el("table", { class: "small" }, el("thead", {}, head), el("tbody", {}, rows)));
}
