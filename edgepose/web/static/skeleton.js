// Poses as they come over the WebSocket, and their drawing.

const HEADER = 50;
const PERSON = 98;

// A message holds parts: lengths of name, poses and JPEG, and then these. Poses are in the compact encoding (docs/mqtt.md).
export function partsOf(buffer) {
  const view = new DataView(buffer);
  const parts = [];
  for (let at = 0; at + 9 <= buffer.byteLength; ) {
    const [name, poses, jpeg] = [view.getUint8(at), view.getUint32(at + 1, true), view.getUint32(at + 5, true)];
    at += 9;
    const camera = new TextDecoder().decode(new Uint8Array(buffer, at, name));
    const decoded = decodePoses(new DataView(buffer, at + name, poses));
    at += name + poses;
    parts.push({ camera, poses: decoded, jpeg: jpeg ? new Uint8Array(buffer, at, jpeg) : null });
    at += jpeg;
  }
  return parts;
}

function decodePoses(view) {
  const px = view.getUint8(2) / 4;
  const people = [];
  for (let n = 0; n < view.getUint16(48, true); n++) {
    const at = HEADER + PERSON * n;
    const keypoints = [];
    for (let k = 0; k < 17; k++) {
      const joint = at + 5 * k;
      keypoints.push([view.getInt16(joint, true) * px, view.getInt16(joint + 2, true) * px, view.getUint8(joint + 4) / 255]);
    }
    const box = [85, 87, 89, 91].map((offset) => view.getInt16(at + offset, true) * px);
    const track = view.getUint32(at + 93, true);
    people.push({ track: track === 0xffffffff ? undefined : track, score: view.getUint8(at + 97) / 255, box, keypoints });
  }
  return {
    sequence: Number(view.getBigUint64(20, true)),
    capturedUs: Number(view.getBigInt64(28, true)),
    ageMs: view.getFloat32(36, true),
    width: view.getUint32(4, true),
    height: view.getUint32(8, true),
    people,
  };
}

// The colors of annotated videos: hues of neighboring numbers are far apart.
export function color(number) {
  return `hsl(${((0.45 + number * 0.381966) % 1) * 360} 100% 62%)`;
}

// Gives a canvas as many pixels as it has on the screen; returns its scale from pixels of the frame.
export function fit(canvas, width, height) {
  const ratio = Math.min(2, devicePixelRatio || 1);
  const shown = Math.max(1, Math.round(canvas.clientWidth * ratio));
  const high = Math.max(1, Math.round((shown * height) / width));
  if (canvas.width !== shown || canvas.height !== high) {
    canvas.width = shown;
    canvas.height = high;
  }
  return shown / width;
}

export function drawPeople(paint, people, scale, skeleton, threshold) {
  const unit = Math.max(1.5, paint.canvas.width / 320);
  paint.lineCap = "round";
  paint.lineJoin = "round";
  people.forEach((person, index) => {
    const hue = color(person.track === undefined ? index : person.track);
    const seen = (k) => person.keypoints[k][2] >= threshold;
    const at = (k) => [person.keypoints[k][0] * scale, person.keypoints[k][1] * scale];
    const [left, top, width, height] = person.box.map((value) => value * scale);
    const bold = Math.max(unit * 0.6, Math.min(unit * 1.6, Math.max(width, height) / 60));
    paint.strokeStyle = hue;
    paint.globalAlpha = 0.35;
    paint.lineWidth = Math.max(1, unit / 2);
    paint.strokeRect(left, top, width, height);
    paint.globalAlpha = 1;
    paint.lineWidth = bold;
    paint.beginPath();
    for (const [a, b] of skeleton) {
      if (!seen(a) || !seen(b)) continue;
      paint.moveTo(...at(a));
      paint.lineTo(...at(b));
    }
    paint.stroke();
    paint.fillStyle = "#fff";
    paint.beginPath();
    for (let k = 0; k < 17; k++) {
      if (!seen(k)) continue;
      const [x, y] = at(k);
      paint.moveTo(x + bold * 0.7, y);
      paint.arc(x, y, bold * 0.7, 0, 7);
    }
    paint.fill();
    if (person.track !== undefined && width > 0) label(paint, String(person.track), left, top, hue, unit);
  });
}

export function label(paint, text, x, y, background, unit) {
  paint.font = `600 ${Math.round(Math.max(11, unit * 5.5))}px system-ui, sans-serif`;
  const size = Math.round(Math.max(11, unit * 5.5));
  const width = paint.measureText(text).width + size * 0.7;
  const top = Math.max(0, y - size * 1.35);
  const left = Math.max(0, Math.min(x, paint.canvas.width - width));
  paint.fillStyle = background;
  paint.fillRect(left, top, width, size * 1.35);
  paint.fillStyle = "#0b1210";
  paint.textBaseline = "middle";
  paint.fillText(text, left + size * 0.35, top + size * 0.7);
}

const KINDS = { zones: "#ffd166", lines: "#7cc7ff", masks: "#ff8fa3" };
export const colorOf = (kind) => KINDS[kind];

// Zones, lines and masks, in fractions of the frame.
export function drawAreas(paint, areas, { selected = null, names = true } = {}) {
  const { width, height } = paint.canvas;
  const unit = Math.max(1.5, width / 320);
  for (const kind of ["masks", "zones", "lines"]) {
    for (const [name, corners] of Object.entries(areas[kind] || {})) {
      const chosen = selected && selected.kind === kind && selected.name === name;
      const points = corners.map(([x, y]) => [x * width, y * height]);
      path(paint, points, kind !== "lines");
      paint.globalAlpha = kind === "masks" ? 0.55 : chosen ? 0.3 : 0.14;
      paint.fillStyle = kind === "masks" ? "#1b0d10" : colorOf(kind);
      if (kind !== "lines") paint.fill();
      paint.globalAlpha = 1;
      paint.strokeStyle = colorOf(kind);
      paint.lineWidth = chosen ? unit * 1.3 : unit * 0.8;
      paint.setLineDash(kind === "masks" ? [unit * 3, unit * 2] : []);
      paint.stroke();
      paint.setLineDash([]);
      if (kind === "lines" && points.length === 2) sides(paint, points, unit);
      if (names) label(paint, name, Math.min(...points.map((p) => p[0])), Math.min(...points.map((p) => p[1])), colorOf(kind), unit);
    }
  }
}

export function path(paint, points, closed) {
  paint.beginPath();
  points.forEach(([x, y], index) => (index ? paint.lineTo(x, y) : paint.moveTo(x, y)));
  if (closed) paint.closePath();
}

// The sides of a line, as events name them: seen from its first point towards its second.
function sides(paint, [[x1, y1], [x2, y2]], unit) {
  const length = Math.hypot(x2 - x1, y2 - y1) || 1;
  const [across, down] = [((y2 - y1) / length) * unit * 14, (-(x2 - x1) / length) * unit * 7];
  paint.font = `600 ${Math.round(Math.max(11, unit * 5))}px system-ui, sans-serif`;
  paint.textBaseline = "middle";
  paint.textAlign = "center";
  paint.fillStyle = colorOf("lines");
  paint.strokeStyle = "#0b1210";
  paint.lineWidth = unit * 1.2;
  for (const [text, way] of [["left", 1], ["right", -1]]) {
    paint.strokeText(text, (x1 + x2) / 2 + way * across, (y1 + y2) / 2 + way * down);
    paint.fillText(text, (x1 + x2) / 2 + way * across, (y1 + y2) / 2 + way * down);
  }
  paint.textAlign = "start";
}
