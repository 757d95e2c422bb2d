// What all views share: elements, calls of the API, short notices, and the question for a fresh code.

export class Refused extends Error {
  constructor(status, sentence, retryAfter) {
    super(sentence);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

const onSignedOut = [];
export const whenSignedOut = (act) => onSignedOut.push(act);

// Text never becomes markup: every string is a text node.
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "class") made.className = value;
    else if (key in made && key !== "list" && key !== "form" && key !== "role") made[key] = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export async function call(method, path, body) {
  const options = { method, headers: {}, credentials: "same-origin", cache: "no-store" };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch("/api/v1" + path, options);
  } catch {
    throw new Refused(0, "the device does not answer");
  }
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  throw await refusedBy(answer.status, () => answer.json(), answer.headers.get("Retry-After"), path);
}

export async function refusedBy(status, read, retryAfter, path) {
  let sentence = "this did not work";
  try {
    sentence = (await read()).error || sentence;
  } catch { /* no sentence came */ }
  if (status === 401 && path !== "/login" && path !== "/me") onSignedOut.forEach((act) => act());
  return new Refused(status, sentence, Number(retryAfter) || 0);
}

export const sentence = (error) => {
  const text = error.message || String(error);
  return text.charAt(0).toUpperCase() + text.slice(1) + (text.endsWith(".") ? "" : ".");
};

let fading;
export function say(text) {
  const place = document.getElementById("said");
  place.textContent = text;
  clearTimeout(fading);
  fading = setTimeout(() => (place.textContent = ""), 6000);
}

export function show(title, ...content) {
  const heading = el("h1", { tabIndex: -1 }, title);
  const main = document.getElementById("main");
  main.replaceChildren(heading, ...content.filter(Boolean));
  document.title = title === "edgepose" ? title : `${title} · edgepose`;
  heading.focus({ preventScroll: true });
  return main;
}

export function field(label, properties, note) {
  const input = el("input", { type: "text", autocomplete: "off", spellcheck: false, ...properties });
  return { input, label: el("label", {}, label, note ? el("span", { class: "soft small" }, ` ${note}`) : null, input) };
}

export const codeField = (note) =>
  field("Code of your authenticator", { name: "code", inputMode: "numeric", autocomplete: "one-time-code", maxLength: 64 }, note);

// A form with one main button; while it works the button is off, and what is wrong is said above it.
export function form(button, act, ...fields) {
  const fault = el("p", { class: "fault", role: "alert" });
  const submit = el("button", { class: "main wide", type: "submit" }, button);
  return el(
    "form",
    {
      noValidate: true,
      onsubmit: async (event) => {
        event.preventDefault();
        submit.disabled = true;
        fault.textContent = "";
        try {
          await act();
        } catch (error) {
          fault.textContent = sentence(error);
        } finally {
          submit.disabled = false;
        }
      },
    },
    ...fields,
    fault,
    submit,
  );
}

// Asks for a fresh code and acts with it; the dialog stays while the code is wrong.
export function withFreshCode(title, text, button, act) {
  const code = codeField();
  const dialog = el("dialog", { "aria-label": title, onclose: () => dialog.remove() });
  const cancel = el("button", { type: "button", class: "quiet wide", onclick: () => dialog.close() }, "Not now");
  dialog.append(
    el("h2", {}, title),
    el("p", { class: "soft" }, text),
    form(button, async () => {
      await act(code.input.value);
      dialog.close();
    }, code.label),
    cancel,
  );
  document.body.append(dialog);
  dialog.showModal();
  code.input.focus();
}

export const size = (bytes) => (bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${Math.max(1, Math.round(bytes / 1e3))} kB`);
