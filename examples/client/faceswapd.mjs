// The service from JavaScript: Node 18 or newer, and browsers. No package. `photo` is a Blob (a File is one).
// A page of another site than the service needs the service's leave (CORS), and its operator's key stays no secret there.

export class Problem extends Error {
  constructor(problem, status) {
    super(problem.detail ?? `status ${status}`);
    this.slug = (problem.type ?? "").split("/").pop(); // "no-face": decide by this
    this.status = status;
    this.requestId = problem.request_id;
  }
}

// The swapped face as a Blob; with { output: "photo", format: "jpeg" } the whole photo.
export async function swap(base, photo, target, wishes = {}, key) {
  const query = new URLSearchParams({ target, ...wishes });
  const headers = { "Content-Type": "application/octet-stream" };
  const answer = await ask(`${base}/swap?${query}`, { method: "POST", headers, body: photo }, key);
  return answer.blob();
}

// Many photos: `for await (const result of batch(...))`, each as it is done: { image, target, picture } or { ..., problem }.
export async function* batch(base, photos, targets, wishes = {}, key) {
  const form = new FormData();
  for (const photo of photos) form.append("image", photo);
  const query = new URLSearchParams({ target: targets.join(","), ...wishes });
  const headers = { Accept: "application/x-ndjson" };
  const answer = await ask(`${base}/swap/batch?${query}`, { method: "POST", headers, body: form }, key);
  let rest = "";
  for await (const text of pieces(answer.body.pipeThrough(new TextDecoderStream()))) {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const result of lines.map((line) => JSON.parse(line))) {
      if (result.summary) return;
      if (result.problem) yield { ...result, problem: new Problem(result.problem, result.status) };
      else yield { ...result, picture: await (await fetch(`data:${result.media_type};base64,${result.data}`)).blob() };
    }
  }
  throw new Error("the answer breaks off");
}

// Asks again where the service is full, when it says so.
async function ask(url, options, key, tries = 5) {
  if (key) options.headers.Authorization = `Bearer ${key}`;
  for (let made = 1; ; made++) {
    const answer = await fetch(url, options);
    if (answer.ok) return answer;
    const seconds = Number(answer.headers.get("Retry-After") ?? 0.25 * 2 ** made);
    if (![429, 503, 504].includes(answer.status) || made === tries || !(seconds <= 10)) throw await problemOf(answer);
    await new Promise((later) => setTimeout(later, seconds * 1000));
  }
}

async function problemOf(answer) {
  const ours = answer.headers.get("Content-Type")?.startsWith("application/problem+json");
  return new Problem(ours ? await answer.json() : {}, answer.status);
}

// Not every browser lets a stream be iterated over.
async function* pieces(stream) {
  const reader = stream.getReader();
  try {
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) yield piece.value;
  } finally {
    await reader.cancel(); // stops the rest where the caller has left
  }
}
