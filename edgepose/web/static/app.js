// The frame of the page: who is signed in, which view is shown, and the views of signing in and of one-time links.

import { call, codeField, el, field, form, say, show, whenSignedOut } from "/static/page.js";
import { leaveUploads, showUploads } from "/static/uploads.js";
import { showResult } from "/static/result.js";
import { showAccount, showAccounts } from "/static/accounts.js";
import { leaveLive, showLive } from "/static/live.js";
import { leaveAreas, showAreas } from "/static/areas.js";

const nav = document.getElementById("nav");
const who = document.getElementById("who");
let me = null;

function frame() {
  nav.hidden = who.hidden = !me;
  if (!me) return;
  const live = me.pages.includes("live");
  const first = live ? "#live" : "#uploads";
  const here = location.hash.split("/")[0] || first;
  const own = live ? [["#live", "Live"], ["#areas", "Areas"]] : [["#uploads", "Uploads"]];
  const pages = [...own, me.role === "admin" && ["#accounts", "Accounts"], me.name !== "guest" && ["#account", "My account"]].filter(Boolean);
  nav.replaceChildren(
    ...pages.map(([hash, name]) => el("a", { href: hash, "aria-current": hash === here || (hash === first && here === "#job") ? "page" : null }, name)),
  );
  const signOut = el("button", { type: "button", class: "quiet", onclick: leave }, "Sign out");
  who.replaceChildren(el("span", { class: "name" }, me.name), el("span", { class: "tag" }, me.role), signOut);
}

async function leave() {
  try {
    await call("POST", "/logout");
  } catch { /* the session is over already */ }
  me = null;
  route();
}

function route() {
  leaveUploads();
  leaveLive();
  leaveAreas();
  frame();
  document.getElementById("main").classList.toggle("narrow", !me || location.pathname === "/setup");
  if (location.pathname === "/setup" && location.hash.length > 1) return showSetup(location.hash.slice(1));
  if (!me) return showSignIn();
  const [view, id] = location.hash.slice(1).split("/");
  if (view === "job" && id) return showResult(id, me);
  if (view === "accounts" && me.role === "admin") return showAccounts(me);
  if (view === "account") return showAccount(me, (changed) => { me = changed; frame(); });
  if (!me.pages.includes("live")) return showUploads(me);
  return view === "areas" ? showAreas(me, id && decodeURIComponent(id)) : showLive(me);
}

function showSignIn() {
  const name = field("Name", { name: "username", autocomplete: "username", autocapitalize: "none" });
  const password = field("Password", { type: "password", name: "password", autocomplete: "current-password" });
  const code = codeField("or a recovery code; empty without a second factor");
  show(
    "Sign in",
    el("div", { class: "card" }, form("Sign in", async () => {
      me = await call("POST", "/login", { name: name.input.value.trim(), password: password.input.value, code: code.input.value });
      route();
    }, name.label, password.label, code.label)),
  );
  name.input.focus();
}

async function showSetup(link) {
  let offer;
  try {
    offer = await call("POST", "/setup/begin", { link });
  } catch (error) {
    show("This link is void", el("p", { class: "notice" }, "It was used already, or is too old. Ask for a new one, or on the device: edgepose accounts setup."),
      el("p", {}, el("a", { href: "/" }, "Go to the page")));
    return;
  }
  const name = field("Name", { name: "username", autocomplete: "username", autocapitalize: "none", value: offer.account || "" });
  const password = field("Password", { type: "password", name: "new-password", autocomplete: "new-password" }, "12 characters or more");
  const again = field("The same password again", { type: "password", autocomplete: "new-password" });
  const code = codeField(offer.may_skip_code ? "may stay empty: then the password is enough" : null);
  const groups = offer.secret.match(/.{1,4}/g).join(" ");
  show(
    offer.account ? `Welcome, ${offer.account}` : "Make the first administrator",
    el("p", { class: "soft" }, `Choose a password and add a second factor. Your role is ${offer.role}.`),
    el("div", { class: "card" }, form("Finish", async () => {
      if (password.input.value !== again.input.value) throw new Error("the two passwords differ");
      const done = await call("POST", "/setup/finish", { link, name: name.input.value.trim(), password: password.input.value, code: code.input.value });
      me = done;
      history.replaceState(null, "", "/");
      if (done.recovery_codes.length) showRecoveryCodes(done.recovery_codes);
      else route();
    },
    offer.account ? null : name.label, password.label, again.label,
    el("h2", {}, "Second factor"),
    el("p", { class: "small soft" }, "Scan this with an authenticator app, or type the key into it."),
    qr(offer.qr),
    el("p", { class: "code small" }, groups),
    code.label)),
  );
}

function qr(rows) {
  const quiet = 4;
  const canvas = el("canvas", { class: "qr", width: rows.length + 2 * quiet, height: rows.length + 2 * quiet, role: "img", "aria-label": "QR code of the key below" });
  const paint = canvas.getContext("2d");
  paint.fillStyle = "#fff";
  paint.fillRect(0, 0, canvas.width, canvas.height);
  paint.fillStyle = "#000";
  rows.forEach((row, y) => [...row].forEach((dark, x) => dark === "1" && paint.fillRect(x + quiet, y + quiet, 1, 1)));
  return canvas;
}

function showRecoveryCodes(codes) {
  frame();
  show(
    "Keep these recovery codes",
    el("p", {}, "Each signs you in once when your authenticator is gone. They are not shown again."),
    el("div", { class: "card" },
      el("ul", { class: "codes code" }, codes.map((each) => el("li", {}, each))),
      el("div", { class: "row" },
        el("button", { type: "button", onclick: async () => { await navigator.clipboard.writeText(codes.join("\n")); say("Copied."); } }, "Copy"),
        el("button", { type: "button", class: "main", onclick: () => route() }, "I have kept them"))),
  );
}

whenSignedOut(() => {
  if (!me) return;
  me = null;
  route();
  say("The session is over.");
});
addEventListener("hashchange", route);
try {
  if (location.hash.startsWith("#guest/")) {
    const link = location.hash.slice("#guest/".length);
    history.replaceState(null, "", "/");
    me = await call("POST", "/live/guest", { link });
  } else if (location.pathname !== "/setup") me = await call("GET", "/me");
} catch { /* nobody is signed in */ }
route();
