// Asks the service. An answer that is a problem becomes an error whose message is the service's own sentence.

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || "The service answered " + status + ".");
    this.status = status;
    this.type = body.type || "";
  }
}

export async function fetched(path, { method = "GET", body, raw, signal, more } = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      signal,
      headers: { ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...more },
      body: raw ?? (body === undefined ? undefined : JSON.stringify(body)),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "The service cannot be reached. Is `tightfit serve` still running?" });
  }
  if (answer.ok) return answer;
  let told = {};
  try {
    told = await answer.json();
  } catch (unreadable) {} // of a proxy, say
  throw new Problem(answer.status, told);
}

export async function ask(path, options) {
  const answer = await fetched(path, options);
  return answer.status === 204 ? null : answer.json();
}

export const askText = async (path, options) => (await fetched(path, options)).text();
// Hears the events of a stream until `signal` aborts; begins again behind the last event heard where it breaks off.
export async function listen(path, signal, heard) {
  let last = null;
  for (let wait = 500; !signal.aborted; wait = Math.min(15000, wait * 2)) {
    try {
      const answer = await fetched(path, { signal, more: { Accept: "text/event-stream", ...(last === null ? {} : { "Last-Event-ID": last }) } });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        wait = 500;
        const blocks = (rest + part.value).split(/\r?\n\r?\n/);
        rest = blocks.pop();
        for (const block of blocks) {
          const found = { event: "message", data: "" };
          for (const line of block.split(/\r?\n/)) {
            const [, name, value] = line.match(/^(\w+): ?(.*)$/) || [];
            if (name === "data") found.data += value;
            else if (name === "id") last = value;
            else if (name) found[name] = value;
          }
          if (found.data) heard(found);
        }
      }
    } catch (error) {
      if (signal.aborted || (error.status >= 400 && error.status < 500)) return;
    }
    await new Promise((done) => setTimeout(done, wait));
  }
}
