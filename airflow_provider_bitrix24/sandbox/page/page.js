"use strict";

// Everything that came over REST is put on the page as text (textContent), never as HTML.
function element(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

const byId = (id) => document.getElementById(id);
const cell = (content, kind = "") => element("td", { class: kind || null }, ...[content].flat());
const badge = (text, kind = "") => element("span", { class: `state ${kind}` }, text);
// A method's name, which may be broken after its dots.
const method = (name) => element("code", {}, ...String(name).split(/(?<=\.)/).flatMap((part) => [part, element("wbr")]));
const badges = (...states) => element("div", { class: "states" }, ...states.filter(Boolean));
const money = (amount, currency) => {
  const [whole, places = ""] = String(amount).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, "\u202f");
  return `${grouped}.${places.padEnd(2, "0")}\u00a0${currency ?? ""}`;
};
// The portal's own time, with its day: 2025-11-22 10:26:40.
const clock = (at) => String(at ?? "").slice(0, 19).replace("T", " ");
const time = (at) => element("time", { datetime: at ?? "", title: at ?? "" },
  ...clock(at).split(" ").flatMap((part) => [element("span", {}, part), " "]));
const rowHeader = (content, kind = "") => element("th", { scope: "row", class: kind || null }, ...[content].flat());
const numbered = (number, address) => rowHeader(element("a", { href: address }, `#${number}`), "number");
const isZero = (amount) => Number(amount) === 0;

async function act(action, body, button) {
  if (button.ariaDisabled === "true") return;
  button.ariaDisabled = "true"; // a button that is really disabled would lose the keyboard's focus
  const response = await fetch("/_sandbox/act", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ action, by: "customer", ...body }),
  }).catch(() => null);
  if (!response) complain("The sandbox does not respond.");
  else if (!response.ok) complain((await response.json()).error);
  else complain("");
  button.ariaDisabled = "false";
  await look();
}

