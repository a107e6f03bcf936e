"use strict";
// What a reader tries on a report: another budget with another key/value cache, and two points beside each other.
function reportTools(root, data, { make, size, number, points, select, current }) {
  const byId = (id) => root.querySelector("#" + id);
  const STEPS = 1000;

  // cache = [[layers, bytes of a token, most tokens or null, bytes of the state], ...]
  function cacheBytes(context, batch) {
    if (!data.cache || !context) return 0;
    return batch * data.cache.reduce((sum, [layers, token, most, state]) => sum + layers * (state + token * Math.min(context, most === null ? context : most)), 0);
  }
  // and a point may choose its own: `token` is what its keys and values take of each token of each sequence.
  const ofPoint = (point, context, batch) => cacheBytes(context, batch) + point.token * context * batch;
  const whole = (id, least) => Math.max(least, Math.floor(Number(byId(id).value)) || 0);
  const asked = (point) => ofPoint(point, data.context, data.batch);
  const cacheNow = (point) => (data.cache ? ofPoint(point, whole("what-context", 0), whole("what-batch", 1)) : asked(point));
  const deployed = (point) => point.size - asked(point) + cacheNow(point);
  function bounds() {
    const sizes = points.map(deployed), room = 0.04 * (Math.max(...sizes) - Math.min(...sizes)) || 1;
    return [Math.min(...sizes) - room, Math.max(Math.max(...sizes), data.budget) + room];
  }
  function budgetNow() {
    const [low, high] = bounds();
    return Math.round(low + (Number(byId("what-budget").value) / STEPS) * (high - low));
  }
  function setBudget(bytes) {
    const [low, high] = bounds();
    byId("what-budget").value = String(Math.min(STEPS, Math.max(0, Math.ceil(((bytes - low) / (high - low)) * STEPS))));
  }
  function tell(isChoosing) {
    const budget = budgetNow(), ofCache = (point) => (cacheNow(point) ? ", " + size(cacheNow(point)) + " of it cache" : "");
    const inside = points.filter((p) => deployed(p) <= budget && p.kl !== null);
    byId("what-size").textContent = size(budget);
    byId("what-budget").setAttribute("aria-valuetext", size(budget));
    const told = byId("what-told");
    if (!inside.length) {
      const least = points.reduce((a, b) => (deployed(b) < deployed(a) ? b : a));
      told.textContent = "No point fits; the smallest takes " + size(deployed(least)) + ofCache(least) + ".";
      return;
    }
    const best = inside.reduce((a, b) => (b.kl < a.kl ? b : a));
    const next = points.filter((p) => deployed(p) > budget && p.kl !== null && p.kl < best.kl)[0];
    told.textContent =
      best.id + " takes " + size(deployed(best)) + ofCache(best) + ", at a KL divergence of " + number(best.kl) + "." +
      (next ? " " + size(deployed(next) - budget) + " more would bring " + number(next.kl) + " (" + next.id + ")." : "");
    if (isChoosing) select(points.indexOf(best));
  }

  function options() {
    const chosen = byId("compare"), before = chosen.value;
    chosen.replaceChildren(new Option("nothing", ""));
    for (const point of points) if (point !== current() && point.map) chosen.append(new Option(point.id + " (" + size(point.size) + ", KL " + number(point.kl) + ")", point.id));
    chosen.value = [...chosen.options].some((o) => o.value === before) ? before : "";
  }
  function row(tag, cells) {
    const line = make("tr");
    cells.forEach((text, index) => {
      const cell = make(tag === "th" || !index ? "th" : "td", "", text);
      cell.scope = tag === "th" ? "col" : "row";
      line.append(cell);
    });
    return line;
  }
  function compare() {
    const here = current(), there = points.find((p) => p.id === byId("compare").value);
    const table = byId("differences"), note = byId("compare-note");
    table.replaceChildren();
    table.parentElement.hidden = !there;
    note.textContent = "";
    if (!there) return;
    if (!here.map) return void (note.textContent = "This report keeps no map of " + here.id + ".");
    const differing = data.cells.map((cell, index) => [cell, data.levels[here.map[index]], data.levels[there.map[index]]]).filter(([, a, b]) => a[0] !== b[0]);
    const change = (a, b) => (a === null || b === null ? "" : " (" + (100 * (b / a - 1) >= 0 ? "+" : "") + (100 * (b / a - 1)).toFixed(1) + "%)");
    note.textContent =
      there.id + " against " + here.id + ": " + size(there.size) + change(here.size, there.size) + ", KL divergence " + number(there.kl) + change(here.kl, there.kl) + ". " +
      (differing.length === data.cells.length ? "All" : differing.length + " of " + data.cells.length) + " modules have other levels.";
    const head = make("thead"), body = make("tbody");
    head.append(row("th", ["Module", here.id, there.id]));
    for (const [cell, a, b] of differing) body.append(row("td", [cell.name.replace(/^model\./, ""), a[0], b[0]]));
    if (differing.length) table.append(head, body);
  }

  byId("what-if").hidden = false;
  byId("what-cache").hidden = !data.cache;
  byId("what-context").value = data.context;
  byId("what-batch").value = data.batch;
  setBudget(data.budget);
  byId("what-budget").addEventListener("input", () => tell(true));
  for (const id of ["what-context", "what-batch"]) {
    byId(id).addEventListener("change", () => {
      setBudget(data.budget);
      tell(true);
    });
  }
  byId("compare").addEventListener("change", compare);
  return {
    show() {
      options();
      compare();
      tell(false);
    },
  };
}
