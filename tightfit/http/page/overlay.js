// Fronts of other jobs on the same model, drawn into the chart of this one.

import { ask } from "./api.js";
import { klText, make, sizeText } from "./dom.js";

const NS = "http://www.w3.org/2000/svg";
const COLORS = ["var(--c2)", "var(--c3)", "var(--c4)", "var(--c6)"];

function svg(tag, attributes) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// Returns (bytes, KL) -> pixels of a chart, from two of its own marks; null where they lie on one line.
function scaleOf(chart, data) {
  const marks = data.points
    .filter((p) => p.kl > 0)
    .map((p) => [p, chart.querySelector('g[data-point="' + CSS.escape(p.id) + '"] .dot')])
    .filter(([, dot]) => dot)
    .map(([p, dot]) => ({ size: p.size, log: Math.log10(p.kl), x: Number(dot.getAttribute("cx")), y: Number(dot.getAttribute("cy")) }));
  if (marks.length < 2) return null;
  const [a, b] = [marks.reduce((u, v) => (v.size < u.size ? v : u)), marks.reduce((u, v) => (v.size > u.size ? v : u))];
  if (a.size === b.size || a.log === b.log) return null;
  return (size, kl) => [a.x + ((size - a.size) / (b.size - a.size)) * (b.x - a.x), a.y + ((Math.log10(kl) - a.log) / (b.log - a.log)) * (b.y - a.y)];
}

function draw(chart, data, front, color) {
  const scale = scaleOf(chart, data);
  if (!scale) return;
  const [, , width, height] = chart.getAttribute("viewBox").split(" ").map(Number);
  const inside = front.front
    .filter((p) => p.kl_divergence > 0)
    .map((p) => [p, ...scale(p.size_bytes, p.kl_divergence)])
    .filter(([, x, y]) => x >= 58 && x <= width - 18 && y >= 30 && y <= height - 46)
    .sort((a, b) => a[1] - b[1]);
  const group = svg("g", { class: "other-front", stroke: color, fill: color });
  if (inside.length > 1) group.append(svg("polyline", { points: inside.map(([, x, y]) => x.toFixed(1) + "," + y.toFixed(1)).join(" "), fill: "none", "stroke-width": 1.3, opacity: 0.6 }));
  for (const [point, x, y] of inside) {
    const dot = svg("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: 3, stroke: "none" }), title = svg("title", {});
    title.textContent = front.job + " " + point.point + ": " + sizeText(point.size_bytes) + ", KL " + klText(point.kl_divergence);
    dot.append(title);
    group.append(dot);
  }
  chart.querySelector(".front-line, g[data-point]").before(group);
}

export function overlayPanel(job, signal) {
  const shown = new Map(); // job -> front
  let others = null, root = null, data = null;
  const panel = make("fieldset", { class: "others", hidden: true }, make("legend", {}, "Other jobs on this model"));
  function redraw() {
    for (const old of root.querySelectorAll(".other-front")) old.remove();
    for (const [id, front] of shown) for (const chart of root.querySelectorAll(".seen .chart")) draw(chart, data, front, colorOf(id));
  }
  const colorOf = (id) => COLORS[others.findIndex((o) => o.job === id) % COLORS.length];
  async function toggle(id, box) {
    if (box.checked) shown.set(id, await ask("/v1/jobs/" + encodeURIComponent(id) + "/front", { signal }));
    else shown.delete(id);
    redraw();
  }
  async function load() {
    const found = await ask("/v1/jobs?" + new URLSearchParams({ model: job.model, limit: "20" }), { signal });
    others = found.jobs.filter((o) => o.job !== job.job && o.model === job.model && o.num_points > 0);
    for (const other of others) {
      const box = make("input", { type: "checkbox", onchange: () => toggle(other.job, box) });
      const mark = make("i");
      mark.style.background = colorOf(other.job);
      panel.append(make("label", {}, box, mark, other.job + " (" + other.budget + ")"));
    }
    panel.hidden = !others.length;
  }
  return {
    into(element, fresh) {
      root = element;
      data = fresh;
      root.querySelector(".what-if").before(panel);
      if (others === null) load().catch(() => {}); // without others the page is whole
      else redraw();
    },
  };
}