function complain(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

function payButton(label, name, action, body) {
  return element("button", {
    type: "button",
    "aria-label": `${label}: ${name}`,
    onclick: (event) => act(action, body, event.currentTarget),
  }, label);
}

const OWNERS = { 2: "Deal", 31: "Smart invoice", 1: "Lead" };

function paymentRow(payment) {
  const paid = payment.paid === "Y";
  const by = payment.emp_paid_id ? `user ${payment.emp_paid_id}` : "the customer";
  const states = [paid ? badge("paid", "good") : badge("unpaid", "wait")];
  if (payment.is_return === "Y") states.push(badge("returned", "bad"));
  if (isZero(payment.sum)) states.push(badge("empty"));
  return element("tr", { "data-key": `payment ${payment.id}` },
    numbered(payment.id, `/shop/orders/payment/details/${payment.id}/`),
    cell(payment.entity_id ? `${OWNERS[payment.entity_type_id]} ${payment.entity_id}` : `Order ${payment.order_id}`),
    cell(money(payment.sum, payment.currency), "money"),
    cell(payment.pay_system_name || "none", "spare"),
    cell(badges(...states, paid
      ? element("span", { class: "soft" }, time(payment.date_paid), ` by ${by}`)
      : isZero(payment.sum) ? null
      : payButton("Customer pays", `payment ${payment.id}`, "pay_payment", { payment_id: payment.id }))));
}

const INVOICE_STATES = { D: ["declined", "bad"], N: ["unpaid", "wait"], S: ["sent", "wait"], A: ["approved", "wait"], P: ["paid", "good"] };

function invoiceRow(invoice) {
  const paid = invoice.payed === "Y";
  const closed = invoice.canceled === "Y" || invoice.status_id === "D";
  const [text, kind] = paid ? ["paid", "good"]
    : invoice.canceled === "Y" ? ["cancelled", "bad"]
    : INVOICE_STATES[invoice.status_id] ?? [`status ${invoice.status_id}`, ""];
  const states = [badge(text, kind)];
  if (isZero(invoice.price)) states.push(badge("empty"));
  return element("tr", { "data-key": `invoice ${invoice.id}` },
    numbered(invoice.id, `/crm/invoice/show/${invoice.id}/`),
    cell(invoice.order_topic, "text"),
    cell(money(invoice.price, invoice.currency), "money"),
    cell(badges(...states, paid
      ? element("span", { class: "soft" }, time(invoice.date_payed))
      : closed || isZero(invoice.price) ? null
      : payButton("Customer pays", `invoice ${invoice.id}`, "pay_invoice", { invoice_id: invoice.id }))));
}

function itemRow(item) {
  const list = (lines) => lines.length ? element("ul", {}, ...lines.map((line) => element("li", {}, line))) : element("span", { class: "soft" }, "none");
  return element("tr", { "data-key": `item ${item.id}` },
    numbered(item.id, item.entity_type_id === 31 ? `/crm/type/31/details/${item.id}/` : `/crm/deal/details/${item.id}/`),
    cell(item.title, "text"),
    cell(money(item.opportunity, item.currency), "money"),
    cell(list(item.product_rows.map((row) => `${Number(row.quantity)} × ${row.product_name}, ${money(row.price, "").trim()}`)), "spare"),
    cell(list(item.payments.map((payment) => `#${payment.id} ${payment.paid === "Y" ? "paid" : "unpaid"}`)), "number"));
}

const BAD_EVENTS = /_(deleted|unpaid|canceled|cancelled|declined)$/;

function objectOf(entry) {
  return entry.payment_id ? `payment ${entry.payment_id}`
    : entry.invoice_id ? `invoice ${entry.invoice_id}`
    : entry.entity_id ? `${(OWNERS[entry.entity_type_id] ?? "object").toLowerCase()} ${entry.entity_id}`
    : "";
}

function ledgerRow(entry, index) {
  const kind = entry.event.endsWith("_paid") ? "good" : BAD_EVENTS.test(entry.event) ? "bad" : "";
  const by = entry.by === "customer" ? "customer" : `${entry.by === "rest" ? "REST" : entry.by}${entry.user_id ? `, user ${entry.user_id}` : ""}`;
  return element("tr", { "data-key": `ledger ${index}` },
    cell(time(entry.at), "time"),
    cell([badge(entry.event.replaceAll("_", " "), kind), entry.method ? element("div", { class: "soft" }, method(entry.method)) : ""]),
    cell(objectOf(entry)),
    cell(entry.amount === null || entry.amount === undefined ? "" : money(entry.amount, entry.currency), "money"),
    cell(by, "spare"));
}

const openRequests = new Set();

// What the client got: a status may be on the portal although the connection broke before or in the middle of it.
const BROKEN = { drop: "no response", close_idle: "no response", truncate: "cut off", slow: "slow", hostile: "hostile" };

function responseBadge(request, failed) {
  if (request.inside_batch) return badge(failed ? "error" : "ok", failed ? "bad" : "good");
  if (BROKEN[request.transport]) return badge(BROKEN[request.transport], "bad");
  if (!request.status) return badge("held", "wait");
  return badge(String(request.status), request.status === 200 && !failed ? "good" : "bad");
}

function requestRow(request, index) {
  const params = JSON.stringify(request.params ?? {}, null, 2);
  const failed = request.error !== null && request.error !== undefined;
  const response = [badges(responseBadge(request, failed))];
  if (failed) response.push(element("code", { class: "error" }, request.error === "" ? "(empty code)" : String(request.error)));
  if (request.fault) response.push(element("div", { class: "soft" }, `fault: ${request.fault}`));
  const summary = [method(request.method), request.inside_batch ? element("span", { class: "soft" }, "  in a batch") : null];
  const content = params === "{}" || params === "[]" ? summary : element("details", {
    open: openRequests.has(index) ? "" : null,
    ontoggle: (event) => (event.currentTarget.open ? openRequests.add(index) : openRequests.delete(index)),
  }, element("summary", {}, ...summary.filter(Boolean)), element("pre", {}, params));
  return element("tr", { "data-key": `request ${index}` },
    cell(time(request.at), "time"),
    cell(content),
    cell(request.user_id === null || request.user_id === undefined ? "" : String(request.user_id), "number spare"),
    cell(response));
}

function applicationRow(application) {
  const signIn = `/oauth/authorize/?${new URLSearchParams({ client_id: application.client_id })}`;
  const users = application.users.map((number) => `user ${number}`).join(", ");
  return element("tr", { "data-key": `application ${application.client_id}` },
    cell(element("code", {}, application.client_id), "text"),
    cell(application.scopes.join(", "), "spare"),
    cell(users || element("span", { class: "soft" }, "nobody")),
    cell(String(application.refreshed), "number spare"),
    cell(application.refused ? badge(String(application.refused), "bad") : "0", "number spare"),
    cell(application.installed ? element("a", { href: signIn }, "Sign in") : badge("removed", "bad"), "act number"));
}

// So many rows of each table are shown; the portal may have a hundred thousand.
const SHOWN = 200;
const seen = new Map();

// Replaces the rows of a table only if they changed: focus, selection and opened lines survive otherwise.
function fill(id, rows, total, columns) {
  const body = byId(id);
  const before = seen.get(id);
  const now = new Map(rows.map((row) => [row.dataset.key, row.textContent]));
  byId(`${id}-count`).textContent = total > rows.length ? `${rows.length} of ${total}` : total;
  if (before && before.size === now.size && [...now].every(([key, text]) => before.get(key) === text)) return;
  if (before) for (const row of rows) if (before.get(row.dataset.key) !== row.textContent) row.classList.add("fresh");
  const focused = focusIn(body);
  body.replaceChildren(...(rows.length ? rows : [element("tr", {}, element("td", { class: "empty", colspan: columns }, "Nothing yet."))]));
  if (focused) focusAgain(body, focused);
  seen.set(id, now);
}

// Where the keyboard is: the row and the kind of element, which the new rows have again.
function focusIn(body) {
  const active = document.activeElement;
  return body.contains(active) ? { row: active.closest("tr").dataset.key, tag: active.tagName } : null;
}

function focusAgain(body, focused) {
  const row = [...body.rows].find((each) => each.dataset.key === focused.row);
  (row?.querySelector(focused.tag) ?? row?.querySelector("a, button, summary") ?? body.closest(".scroll")).focus();
}

let told = null;

// Says to people who do not see the page what has been written into the ledger since the last look.
function tell(ledger, total) {
  const news = told === null ? 0 : total - told;
  told = total;
  if (news <= 0) return;
  const last = ledger[ledger.length - 1];
  const amount = last.amount === null || last.amount === undefined ? "" : `, ${money(last.amount, last.currency)}`;
  const more = news > 1 ? ` and ${news - 1} more changes` : "";
  byId("news").replaceChildren(element("span", {}, `${last.event.replaceAll("_", " ")}: ${objectOf(last)}${amount}${more}`));
}

function newestFirst(log, total, make) {
  return log.map((entry, offset) => make(entry, total - log.length + offset)).reverse();
}

function figures(state) {
  const { unpaid_payments: payments, unpaid_invoices: invoices } = state.totals;
  const armed = state.faults.filter((fault) => fault.times === null || fault.hits < fault.times).length;
  const counts = [["unpaid payment", payments], ["unpaid invoice", invoices], ["armed fault", armed]];
  const pairs = [...counts.map(([name, count]) => [count === 1 ? name : `${name}s`, count]), ["portal time", clock(state.time)]];
  byId("figures").replaceChildren(...pairs.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, String(value)))));
}

