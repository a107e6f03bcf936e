// Elements are built from text alone: nothing that comes from outside is ever read as markup.

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (value === true) element.setAttribute(name, "");
    else element.setAttribute(name, String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function sizeText(bytes) {
  if (bytes === null || bytes === undefined) return "";
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (bytes < 1024 || unit === "TiB") return unit === "B" ? bytes + " B" : bytes.toFixed(2) + " " + unit;
    bytes /= 1024;
  }
}

export function klText(value) {
  if (value === null || value === undefined) return "";
  return value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(2) : String(Number(value.toPrecision(3)));
}

export function timeText(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 90) return Math.round(seconds) + " s";
  if (seconds < 5400) return Math.round(seconds / 60) + " min";
  return (seconds / 3600).toFixed(1) + " h";
}

// of a folder its last part, as the command line says it
export const modelName = (model) => (/^([/~]|\.\.?\/)/.test(model) ? model.split("/").filter(Boolean).pop() : model);

export function problemBox(error) {
  return make("p", { class: "notice", role: "alert" }, error.message || String(error));
}

// Puts a row for each value into `body`, in their order; rows that are there are kept, so that focus is, too.
export function keyed(body, values, keyOf, fill) {
  const old = new Map([...body.children].map((row) => [row.dataset.key, row]));
  values.forEach((value, index) => {
    const key = keyOf(value);
    const row = old.get(key) || make("tr", { "data-key": key });
    old.delete(key);
    fill(row, value);
    if (body.children[index] !== row) body.insertBefore(row, body.children[index] || null);
  });
  for (const row of old.values()) row.remove();
}
