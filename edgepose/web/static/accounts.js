// The views of accounts: everybody's own password and tokens, and for administrators all accounts.

import { call, codeField, el, field, form, say, sentence, show, withFreshCode } from "/static/page.js";

const ROLES = ["viewer", "operator", "admin"];
const roleSelect = (value, upTo = "admin") =>
  el("select", { name: "role", "aria-label": "Role" }, ROLES.slice(0, ROLES.indexOf(upTo) + 1).map((role) => el("option", { value: role, selected: role === value }, role)));

function once(text, explanation) {
  const dialog = el("dialog", { "aria-label": "Shown once", onclose: () => dialog.remove() });
  dialog.append(
    el("h2", {}, "Shown once"),
    el("p", { class: "soft" }, explanation),
    el("p", { class: "code notice" }, text),
    el("div", { class: "row" },
      el("button", { type: "button", class: "main", onclick: async () => { await navigator.clipboard.writeText(text); say("Copied."); } }, "Copy"),
      el("button", { type: "button", onclick: () => dialog.close() }, "Close")),
  );
  document.body.append(dialog);
  dialog.showModal();
}

export async function showAccounts(me) {
  const body = el("tbody");
  const name = field("Name", { name: "account", autocapitalize: "none" });
  const role = roleSelect("viewer");
  const code = codeField();
  show(
    "Accounts",
    el("div", { class: "card scroll" }, el("table", {},
      el("thead", {}, el("tr", {}, ["name", "role", "second factor", ""].map((text) => el("th", { scope: "col" }, text || el("span", { class: "skip" }, "actions"))))), body)),
    el("section", { class: "card form" }, el("h2", {}, "Add an account"),
      form("Add", async () => {
        const added = await call("POST", "/accounts", { name: name.input.value.trim(), role: role.value, code: code.input.value });
        name.input.value = code.input.value = "";
        once(added.link, `Give this link to ${added.name}: it sets password and second factor, once, within a day.`);
        await fill();
      }, name.label, el("label", {}, "Role", role), code.label)),
  );
  async function fill() {
    const accounts = await call("GET", "/accounts");
    body.replaceChildren(...accounts.map((account) => row(account, me, fill)));
  }
  try {
    await fill();
  } catch (error) {
    say(sentence(error));
  }
}

function row(account, me, fill) {
  const mine = account.name === me.name;
  const select = roleSelect(account.role);
  select.setAttribute("aria-label", `Role of ${account.name}`);
  select.addEventListener("change", () => {
    const role = select.value;
    select.value = account.role;
    withFreshCode(`Make ${account.name} ${role}`, "Its sessions end, and its tokens are void.", "Change role", async (code) => {
      const changed = await call("PATCH", `/accounts/${encodeURIComponent(account.name)}`, { role, code });
      if (changed.link) once(changed.link, `${account.name} needs a second factor now: this link sets it up.`);
      await fill();
    });
  });
  const act = (title, text, button, what) => () =>
    withFreshCode(title, text, button, async (code) => {
      const done = await call("POST", `/accounts/${encodeURIComponent(account.name)}/${what}`, { code });
      if (done) once(done.link, `Give this link to ${account.name}: it sets password and second factor, once, within a day.`);
      await fill();
    });
  return el("tr", {},
    el("td", {}, account.name, mine ? " (you)" : "", account.ready ? null : el("span", { class: "soft small" }, " waits for its link")),
    el("td", {}, select),
    el("td", {}, account.second_factor ? `yes, ${account.recovery_codes_left} recovery codes left` : "no"),
    el("td", {}, el("div", { class: "row" },
      mine ? null : el("button", { type: "button", class: "quiet", onclick: act(`Reset ${account.name}`, "Password and second factor are taken away, sessions end.", "Reset", "reset") }, "Reset"),
      mine ? null : el("button", { type: "button", class: "quiet bad", onclick: act(`Remove ${account.name}`, "The account and its tokens are removed.", "Remove", "remove") }, "Remove"))));
}

export async function showAccount(me, changed) {
  const present = field("Present password", { type: "password", autocomplete: "current-password" });
  const next = field("New password", { type: "password", autocomplete: "new-password" }, "12 characters or more");
  const tokens = el("tbody");
  const name = field("What it is for", { maxLength: 64 });
  const role = roleSelect("viewer", me.role);
  const days = field("Days", { type: "number", min: 1, max: 90, value: 30 });
  const code = codeField();
  show(
    "My account",
    el("p", { class: "soft" }, `${me.name}, ${me.role}`, me.second_factor ? `, ${me.recovery_codes_left} recovery codes left` : ", no second factor"),
    me.clock_unset ? el("p", { class: "notice" }, `The clock of the device is not set (${me.clock_unset}): no time-based code and no token is accepted.`) : null,
    el("section", { class: "card form" }, el("h2", {}, "Password"),
      form("Change password", async () => {
        changed(await call("POST", "/me/password", { password: present.input.value, new_password: next.input.value }));
        present.input.value = next.input.value = "";
        say("The password is changed. Other sessions are over.");
      }, present.label, next.label)),
    el("section", { class: "card form" }, el("h2", {}, "Tokens for programs"),
      el("p", { class: "soft small" }, "A program sends its token in the header Authorization: Bearer TOKEN."),
      el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ["for", "role", "until", ""].map((text) => el("th", { scope: "col" }, text || el("span", { class: "skip" }, "actions"))))), tokens)),
      me.second_factor
        ? form("Make a token", async () => {
          const made = await call("POST", "/tokens", { name: name.input.value.trim() || "program", role: role.value, days: Number(days.input.value), code: code.input.value });
          code.input.value = "";
          once(made.token, "Give this token to the program.");
          await fill();
        }, name.label, el("label", {}, "Role", role), days.label, code.label)
        : el("p", { class: "notice" }, "Making a token needs a second factor: ask an administrator for a new link.")),
  );
  async function fill() {
    const found = await call("GET", "/tokens");
    tokens.replaceChildren(...found.map((token) =>
      el("tr", {}, el("td", {}, token.name, token.account === me.name ? "" : ` (${token.account})`), el("td", {}, token.role), el("td", {}, token.expires_at.slice(0, 10)),
        el("td", {}, el("button", { type: "button", class: "quiet bad", onclick: async () => { await call("DELETE", `/tokens/${token.id}`); await fill(); } }, "Revoke")))));
  }
  try {
    await fill();
  } catch (error) {
    say(sentence(error));
  }
}