function show(state) {
  const total = state.totals;
  fill("payments", state.payments.map(paymentRow).reverse(), total.payments, 5);
  fill("invoices", state.invoices.map(invoiceRow), total.invoices, 4);
  fill("deals", state.deals.map(itemRow), total.deals, 5);
  fill("smart_invoices", state.smart_invoices.map(itemRow), total.smart_invoices, 5);
  byId("applications-section").hidden = state.applications.length === 0;
  fill("applications", state.applications.map(applicationRow), state.applications.length, 6);
  fill("ledger", newestFirst(state.ledger, total.ledger, ledgerRow), total.ledger, 5);
  fill("requests", newestFirst(state.requests, total.requests, requestRow), total.requests, 4);
  figures(state);
  tell(state.ledger, total.ledger);
}

function status(kind, text) {
  byId("live").className = `live ${kind}`;
  if (byId("live").textContent !== text) byId("live").textContent = text;
}

async function look() {
  try {
    const response = await fetch(`/_sandbox/state?newest=${SHOWN}`, { cache: "no-store" });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    show(await response.json());
    status("on", "live");
  } catch (error) {
    status("off", error instanceof TypeError ? "sandbox stopped" : String(error.message));
  }
}

let timer = null;

async function tick() {
  timer = null;
  if (document.hidden) return status("", "paused");
  await look();
  if (timer === null) timer = setTimeout(tick, 1000);
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  tick();
});
tick();
