// Asks the service. An answer that is a problem becomes an error whose message is the service's own sentence.

const STORED = "tightfit-token";

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || "The service answered " + status + ".");
    this.status = status;
    this.type = body.type || "";
  }
}

export const hasToken = () => sessionStorage.getItem(STORED) !== null;
export function keepToken(token) {
  if (token) sessionStorage.setItem(STORED, token);
  else sessionStorage.removeItem(STORED);
}

function headers(more) {
  const token = sessionStorage.getItem(STORED);
  return { ...(token ? { Authorization: "Bearer " + token } : {}), ...more };
}

export async function fetched(path, { method = "GET", body, signal, more } = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      signal,
      headers: headers({ ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...more }),
      body: body === undefined ? undefined : JSON.stringify(body),
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
