"use strict";
// Draws a report inside `root` (the page itself, or an element that holds its markup). `place` knows which point the
// address names and is told which one is selected. Returns how to select a point by its name.
function showReport(root, data, place) {
  const byId = (id) => root.querySelector("#" + id);
  const points = data.points.slice().sort((a, b) => a.size - b.size);
  let selected = Math.max(0, points.findIndex((p) => p.best));
  let axis = "bits";

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }
  function size(bytes) {
    for (const unit of ["B", "KiB", "MiB", "GiB"]) {
      if (bytes < 1024) return unit === "B" ? bytes + " B" : bytes.toFixed(2) + " " + unit;
      bytes /= 1024;
    }
    return bytes.toFixed(2) + " TiB";
  }
  const number = (value) => (value === null ? "not finite" : value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(2) : String(Number(value.toPrecision(3))));

  // level = [text, bits, group size, sparsity, rank]
  const axes = {
    bits: { title: "Bits", note: "Bits per weight; 16 is a module left dense.", value: (v) => v[1], text: (v) => String(v[1]) },
    group: { title: "Group size", note: "Columns that share one scale: fewer is finer and costs more bytes; ch is one scale per channel.", value: (v) => (v[2] === "dense" ? null : v[2] === "ch" ? 0 : 1 / v[2]), text: (v) => (v[2] === "dense" ? "–" : String(v[2])) },
    sparsity: { title: "Sparsity", note: "Share of weights that are zero and not stored.", value: (v) => v[3], text: (v) => (v[3] ? Math.round(100 * v[3]) + "%" : "0"), range: [0, 0.8] },
    rank: { title: "Rank", note: "Rank of the low-rank correction added to the quantized weight.", value: (v) => v[4], text: (v) => String(v[4]) },
  };

  function figure(list, name, value, small) {
    const group = make("div");
    const shown = make("dd", "", value);
    if (small) shown.append(make("small", "", small));
    group.append(make("dt", "", name), shown);
    list.append(group);
  }
  const percent = (share) => Math.round(100 * share) + "%";
  function showFigures(point) {
    const list = byId("figures");
    list.replaceChildren();
    const share = Math.round((100 * point.size) / data.dense.size);
    figure(list, "Size", size(point.size), share + "% of dense");
    figure(list, "KL divergence", number(point.kl), "95% interval " + number(point.ci[0]) + " to " + number(point.ci[1]));
    if (data.beside !== null) figure(list, data.beside[0].toUpperCase() + data.beside.slice(1), point.perplexity === null ? "not finite" : point.perplexity.toFixed(2), data.dense.perplexity === null ? "" : "dense " + data.dense.perplexity.toFixed(2));
    if (point.own !== null) {
      const own = point.own, questions = "your " + own.num_questions + " questions, ";
      figure(list, "Agrees with dense", percent(own.agreement), questions + "95% interval " + own.agreement_ci95.map(percent).join(" to "));
      figure(list, "Answers right", percent(own.accuracy), "dense " + percent(data.dense.own.accuracy) + ", 95% interval " + own.accuracy_ci95.map(percent).join(" to "));
    }
    figure(list, "Bits per weight", point.bits === null ? "not finite" : point.bits.toFixed(2), "");
  }
  function showBytes(point) {
    const bar = byId("bar"), parts = byId("parts");
    bar.replaceChildren();
    parts.replaceChildren();
    const sizes = point.bytes || [];
    const total = sizes.reduce((sum, value) => sum + value, 0);
    sizes.forEach((bytes, index) => {
      if (!bytes) return;
      const share = (100 * bytes) / total, color = "var(--c" + index + ")";
      const name = data.categories[index];
      const piece = make("i");
      piece.style.cssText = "flex:" + share + " 0 0;background:" + color;
      piece.title = name + ": " + size(bytes);
      bar.append(piece);
      const item = make("li"), mark = make("i");
      mark.style.background = color;
      item.append(mark, name + " ", make("b", "", size(bytes)), " " + (share < 0.1 ? "<0.1" : share.toFixed(1)) + "%");
      parts.append(item);
    });
    bar.setAttribute("aria-label", "Size by part: " + parts.textContent);
  }

  const bounds = {};
  for (const name of Object.keys(axes)) {
    const values = data.levels.map(axes[name].value).filter((v) => v !== null);
    const fixed = axes[name].range;
    bounds[name] = fixed || [0, Math.max(...values, 1e-9)];
  }
  const quantized = data.levels.map(axes.bits.value).filter((bits) => bits < 16);
  if (quantized.length) bounds.bits = [Math.min(...quantized) - 0.5, Math.max(Math.min(...quantized) + 3, ...quantized)];

  function cell(point, index, span) {
    const shown = make("td");
    if (index === undefined) {
      shown.className = "none";
      return shown;
    }
    const told = data.cells[index], level = data.levels[point.map[index]], value = axes[axis].value(level);
    const [low, high] = bounds[axis];
    const share = value === null ? 0 : Math.min(1, Math.max(0, (value - low) / (high - low)));
    shown.style.setProperty("--v", share.toFixed(3));
    if (share > 0.5) shown.classList.add("deep");
    shown.textContent = axes[axis].text(level);
    shown.title = told.name + "\n" + level[0] + "\n" + told.shape;
    if (span > 1) shown.colSpan = span;
    return shown;
  }
  function rows() {
    const found = new Map();
    data.cells.forEach((told, index) => {
      const key = told.block === null ? "-" + told.column : String(told.block);
      if (!found.has(key)) found.set(key, { block: told.block, name: told.column, cells: {} });
      found.get(key).cells[told.column] = index;
    });
    return [...found.values()];
  }
  const allRows = rows();
  const stems = data.columns.map((name) => name.replace(/_proj$/, ""));
  const short = (name) => (new Set(stems).size < stems.length ? name : name.replace(/_proj$/, ""));
  function showMap(point) {
    const table = byId("map");
    table.replaceChildren();
    byId("map-note").textContent = point.map ? axes[axis].note : "This report keeps no map of this point; its plan is exported in full.";
    if (!point.map) return;
    const columns = make("colgroup");
    columns.append(make("col", "names"));
    data.columns.forEach(() => columns.append(make("col")));
    const head = make("thead"), names = make("tr");
    names.append(make("th"));
    for (const name of data.columns) {
      const title = make("th", "", short(name));
      title.scope = "col";
      title.title = name;
      names.append(title);
    }
    head.append(names);
    const body = make("tbody");
    for (const row of allRows) {
      const line = make("tr");
      const last = row.name.slice(row.name.lastIndexOf(".") + 1);
      const title = make("th", "", row.block === null ? last : "block " + row.block);
      title.scope = "row";
      title.title = row.block === null ? row.name : title.textContent;
      line.append(title);
      if (row.block === null) line.append(cell(point, row.cells[row.name], data.columns.length));
      else for (const name of data.columns) line.append(cell(point, row.cells[name], 1));
      body.append(line);
    }
    table.append(columns, ...(data.columns.length ? [head] : []), body);
  }

  // row = [module, level, share, bytes, up level, up bytes, up KL, down level, down bytes, down KL]
  const why = data.why;
  const rate = (row, at, going) => (row[at] && going ? -row[at + 2] / row[at + 1] / going : null);
  const bytesText = (value) => (value > 0 ? "+" : "") + value.toLocaleString("en-US");
  const move = (row, at) => (row[at] ? why.levels[row[at]] + " " + bytesText(row[at + 1]) + "\u00a0B,\u00a0" + (row[at + 2] > 0 ? "+" : "") + number(row[at + 2]) : "");
  const times = (value) => (value === null ? "" : value <= 0 ? "free" : (value >= 10 ? Math.round(value).toLocaleString("en-US") : number(Number(value.toPrecision(2)))) + "×");
  const reasons = [
    { title: "Module", value: (row) => why.modules[row[0]][0].replace(/^model\./, "") },
    { title: "Level", value: (row) => why.levels[row[1]] },
    { title: "Share of KL", value: (row) => row[2], text: (row) => (100 * row[2]).toFixed(1) + "%" },
    { title: "Bytes", value: (row) => row[3], text: (row) => row[3].toLocaleString("en-US") },
    { title: "Saved", value: (row) => why.modules[row[0]][1] - row[3], text: (row) => (why.modules[row[0]][1] - row[3]).toLocaleString("en-US") },
    { title: "Next down", value: (row) => row[9], text: (row) => move(row, 7) },
    { title: "costs", value: (row, going) => rate(row, 7, going), text: (row, going) => times(rate(row, 7, going)), against: (value) => value < 1 },
    { title: "Next up", value: (row) => row[6], text: (row) => move(row, 4) },
    { title: "gains", value: (row, going) => rate(row, 4, going), text: (row, going) => times(rate(row, 4, going)), against: (value) => value > 1 },
  ];
  let order = { column: 2, down: true };
  function sortable(point, column, index) {
    const title = make("th", index > 3 ? "more" : ""), button = make("button", "", column.title);
    title.scope = "col";
    if (order.column === index) title.setAttribute("aria-sort", order.down ? "descending" : "ascending");
    button.type = "button";
    button.addEventListener("click", () => {
      order = { column: index, down: order.column === index ? !order.down : index > 1 };
      showReasons(point);
      byId("reasons").querySelectorAll("thead button")[index].focus();
    });
    title.append(button);
    return title;
  }
  function showReasons(point) {
    const found = why.points[point.id], table = byId("reasons");
    byId("why").hidden = !Object.keys(why.points).length;
    table.replaceChildren();
    if (!found) return void (byId("why-note").textContent = "This report keeps no reasons of this point; tightfit explain tells them.");
    const hundredth = Number((0.01 * point.size).toPrecision(1));
    byId("why-note").textContent =
      "Predicted by the search’s additive model, scaled to the measured KL divergence (it says " + number(found.predicted) + "). " +
      "The going rate at this size: " + hundredth.toLocaleString("en-US") + " bytes are worth " + number(found.rate * hundredth) + " KL. " +
      "A level is right where going down costs more than the going rate (above 1×) and going up gains less (below 1×)." +
      (found.left_out ? " The " + found.left_out + " modules with the smallest shares are left out." : "");
    const value = (row) => reasons[order.column].value(row, found.rate);
    const sorted = found.rows.slice().sort((a, b) => {
      const x = value(a), y = value(b);
      const less = x === null ? -1 : y === null ? 1 : x < y ? -1 : x > y ? 1 : 0;
      return order.down ? -less : less;
    });
    const head = make("thead"), titles = make("tr"), body = make("tbody");
    reasons.forEach((column, index) => titles.append(sortable(point, column, index)));
    head.append(titles);
    for (const row of sorted) {
      const line = make("tr");
      reasons.forEach((column, index) => {
        const cell = make(index ? "td" : "th", index > 3 ? "more" : "", column.text ? column.text(row, found.rate) : column.value(row));
        if (!index) cell.scope = "row";
        if (column.title.startsWith("Next")) cell.classList.add("move");
        const seen = column.against && column.value(row, found.rate);
        if (column.against && seen !== null && column.against(seen)) cell.classList.add("against");
        line.append(cell);
      });
      body.append(line);
    }
    table.append(head, body);
  }

  function show() {
    const point = points[selected];
    byId("detail-title").textContent = "Plan " + point.id + (point.best ? " (recommended)" : "");
    byId("smaller").disabled = selected === 0;
    byId("larger").disabled = selected === points.length - 1;
    byId("detail-command").textContent = point.command;
    byId("detail-copy").dataset.copy = point.command;
    showFigures(point);
    showBytes(point);
    showMap(point);
    showReasons(point);
    tools.show(point);
    for (const mark of root.querySelectorAll("[data-point]")) {
      const on = mark.dataset.point === point.id;
      mark.classList.toggle("on", on);
      if (mark.getAttribute("role") === "button") mark.setAttribute("aria-pressed", String(on));
    }
  }
  function select(index) {
    if (index < 0 || index >= points.length || index === selected) return;
    selected = index;
    show();
    place.set(points[index].id);
  }

  function reveal() {
    const top = byId("detail").getBoundingClientRect().top;
    if (top < 0 || top > 0.7 * innerHeight) byId("detail").scrollIntoView();
  }

  const named = () => points.findIndex((p) => p.id === place.named());
  function open(index) {
    if (index < 0) return;
    select(index);
    reveal();
  }

  async function copy(button) {
    const text = button.dataset.copy;
    let done = false;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch (refused) {
      const area = make("textarea");
      area.value = text;
      area.style.cssText = "position:fixed;opacity:0";
      document.body.append(area);
      area.select();
      done = document.execCommand("copy");
      area.remove();
      button.focus();
    }
    const label = button.dataset.label || button.textContent;
    button.dataset.label = label;
    button.textContent = done ? "Copied" : "Not allowed here";
    setTimeout(() => (button.textContent = label), 1600);
  }

  root.addEventListener("click", (event) => {
    const button = event.target.closest(".copy");
    if (button) return void copy(button);
    const mark = event.target.closest("[data-point]");
    if (!mark) return;
    select(points.findIndex((p) => p.id === mark.dataset.point));
    if (mark.closest("table")) reveal();
  });
  root.addEventListener("keydown", (event) => {
    const mark = event.target.closest("g[data-point]");
    if (!mark) return;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 }[event.key] || 0;
    if (!step && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    const from = points.findIndex((p) => p.id === mark.dataset.point);
    const to = Math.min(points.length - 1, Math.max(0, from + step));
    select(to);
    for (const other of mark.ownerSVGElement.querySelectorAll("[data-point]")) if (other.dataset.point === points[to].id) other.focus();
  });
  byId("smaller").addEventListener("click", () => select(selected - 1));
  byId("larger").addEventListener("click", () => select(selected + 1));

  if (!points.length) return null;
  for (const name of Object.keys(axes)) {
    const button = make("button", "", axes[name].title);
    button.type = "button";
    button.setAttribute("aria-pressed", String(name === axis));
    button.addEventListener("click", () => {
      axis = name;
      for (const other of byId("switch").children) other.setAttribute("aria-pressed", String(other === button));
      showMap(points[selected]);
    });
    byId("switch").append(button);
  }
  byId("detail").hidden = false;
  const tools = reportTools(root, data, { make, size, number, points, select, current: () => points[selected] });
  show();
  place.listen(() => open(named()));
  open(named());
  return { select: (id) => select(points.findIndex((p) => p.id === id)), current: () => points[selected] };
}

// report.html#p7 opens p7; MLflow's frame sees only its page's address, report?point=p7
function reportPlace() {
  return {
    named() {
      try {
        const own = location.hash.slice(1);
        return decodeURIComponent(own || new URL(document.referrer).searchParams.get("point") || "");
      } catch (unreadable) {
        return "";
      }
    },
    set(id) {
      try {
        history.replaceState(null, "", "#" + encodeURIComponent(id));
      } catch (refused) {} // a page in a frame of another origin has no address of its own
    },
    listen: (heard) => addEventListener("hashchange", heard),
  };
}

if (document.getElementById("data")) {
  if (window.self !== window.top) document.getElementById("elsewhere").hidden = true; // in MLflow, whose frames open no links
  showReport(document, JSON.parse(document.getElementById("data").textContent), reportPlace());
}
